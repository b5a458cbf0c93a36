"""What detection owes to the data-consistency weight and to the solver's steps (paper Fig. 10 and 11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lesioncore.config import RestoreConfig
from lesioncore.data.grid import SliceGrid
from lesioncore.metrics import ScoreHistogram
from lesioncore.priors.base import metadata_of
from lesioncore.restore import resolve_device, solve_stacks, weight_of
from lesioncore.scan import SliceStack, prepare
from lesioncore.solvers import Solution
from lesioncore.subjects import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
"""Weights lambda of a curve."""

STEPS = {"em": (0, 1, 2, 3, 5, 10, 20), "prox": (0, 1, 2, 3, 5, 10, 20, 40), "paper": (0, 10, 30, 100, 200, 500)}
"""Numbers of steps of a curve, for each solver."""

_HIGHEST = 12.0


class Curves:
    """Restores the same slices again and again with other settings.

    Everything is computed on the prior's slices, evenly spread ones of all scans, with ``|D|`` as the score.

    Parameters
    ----------
    prior : Prior
        The prior.
    patients, healthy : sequence of Subject
        Scans with lesion masks, and healthy ones, which only the change of healthy images takes.
    config : RestoreConfig, optional
        Solver and objective.
    slices : int
        About how many slices of each group are used.
    voxel_size : float
        Of simulated subjects, mm.
    device : str or torch.device
        As for :func:`lesioncore.restore`.

    Raises
    ------
    ValueError
        If there are no patients, or one has no lesion mask.
    """

    def __init__(
        self,
        prior: Any,
        patients: Sequence[Subject],
        healthy: Sequence[Subject] = (),
        *,
        config: RestoreConfig | None = None,
        slices: int = 200,
        voxel_size: float = 1.0,
        device: str | torch.device = "auto",
    ) -> None:
        if not patients:
            raise ValueError("patients: got none, expected scans with lesion masks")
        self.prior, self.device = prior, resolve_device(device)
        self.config = (config or RestoreConfig()).for_prior(prior)
        grid = SliceGrid(voxel_size, (200, 200))
        self._patients = self._slices(patients, slices, grid, ill=True)
        self._healthy = self._slices(healthy, slices, grid, ill=False)

    def weights(self, weights: Sequence[float] = WEIGHTS) -> list[dict[str, float]]:
        """For each weight the AUC, and the mean change of healthy pixels (the paper's epsilon) where there are any."""
        rows = []
        for weight in weights:
            row = {"tv_weight": float(weight), "auc": self._auc(self._solve(self._patients, self.config, weight))}
            if self._healthy:
                found = self._solve(self._healthy, self.config, weight)
                changes = [
                    (stack.slices - solution.restored)[stack.mask].abs()
                    for (stack, _), solution in zip(self._healthy, found, strict=True)
                ]
                row["change"] = float(torch.cat(changes).double().mean())
            rows.append(row)
        return rows

    def steps(self, steps: Sequence[int] | None = None) -> list[dict[str, float]]:
        """For each number of steps the AUC and the objective per slice, at the configured or calibrated weight."""
        weight = weight_of(metadata_of(self.prior), self.config)
        rows = []
        for count in STEPS[self.config.solver_name] if steps is None else steps:
            config = replace(self.config, solver=replace(self.config.decided_solver, steps=count))
            found = self._solve(self._patients, config, weight)
            objective = torch.cat([solution.objective[-1] for solution in found]).double().mean()
            rows.append({"steps": count, "auc": self._auc(found), "objective": float(objective)})
        return rows

    def _slices(
        self, subjects: Sequence[Subject], count: int, grid: SliceGrid, *, ill: bool
    ) -> list[tuple[SliceStack, torch.Tensor]]:
        scans = []
        for subject in subjects:
            loaded = subject.load(grid)
            if ill and loaded.lesion is None:
                raise ValueError(f"{subject.id}: has no lesion mask to compare with")
            scan = prepare(
                loaded.volume,
                metadata_of(self.prior),
                mask=loaded.mask,
                affine=loaded.affine,
                normalized=self.config.normalized,
            )
            truth = torch.zeros_like(scan.mask) if loaded.lesion is None else scan.label_on_slices(loaded.lesion)
            scans.append((scan, truth))
        rows = [scan.mask.flatten(1).any(1).nonzero()[:, 0] for scan, _ in scans]
        step = 1 if self.config.tv_dimensions == 3 else max(1, round(sum(map(len, rows)) / count))
        # Each scan starts at another offset, so that every height of the brain is there.
        kept = [r[i % step :: step] for i, r in enumerate(rows)]
        return [
            (SliceStack(scan.slices[r], scan.mask[r], scan.voxel_size), truth[r])
            for (scan, truth), r in zip(scans, kept, strict=True)
        ]

    def _solve(
        self, pairs: Sequence[tuple[SliceStack, torch.Tensor]], config: RestoreConfig, weight: float
    ) -> list[Solution]:
        seed = 0 if config.latent == "sample" else None
        return solve_stacks([stack for stack, _ in pairs], self.prior, config, weight, self.device, seed=seed)

    def _auc(self, found: Sequence[Solution]) -> float:
        histogram = ScoreHistogram(0.0, _HIGHEST)
        for (stack, truth), solution in zip(self._patients, found, strict=True):
            histogram.add((stack.slices - solution.restored).abs(), truth, stack.mask)
        return histogram.auc()


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
        Not tied to pyplot or to a display; write it with :func:`lesioncore.figure.save_figure`.
    """
    from lesioncore.figure import require_matplotlib

    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), dpi=150, layout="constrained")
    panels = figure.subplots(1, 3)
    lam = [row["tv_weight"] for row in weights]
    for axes, key, label in ((panels[0], "change", "mean change of healthy pixels"), (panels[1], "auc", "AUC")):
        axes.plot(lam, [row.get(key, np.nan) for row in weights], "o-", color="#0072b2", markersize=4)
        axes.axvline(chosen, color="#d55e00", linewidth=0.8)
        axes.set(xlabel="data-consistency weight λ", ylabel=label)
    count = [row["steps"] for row in steps]
    panels[2].plot(count, [row["auc"] for row in steps], "o-", color="#0072b2", markersize=4)
    panels[2].set(xlabel="steps", ylabel="AUC")
    panels[2].set_xscale("symlog")
    other = panels[2].twinx()
    other.plot(count, [row["objective"] for row in steps], "s--", color="#009e73", markersize=3)
    other.set_ylabel("objective per slice, nats (dashed)")
    return figure
