"""Detection as a function of the data-consistency weight and of the solver's steps (paper Fig. 10 and 11)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lesioncore.data.files import replace_atomically
from lesioncore.data.stack import SliceStack
from lesioncore.evaluation.case import score_histogram
from lesioncore.evaluation.scans import load
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.run import Run
from lesioncore.restoration.search import evenly_spaced
from lesioncore.restoration.solve import solve_stacks
from lesioncore.scoring.deviation import deviation
from lesioncore.solvers import Solution
from lesioncore.subjects import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
"""Weights lambda of a curve."""

STEPS = {"em": (0, 1, 2, 3, 5, 10, 20), "prox": (0, 1, 2, 3, 5, 10, 20, 40), "paper": (0, 10, 30, 100, 200, 500)}
"""Numbers of steps of a curve, for each solver; others take those of prox."""


_SLAB = 48.0
"""Height, mm, of the slab of neighbouring slices that each scan gives."""


class Curves:
    """Restores the same slices again and again with other settings.

    A scan gives a slab of 48 mm, around the largest cross-section of its lesion or, without one, of its brain. The
    score is that of ``restore`` on the prior's slices, its spread that of the slab alone.

    Parameters
    ----------
    prior : Prior
        The prior.
    patients, healthy : sequence of Subject
        Scans with lesion masks, and healthy ones, which only the change of healthy images takes.
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
        If there are no patients, one has no lesion mask, or a healthy scan a lesion.
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
        """The configured or calibrated weight; ``ValueError`` without either."""
        return Run.of(self.prior, self.run.config, self.run.device).tv_weight

    def weights(self, weights: Sequence[float] = WEIGHTS) -> list[dict[str, float]]:
        """For each weight the AUC, and the mean change of healthy pixels (the paper's epsilon) where there are any."""
        rows = []
        for weight in weights:
            run = replace(self.run, tv_weight=weight)
            row = {"tv_weight": float(weight), "auc": self._auc(self._solve(self._patients, run))}
            if self._healthy:
                found = self._solve(self._healthy, run)
                changes = [
                    (stack.slices - solution.restored)[stack.mask].abs()
                    for (stack, _), solution in zip(self._healthy, found, strict=True)
                ]
                row["change"] = float(torch.cat(changes).double().mean())
            rows.append(row)
        return rows

    def steps(self, steps: Sequence[int] | None = None) -> list[dict[str, float]]:
        """For each number of steps the AUC and the objective per slice, at the weight in use."""
        rows, config = [], self.run.config
        for count in STEPS.get(config.solver_name, STEPS["prox"]) if steps is None else steps:
            solver = replace(config.decided_solver, steps=count)
            run = replace(self.run, config=replace(config, solver=solver), tv_weight=self.weight)
            found = self._solve(self._patients, run)
            slices = sum(int(stack.brain_rows.sum()) for stack, _ in self._patients)
            objective = float(torch.cat([solution.objective[-1] for solution in found]).double().sum()) / slices
            rows.append({"steps": count, "auc": self._auc(found), "objective": objective})
        return rows

    def _slab(self, subject: Subject, voxel_size: float, *, ill: bool) -> tuple[SliceStack, torch.Tensor]:
        loaded = load(subject, voxel_size, ill=ill)
        scan = loaded.prepare(
            self.run.metadata, normalized=self.run.config.normalized, steps=self.run.config.preprocess
        )
        truth = torch.zeros_like(scan.mask) if loaded.lesion is None else scan.label_on_slices(loaded.lesion)
        truth &= scan.mask
        middle = int((truth if truth.any() else scan.mask).flatten(1).sum(1).argmax())
        half = 0 if scan.voxel_size is None else round(_SLAB / scan.voxel_size[2] / 2)
        keep = slice(max(0, middle - half), middle + half + 1)
        # Copies, so that nothing else of the scan stays in memory.
        return SliceStack(scan.slices[keep].clone(), scan.mask[keep].clone(), scan.voxel_size), truth[keep].clone()

    def _solve(self, pairs: Sequence[tuple[SliceStack, torch.Tensor]], run: Run) -> list[Solution]:
        seed = 0 if run.config.latent == "sample" else None
        return solve_stacks([stack for stack, _ in pairs], self.prior, run, seed=seed)

    def _auc(self, solutions: Sequence[Solution]) -> float:
        # A slab has no place in the template, whatever the scan has.
        scoring = replace(self.run.scoring, spread_map=False, asymmetry=0.0)
        histograms = []
        for (stack, truth), solution in zip(self._patients, solutions, strict=True):
            scored = deviation(stack.slices - solution.restored, stack, scoring)
            histograms.append(score_histogram(scored.values.abs(), truth, stack.mask))
        return reduce(add, histograms).auc()


def write_curves(curves: Curves, folder: Path) -> dict[str, Path]:
    """Compute the curves and write them to a folder as ``curves.json`` and ``curves.png``; the files by name."""
    from lesioncore.restoration.figure import save_figure

    weights, steps = curves.weights(), curves.steps()
    written = {name: folder / name for name in ("curves.json", "curves.png")}
    with replace_atomically(written["curves.json"]) as temporary:
        temporary.write_text(json.dumps({"weights": weights, "steps": steps}, indent=1, allow_nan=False) + "\n")
    save_figure(curves_figure(weights, steps, curves.weight), written["curves.png"])
    return written


def curves_figure(weights: Sequence[dict[str, float]], steps: Sequence[dict[str, float]], chosen: float) -> Figure:
    """Change of healthy images and AUC against the weight, AUC and objective against steps (paper Fig. 10, 11).

    Parameters
    ----------
    weights, steps : sequence of dict
        From :meth:`Curves.weights` and :meth:`Curves.steps`.
    chosen : float
        The weight in use, which is marked.

    Returns
    -------
    matplotlib.figure.Figure
        Not tied to pyplot or to a display; write it with :func:`lesioncore.restoration.figure.save_figure`.
    """
    from lesioncore.restoration.figure import require_matplotlib

    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), dpi=150, layout="constrained")
    shown = {"change": "mean change of healthy pixels", "auc": "AUC"}
    if "change" not in weights[0]:  # there were no healthy scans
        del shown["change"]
    *panels, last = figure.subplots(1, len(shown) + 1)
    lam = [row["tv_weight"] for row in weights]
    for axes, (key, label) in zip(panels, shown.items(), strict=True):
        axes.plot(lam, [row[key] for row in weights], "o-", color="#0072b2", markersize=4)
        axes.axvline(chosen, color="#d55e00", linewidth=0.8, label="λ in use")
        axes.set(xlabel="data-consistency weight λ", ylabel=label)
    count = [row["steps"] for row in steps]
    last.plot(count, [row["auc"] for row in steps], "o-", color="#0072b2", markersize=4)
    last.set(xlabel="steps", ylabel="AUC")
    panels[0].legend(fontsize=8)
    last.set_xscale("symlog")
    last.set_xticks(count, [str(number) for number in count])
    other = last.twinx()
    other.plot(count, [row["objective"] for row in steps], "s--", color="#009e73", markersize=3)
    other.set_ylabel("objective per slice, nats (dashed)")
    return figure
