"""The search for the data-consistency weight and the smoothing on healthy scans."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from lesioncore.implant import implant_anomalies
from lesioncore.metrics import ScoreHistogram
from lesioncore.scan import SliceStack
from lesioncore.smoothing import smooth
from lesioncore.solvers import Solution

SMOOTHINGS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
"""Smoothing tried, mm."""

_SLAB = 48.0
"""Height, mm, of the slab of neighbouring slices that each scan gives to the search."""


def choose(curve: Sequence[dict[str, float]], criterion: str) -> dict[str, float]:
    """Pick the row of a search; warns when its weight lies on the edge of what was tried.

    ``"change"``: the smallest weight whose mean change of healthy images is within 1 % of the least (paper Eq. 7).
    ``"implant"``: the largest AUC of implanted anomalies.
    """
    if criterion == "change":
        least = min(row["change"] for row in curve)
        best = next(row for row in curve if row["change"] <= 1.01 * least)
    else:
        best = max(curve, key=lambda row: row["implant_auc"])
    weights = sorted({row["tv_weight"] for row in curve})
    if len(weights) > 1 and best["tv_weight"] in (weights[0], weights[-1]):
        warnings.warn(
            f"tv_weights: the best, {best['tv_weight']:g}, lies on the edge of what was tried; widen the range",
            stacklevel=3,
        )
    return best


def search_part(scans: Sequence[SliceStack], count: int) -> list[SliceStack]:
    """About `count` slices: slabs of neighbouring ones of some scans, at heights from top to bottom."""
    slabs = []
    for scan in scans:
        rows = scan.mask.flatten(1).any(1).nonzero()[:, 0]
        if len(rows):
            thick = len(rows) if scan.voxel_size is None else max(1, round(_SLAB / scan.voxel_size[2]))
            slabs.append((scan, int(rows[0]), len(rows), min(thick, len(rows))))
    wanted = max(1, round(count / max(1.0, sum(slab[3] for slab in slabs) / len(slabs))))
    chosen = [slabs[i] for i in np.unique(np.linspace(0, len(slabs) - 1, min(wanted, len(slabs))).round().astype(int))]
    part = []
    for i, (scan, first, rows_, thick) in enumerate(chosen):
        # Heights in the golden ratio's order are spread evenly whatever their number.
        start = first + round((rows_ - thick) * ((i * 0.618034 + 0.5) % 1.0))
        keep = slice(start, start + thick)
        part.append(SliceStack(scan.slices[keep], scan.mask[keep], scan.voxel_size))
    return part


class Changes:
    """The paper's epsilon: how much healthy images change."""

    def __init__(self, healthy: Sequence[SliceStack], smoothing: float | None) -> None:
        self.stacks = healthy
        self.smoothing = smoothing or 0.0

    def __call__(self, weight: float, found: Sequence[Solution]) -> list[dict[str, float]]:
        changes = [(s.slices - f.restored)[s.mask].abs() for s, f in zip(self.stacks, found, strict=True)]
        return [{"tv_weight": weight, "smoothing": self.smoothing, "change": float(torch.cat(changes).double().mean())}]


class Implants:
    """How well implanted anomalies are found, with each smoothing or the one that is given."""

    def __init__(self, healthy: Sequence[SliceStack], smoothing: float | None, seed: int) -> None:
        self.smoothings = SMOOTHINGS if smoothing is None else (smoothing,)
        self.stacks, self.truths = [], []
        for i, stack in enumerate(healthy):
            size = stack.voxel_size
            slices, truth = implant_anomalies(
                stack.slices,
                stack.mask,
                seed=seed + i,
                coupled=size is not None,
                depth_ratio=1.0 if size is None else size[0] / size[2],
            )
            self.stacks.append(replace(stack, slices=slices))
            self.truths.append(truth)

    def __call__(self, weight: float, found: Sequence[Solution]) -> list[dict[str, float]]:
        return [
            {"tv_weight": weight, "smoothing": smoothing, "implant_auc": self._auc(found, smoothing)}
            for smoothing in self.smoothings
        ]

    def _auc(self, found: Sequence[Solution], smoothing: float) -> float:
        histogram = ScoreHistogram(0.0, 10.0)  # residuals beyond ten standard deviations count as ten
        for stack, truth, solution in zip(self.stacks, self.truths, found, strict=True):
            score = smooth(stack.slices - solution.restored, stack.mask, stack.voxel_size, smoothing).abs()
            histogram.add(score, truth, stack.mask)
        return histogram.auc()
