"""Weight and thresholds from healthy people alone (method: paper sections 2.2.2 and 2.2.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from lesioncore.calibration.measure import healthy_scores
from lesioncore.calibration.record import Calibration
from lesioncore.choices import check_seed
from lesioncore.data.stack import SliceStack
from lesioncore.engine.device import resolve_device
from lesioncore.models.prior import metadata_of
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.healthy_scans import healthy_scans
from lesioncore.restoration.run import Run
from lesioncore.restoration.search import Criterion, choose, evenly_spaced, search
from lesioncore.restoration.solve import solve_stacks
from lesioncore.restoration.volumes import Volume
from lesioncore.solvers import Solution
from lesioncore.torch_modes import own_modes

DEFAULT_WEIGHTS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Weights lambda tried when none are given."""


@own_modes()
def calibrate(
    prior: Any,
    healthy: Sequence[Volume | SliceStack],
    *,
    config: RestoreConfig | None = None,
    masks: Sequence[Volume] | None = None,
    tv_weights: Sequence[float] = DEFAULT_WEIGHTS,
    criterion: Criterion | None = None,
    search_scans: int = 20,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Find a prior's data-consistency weight and thresholds on healthy scans.

    Parameters
    ----------
    prior : Prior
        The prior to calibrate.
    healthy : sequence of volumes
        Scans of healthy people that the prior was not trained on; kinds as for ``restore``, or
        prepared already.
    config : RestoreConfig, optional
        Solver and objective that the calibration is for. What it gives of ``tv_weight`` and ``smoothing`` is taken, and
        the search is for the rest. Thresholds are found for each `sign`, with and without `asymmetry`; a spread map is
        made where all scans are registered and scores standardized, unless it says otherwise.
    masks : sequence of volumes, optional
        Brain masks; derived when absent.
    tv_weights : sequence of float
        Weights to try, ascending.
    criterion : {"implant", "change"}, optional
        ``"change"`` is the paper's (Eq. 7): the smallest weight whose mean change of healthy images is within 1 % of
        the least, and no smoothing. It has an interior minimum with the paper's solver alone; an exact solver changes
        ever less as the weight grows. ``"implant"`` takes the weight and the smoothing that best find random anomalies
        implanted into the healthy images (:func:`lesioncore.restoration.implant.implant_anomalies`), by the AUC of all
        pixels. Default: ``"change"`` for the paper solver, else ``"implant"``.
    search_scans : int
        How many of the healthy scans the search takes, evenly spread; the thresholds take all. ``"change"``, whose
        solver takes hundreds of steps, takes 64 slices of them where the solver treats each alone.
    seed : int
        Of the implanted anomalies.
    device : str or torch.device
        As for ``restore``.
    progress : callable, optional
        Called as ``progress(done, all)`` after each weight, and once more after the thresholds.

    Returns
    -------
    Calibration
        Attach with ``prior.metadata = prior.metadata.with_calibration(calibration)``.

    Raises
    ------
    ValueError
        If there are no healthy scans, one cannot be used, two are the same, or one is of another contrast by its
        intensities and its name tells none; `search_scans` is not positive, the weights are not ascending numbers >= 0,
        the seed is out of range, or `config` asks for a spread map of scans that are not registered.
    """
    check_seed(seed)
    given = config or RestoreConfig()
    config = given.for_prior(prior)
    weights = [float(weight) for weight in tv_weights]
    if not weights or weights != sorted(set(weights)) or not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(f"tv_weights: got {list(tv_weights)}, expected ascending finite numbers >= 0")
    if criterion not in (None, "implant", "change"):
        raise ValueError(f"criterion: got {criterion!r}, expected 'implant' or 'change'")
    if search_scans < 1:
        raise ValueError(f"search_scans: got {search_scans}, expected at least 1")
    criterion = criterion or ("change" if config.solver_name == "paper" else "implant")
    metadata, target = metadata_of(prior), resolve_device(device)  # errors come before scans are read
    scans = list(healthy_scans(healthy, metadata, masks=masks, normalized=config.normalized, steps=config.preprocess))
    if all(scan.voxel_size is None for scan in scans):  # slices without geometry have no neighbours
        config = replace(
            config,
            tv_dimensions=given.tv_dimensions or 2,
            smoothing=given.smoothing or 0.0,
            standardize=bool(given.standardize),
        )
    if given.spread_map is None:
        config = replace(config, spread_map=bool(config.standardize) and all(scan.registered for scan in scans))
    curve: list[dict[str, float]] = []
    tv_weight, smoothing = config.tv_weight, config.smoothing
    tried = weights if tv_weight is None else [tv_weight]
    searching = tv_weight is None or smoothing is None
    rounds = len(tried) * searching + 1
    run = Run.of(prior, config, target, tv_weight=tried[0])
    noise_seed = seed if config.latent == "sample" else None

    def solve(stacks: Sequence[SliceStack], *, tv_weight: float) -> list[Solution]:
        return solve_stacks(stacks, prior, replace(run, tv_weight=tv_weight), seed=noise_seed)

    if searching:
        curve = search(
            solve,
            evenly_spaced([scan for scan in scans if scan.brain_rows.any()], search_scans),
            tried,
            criterion=criterion,
            coupled=config.tv_dimensions == 3,
            scoring=run.scoring,
            smoothings=None if smoothing is None else (smoothing,),
            seed=seed,
            progress=None if progress is None else lambda done: progress(done, rounds),
        )
        best = choose(curve, criterion)
        tv_weight, smoothing = best["tv_weight"], best["smoothing"]
    assert tv_weight is not None
    assert smoothing is not None
    solutions = solve(scans, tv_weight=tv_weight)
    residuals = [scan.slices - solution.restored for scan, solution in zip(scans, solutions, strict=True)]
    scoring = replace(run.scoring, smoothing=smoothing)
    scores, spread_map = healthy_scores(residuals, scans, scoring)
    if progress is not None:
        progress(rounds, rounds)
    return Calibration(
        settings=config.settings(),
        tv_weight=tv_weight,
        healthy=scores.pop((scoring.sign, scoring.asymmetry)),
        others=scores,
        spread_map=spread_map,
        smoothing=smoothing,
        curve=tuple(curve),
        criterion=criterion if searching else "given",
    )
