"""Detection as a function of the data-consistency weight and of the solver's steps (paper Fig. 10 and 11)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lesioncore.data.files import replace_atomically
from lesioncore.data.stack import SliceStack
from lesioncore.evaluation.case import score_histogram
from lesioncore.evaluation.scans import load
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.run import Run
from lesioncore.restoration.search import evenly_spaced
from lesioncore.restoration.solve import solve_stacks
from lesioncore.scoring.deviation import deviation, score_of
from lesioncore.solvers import Solution
from lesioncore.subjects import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
"""Data-consistency weights (lambda) of a curve."""

STEPS = {"em": (0, 1, 2, 3, 5, 10, 20), "prox": (0, 1, 2, 3, 5, 10, 20, 40), "paper": (0, 10, 30, 100, 200, 500)}
"""Numbers of steps of a curve, for each solver; solvers without an entry take those of prox."""

_SLAB = 48.0
"""Height, mm, of the slab of neighbouring slices that is restored of each scan."""


class _Slab(NamedTuple):
    """Slices of a scan, with ``[N, 1, H, W]`` its lesion and the pixels that count."""

    stack: SliceStack
    truth: torch.Tensor
    counted: torch.Tensor


class Curves:
    """Restores the same slices with different weights and numbers of steps.

    Of each scan a slab of 48 mm is restored, around the largest cross-section of its lesion or, without one, of its
    brain. Slices are scored as by ``restore``, but on the prior's grid, with the spread of the slab alone, and without
    spread map and asymmetry, which need the place in the template.

    Parameters
    ----------
    prior : Prior
        The prior.
    patients, healthy : sequence of Subject
        Scans with lesion masks, and healthy ones, which serve for the change of healthy images alone.
    config : RestoreConfig, optional
        Solver and objective.
    scans : int
        How many scans of each group are used at most, evenly spread.
    voxel_size : float
        Of simulated subjects, mm.
    device : str or torch.device
        As for :func:`lesioncore.restore`.

    Raises
    ------
    ValueError
        If there are no patients, a patient has no lesion mask, or a healthy scan has a lesion.
    """

    def __init__(
        self,
        prior: Any,
        patients: Sequence[Subject],
        healthy: Sequence[Subject] = (),
        *,
        config: RestoreConfig | None = None,
        scans: int = 8,
        voxel_size: float = 1.0,
        device: str | torch.device = "auto",
    ) -> None:
        if not patients:
            raise ValueError("patients: got none, expected scans with lesion masks")
        self.prior, self.run = prior, Run.of(prior, config, device, tv_weight=WEIGHTS[0])
        self._patients = [self._slab(subject, voxel_size, ill=True) for subject in evenly_spaced(patients, scans)]
        self._healthy = [self._slab(subject, voxel_size, ill=False) for subject in evenly_spaced(healthy, scans)]

    @property
    def weight(self) -> float:
        """The configured weight, or else the calibrated one.

        Raises
        ------
        ValueError
            If there is neither.
        """
        return Run.of(self.prior, self.run.config, self.run.device).tv_weight

    def weights(self, weights: Sequence[float] = WEIGHTS) -> list[dict[str, float]]:
        """Compute a row for each weight.

        Returns
        -------
        list of dict
            ``tv_weight``, ``auc`` and, if there are healthy scans, ``change``: the mean absolute change of healthy
            pixels in z-scores (the paper's epsilon).
        """
        rows = []
        for weight in weights:
            run = replace(self.run, tv_weight=weight)
            row = {"tv_weight": float(weight), "auc": self._auc(self._solve(self._patients, run))}
            if self._healthy:
                solutions = self._solve(self._healthy, run)
                changes = [
                    (slab.stack.slices - solution.restored)[slab.counted].abs()
                    for slab, solution in zip(self._healthy, solutions, strict=True)
                ]
                row["change"] = float(torch.cat(changes).double().mean())
            rows.append(row)
        return rows

    def steps(self, steps: Sequence[int] | None = None) -> list[dict[str, float]]:
        """Compute a row for each number of solver steps, at the weight in use.

        Returns
        -------
        list of dict
            ``steps``, ``auc`` and ``objective``, in nats per slice with brain.
        """
        rows, config = [], self.run.config
        for count in STEPS.get(config.solver_name, STEPS["prox"]) if steps is None else steps:
            solver = replace(config.decided_solver, steps=count)
            run = replace(self.run, config=replace(config, solver=solver), tv_weight=self.weight)
            solutions = self._solve(self._patients, run)
            slice_count = sum(int(slab.stack.brain_rows.sum()) for slab in self._patients)
            objective = torch.cat([solution.objective[-1] for solution in solutions]).double().sum()
            row = {"steps": count, "auc": self._auc(solutions), "objective": float(objective) / slice_count}
            rows.append(row)
        return rows

    def _slab(self, subject: Subject, voxel_size: float, *, ill: bool) -> _Slab:
        loaded = load(subject, voxel_size, ill=ill)
        scan = loaded.prepare(
            self.run.metadata, normalized=self.run.config.normalized, steps=self.run.config.preprocess
        )
        truth = torch.zeros_like(scan.mask) if loaded.lesion is None else scan.label_on_slices(loaded.lesion)
        counted = scan.mask if loaded.excluded is None else scan.mask & ~scan.label_on_slices(loaded.excluded)
        truth &= counted
        middle = int((truth if truth.any() else scan.mask).flatten(1).sum(1).argmax())
        half = 0 if scan.voxel_size is None else round(_SLAB / scan.voxel_size[2] / 2)
        keep = slice(max(0, middle - half), middle + half + 1)
        # Views instead of copies would keep the whole scan in memory.
        stack = SliceStack(scan.slices[keep].clone(), scan.mask[keep].clone(), scan.voxel_size)
        return _Slab(stack, truth[keep].clone(), counted[keep].clone())

    def _solve(self, slabs: Sequence[_Slab], run: Run) -> list[Solution]:
        seed = 0 if run.config.latent == "sample" else None
        return solve_stacks([slab.stack for slab in slabs], self.prior, run, seed=seed)

    def _auc(self, solutions: Sequence[Solution]) -> float:
        # Spread map and asymmetry need the place in the template, which a slab does not keep.
        scoring = replace(self.run.scoring, spread_map=False, asymmetry=0.0)
        histograms = []
        for slab, solution in zip(self._patients, solutions, strict=True):
            scored = deviation(slab.stack.slices - solution.restored, slab.stack, scoring)
            score = score_of(scored.values, scoring.sign)
            histograms.append(score_histogram(score, slab.truth, slab.counted))
        return reduce(add, histograms).auc()


def write_curves(curves: Curves, folder: Path) -> dict[str, Path]:
    """Compute the curves and write them as numbers and as a picture.

    Parameters
    ----------
    curves : Curves
        What is restored and scored.
    folder : Path
        Existing folder, which receives ``curves.json`` and ``curves.png``.

    Returns
    -------
    dict of str to Path
        The files by name.
    """
    from lesioncore.restoration.figure import save_figure

    weights, steps = curves.weights(), curves.steps()
    files = {name: folder / name for name in ("curves.json", "curves.png")}
    with replace_atomically(files["curves.json"]) as temporary:
        temporary.write_text(json.dumps({"weights": weights, "steps": steps}, indent=1, allow_nan=False) + "\n")
    save_figure(curves_figure(weights, steps, curves.weight), files["curves.png"])
    return files


def curves_figure(weights: Sequence[dict[str, float]], steps: Sequence[dict[str, float]], chosen: float) -> Figure:
    """Change of healthy images and AUC against the weight, AUC and objective against steps (paper Fig. 10, 11).

    Parameters
    ----------
    weights, steps : sequence of dict
        From :meth:`Curves.weights` and :meth:`Curves.steps`.
    chosen : float
        The weight in use, which the picture marks.

    Returns
    -------
    matplotlib.figure.Figure
        Not tied to pyplot or to a display; write it with :func:`lesioncore.restoration.figure.save_figure`.
    """
    from lesioncore.restoration.figure import require_matplotlib

    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), dpi=150, layout="constrained")
    labels = {"change": "mean change of healthy pixels", "auc": "AUC"}
    if "change" not in weights[0]:  # no healthy scans were given
        del labels["change"]
    *weight_axes, steps_axes = figure.subplots(1, len(labels) + 1)
    lambdas = [row["tv_weight"] for row in weights]
    for axes, (key, label) in zip(weight_axes, labels.items(), strict=True):
        axes.plot(lambdas, [row[key] for row in weights], "o-", color="#0072b2", markersize=4)
        axes.axvline(chosen, color="#d55e00", linewidth=0.8, label="λ in use")
        axes.set(xlabel="data-consistency weight λ", ylabel=label)
    counts = [row["steps"] for row in steps]
    steps_axes.plot(counts, [row["auc"] for row in steps], "o-", color="#0072b2", markersize=4)
    steps_axes.set(xlabel="steps", ylabel="AUC")
    weight_axes[0].legend(fontsize=8)
    steps_axes.set_xscale("symlog")
    steps_axes.set_xticks(counts, [str(count) for count in counts])
    objective_axes = steps_axes.twinx()
    objective_axes.plot(counts, [row["objective"] for row in steps], "s--", color="#009e73", markersize=3)
    objective_axes.set_ylabel("objective per slice, nats (dashed)")
    return figure
