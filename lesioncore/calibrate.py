"""Weight and thresholds from healthy people alone (method: paper sections 2.2.2 and 2.2.3)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lesioncore.calibration import Calibration
from lesioncore.config import RestoreConfig
from lesioncore.healthy import HealthyScores, merged
from lesioncore.implant import implant_anomalies
from lesioncore.metrics import ScoreHistogram
from lesioncore.priors.base import metadata_of
from lesioncore.restore import resolve_device, solve_stacks
from lesioncore.scan import SliceStack, Volume, prepare
from lesioncore.solvers import Solution

DEFAULT_WEIGHTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Weights lambda tried when none are given."""


def calibrate(
    prior: Any,
    healthy: Sequence[Volume | SliceStack],
    *,
    config: RestoreConfig | None = None,
    masks: Sequence[Volume] | None = None,
    tv_weights: Sequence[float] = DEFAULT_WEIGHTS,
    criterion: Literal["implant", "change"] | None = None,
    search_slices: int = 64,
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
        Skull-stripped scans of healthy people that the prior was not trained on; kinds as for ``restore``, or
        prepared already.
    config : RestoreConfig, optional
        Solver and objective that the calibration is for. If its ``tv_weight`` is set, the search is skipped.
    masks : sequence of volumes, optional
        Brain masks; derived when absent.
    tv_weights : sequence of float
        Weights to try, ascending.
    criterion : {"implant", "change"}, optional
        ``"change"`` is the paper's (Eq. 7): the smallest weight whose mean change of healthy images is within 1 % of
        the least. It has an interior minimum with the paper's solver alone; an exact solver changes ever less as the
        weight grows. ``"implant"`` takes the weight that best finds random anomalies implanted into the healthy images
        (:func:`lesioncore.implant.implant_anomalies`). Default: ``"change"`` for the paper solver, else ``"implant"``.
    search_slices : int
        Healthy slices used in the search, evenly spread; the thresholds use all.
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
        If there are no healthy scans, or the weights are not ascending numbers >= 0.
    """
    config = (config or RestoreConfig()).for_prior(prior)
    if len(healthy) == 0:
        raise ValueError("healthy: got no scans, expected at least one")
    if masks is not None and len(masks) != len(healthy):
        raise ValueError(f"masks: got {len(masks)}, expected one for each of {len(healthy)} scans")
    weights = [float(weight) for weight in tv_weights]
    if not weights or weights != sorted(set(weights)) or weights[0] < 0:
        raise ValueError(f"tv_weights: got {list(tv_weights)}, expected ascending numbers >= 0")
    if criterion not in (None, "implant", "change"):
        raise ValueError(f"criterion: got {criterion!r}, expected 'implant' or 'change'")
    chosen_by: str = criterion or ("change" if config.solver_name == "paper" else "implant")
    target = resolve_device(device)
    metadata = metadata_of(prior)
    scans = [
        scan
        if isinstance(scan, SliceStack)
        else prepare(scan, metadata, mask=None if masks is None else masks[i], normalized=config.normalized)
        for i, scan in enumerate(healthy)
    ]
    rounds = 1 if config.tv_weight is not None else len(weights) + 1
    noise_seed = seed if config.latent == "sample" else None
    curve: list[dict[str, float]] = []
    if config.tv_weight is not None:
        tv_weight, chosen_by = config.tv_weight, "given"
    else:
        healthy_part = _search_part(scans, search_slices, coupled=config.tv_dimensions == 3)
        with_anomalies = [
            implant_anomalies(s.slices, s.mask, seed=seed + i, coupled=config.tv_dimensions == 3)
            for i, s in enumerate(healthy_part)
        ]
        for i, weight in enumerate(weights):
            run = partial(solve_stacks, prior=prior, config=config, tv_weight=weight, device=target, seed=noise_seed)
            change = _mean_change(healthy_part, run(healthy_part))
            anomalous = [replace(s, slices=x) for s, (x, _) in zip(healthy_part, with_anomalies, strict=True)]
            auc = _implant_auc(anomalous, [truth for _, truth in with_anomalies], run(anomalous))
            curve.append({"tv_weight": weight, "change": change, "implant_auc": auc})
            if progress is not None:
                progress(i + 1, rounds)
        tv_weight = choose_weight(curve, chosen_by)
    solutions = solve_stacks(scans, prior, config, tv_weight, target, seed=noise_seed)
    summaries = [
        HealthyScores.of(np.abs(scan.in_brain(scan.slices - found.restored)), scan.bend)
        for scan, found in zip(scans, solutions, strict=True)
    ]
    if progress is not None:
        progress(rounds, rounds)
    return Calibration(
        settings=config.settings(),
        tv_weight=tv_weight,
        healthy=merged(summaries),
        curve=tuple(curve),
        criterion=chosen_by,
    )


def choose_weight(curve: Sequence[dict[str, float]], criterion: str) -> float:
    """Pick a weight from a search's rows; warns when it lies on the edge of what was tried.

    ``"change"``: the smallest weight whose mean change of healthy images is within 1 % of the least (paper Eq. 7).
    ``"implant"``: the weight with the largest AUC for implanted anomalies.
    """
    if criterion == "change":
        least = min(row["change"] for row in curve)
        index = next(i for i, row in enumerate(curve) if row["change"] <= 1.01 * least)
    else:
        index = max(range(len(curve)), key=lambda i: curve[i]["implant_auc"])
    if len(curve) > 1 and index in (0, len(curve) - 1):
        warnings.warn(
            f"tv_weights: the best, {curve[index]['tv_weight']:g}, lies on the edge of what was tried; widen the range",
            stacklevel=3,
        )
    return curve[index]["tv_weight"]


def _search_part(scans: Sequence[SliceStack], count: int, *, coupled: bool) -> list[SliceStack]:
    """About `count` brain slices: evenly from every scan, or whole scans where slices are coupled."""
    if coupled:
        average = sum(len(scan.slices) for scan in scans) / len(scans)
        step = max(1, round(len(scans) * average / count))
        return list(scans[::step])
    rows = [scan.mask.flatten(1).any(1).nonzero()[:, 0] for scan in scans]
    step = max(1, round(sum(map(len, rows)) / count))
    # Each scan starts at another offset, so that the part covers every height of the brain.
    kept = [r[i % step :: step] for i, r in enumerate(rows)]
    return [
        SliceStack(scan.slices[r], scan.mask[r], scan.voxel_size) for scan, r in zip(scans, kept, strict=True) if len(r)
    ]


def _score(stack: SliceStack, found: Solution) -> Tensor:
    return (stack.slices - found.restored).abs()


def _mean_change(stacks: Sequence[SliceStack], found: Sequence[Solution]) -> float:
    """The paper's eps(lambda) per brain pixel: mean of ``|Y - X|`` inside the mask."""
    changes = torch.cat([_score(s, f)[s.mask] for s, f in zip(stacks, found, strict=True)])
    return float(changes.double().mean())


def _implant_auc(stacks: Sequence[SliceStack], truths: Sequence[Tensor], found: Sequence[Solution]) -> float:
    histogram = ScoreHistogram(0.0, 10.0)  # residuals beyond ten standard deviations count as ten
    for stack, truth, solution in zip(stacks, truths, found, strict=True):
        histogram.add(_score(stack, solution), truth, stack.mask)
    return histogram.auc()
