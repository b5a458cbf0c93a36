"""The search for the data-consistency weight and the smoothing on healthy scans."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch

from lesioncore.data.stack import SliceStack
from lesioncore.metrics import ScoreHistogram
from lesioncore.restoration.implant import anomalies_in, implant_anomalies
from lesioncore.scoring.deviation import deviation
from lesioncore.scoring.options import Scoring
from lesioncore.solvers import Solution

T = TypeVar("T")

SMOOTHINGS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
"""Smoothing tried, mm."""

Criterion = Literal["implant", "change"]
"""How a weight is chosen: see :func:`lesioncore.calibrate`."""

_CHANGE_SLICES = 64
"""Slices for the criterion "change", whose solver takes hundreds of steps for each."""

_PLAIN = Scoring()


class Solve(Protocol):
    """Restores stacks with a weight: ``lesioncore.restoration.solve.solve_stacks`` with its other arguments given."""

    def __call__(self, stacks: Sequence[SliceStack], *, tv_weight: float) -> list[Solution]: ...


def search(
    solve: Solve,
    scans: Sequence[SliceStack],
    tv_weights: Sequence[float],
    *,
    criterion: Criterion,
    coupled: bool,
    scoring: Scoring = _PLAIN,
    smoothings: Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, float]]:
    """Try each weight on healthy scans: one row for each, and with ``"implant"`` for each smoothing.

    Parameters
    ----------
    solve : callable
        Restores stacks with a weight.
    scans : sequence of SliceStack
        Healthy scans.
    tv_weights : sequence of float
        Weights to try.
    criterion : {"implant", "change"}
        What is measured: the AUC of implanted anomalies, or the mean change of the images as they are.
    coupled : bool
        The solver couples neighbouring slices. ``"change"`` takes single slices of all scans where it does not.
    scoring : Scoring
        How residuals are scored, but for smoothing and asymmetry: implants lie on one side, whatever is looked for.
    smoothings : sequence of float, optional
        Smoothing (mm) to try; all of `SMOOTHINGS` for ``"implant"`` and none for ``"change"`` when absent.
    seed : int
        Of the anomalies.
    progress : callable, optional
        Called as ``progress(weights_done)``.
    """
    examine: _Changes | _Implants
    if criterion == "change":
        examine = _Changes(scans if coupled else evenly_spaced_slices(scans, _CHANGE_SLICES), smoothings or (0.0,))
    else:
        examine = _Implants(scans, smoothings or SMOOTHINGS, scoring, seed)
    curve = []
    for done, weight in enumerate(tv_weights, start=1):
        curve += examine(weight, solve(examine.stacks, tv_weight=weight))
        if progress is not None:
            progress(done)
    return curve


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


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spaced from the first to the last."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def evenly_spaced_slices(scans: Sequence[SliceStack], count: int) -> list[SliceStack]:
    """At most `count` slices with brain, evenly spaced over the scans and their heights, as single slices."""
    places = [(scan, int(row)) for scan in scans for row in scan.brain_rows.nonzero()[:, 0]]
    chosen = evenly_spaced(places, count)
    return [
        SliceStack(
            torch.stack([scan.slices[row] for scan, row in chosen]),
            torch.stack([scan.mask[row] for scan, row in chosen]),
            None,
        )
    ]


class _Changes:
    """The paper's epsilon: how much healthy images change."""

    def __init__(self, healthy: Sequence[SliceStack], smoothings: Sequence[float]) -> None:
        self.stacks = healthy
        (self.smoothing,) = smoothings  # which it does not depend on

    def __call__(self, weight: float, solutions: Sequence[Solution]) -> list[dict[str, float]]:
        changes = [
            (stack.slices - solution.restored)[stack.mask].abs()
            for stack, solution in zip(self.stacks, solutions, strict=True)
        ]
        return [{"tv_weight": weight, "smoothing": self.smoothing, "change": float(torch.cat(changes).double().mean())}]


class _Implants:
    """How well implanted anomalies are found, with each smoothing or the one that is given."""

    def __init__(
        self,
        healthy: Sequence[SliceStack],
        smoothings: Sequence[float],
        scoring: Scoring,
        seed: int,
    ) -> None:
        self.smoothings = smoothings
        self.scoring = replace(scoring, asymmetry=0.0)
        self.stacks, self.truths = [], []
        first = 0
        for stack in healthy:
            slices, truth = implant_anomalies(
                stack.slices, stack.mask, seed=seed, first=first, voxel_size=stack.voxel_size
            )
            first += anomalies_in(stack.mask, stack.voxel_size)
            self.stacks.append(replace(stack, slices=slices))
            self.truths.append(truth)

    def __call__(self, weight: float, solutions: Sequence[Solution]) -> list[dict[str, float]]:
        return [
            {"tv_weight": weight, "smoothing": smoothing, "implant_auc": self._auc(solutions, smoothing)}
            for smoothing in self.smoothings
        ]

    def _auc(self, solutions: Sequence[Solution], smoothing: float) -> float:
        # Deviations beyond ten z-scores, or a hundred times a scan's spread, count as that.
        histogram = ScoreHistogram(0.0, 100.0 if self.scoring.standardize else 10.0)
        scoring = replace(self.scoring, smoothing=smoothing)
        for stack, truth, solution in zip(self.stacks, self.truths, solutions, strict=True):
            residual = stack.slices - solution.restored
            scored = deviation(residual, stack, scoring)
            histogram.add(scored.values.abs(), truth, stack.mask)
        return histogram.auc()
