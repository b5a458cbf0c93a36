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
"""Smoothing that is tried by default, mm."""

Criterion = Literal["implant", "change"]
"""Criteria by which a weight is chosen (:func:`lesioncore.calibrate`)."""

_CHANGE_SLICES = 64
"""Number of slices for the criterion "change", which is used with a solver of hundreds of steps."""

_DEFAULT_SCORING = Scoring()


class Solve(Protocol):
    """Restores stacks with a weight: ``lesioncore.restoration.solve.solve_stacks`` with its other arguments bound."""

    def __call__(self, stacks: Sequence[SliceStack], *, tv_weight: float) -> list[Solution]: ...


def search(
    solve: Solve,
    scans: Sequence[SliceStack],
    tv_weights: Sequence[float],
    *,
    criterion: Criterion,
    coupled: bool,
    scoring: Scoring = _DEFAULT_SCORING,
    smoothings: Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, float]]:
    """Try each weight, and with ``"implant"`` each smoothing, on healthy scans.

    Parameters
    ----------
    solve : callable
        Restores stacks with a weight.
    scans : sequence of SliceStack
        Healthy scans.
    tv_weights : sequence of float
        Weights to try.
    criterion : {"implant", "change"}
        Measure of a weight: the AUC of implanted anomalies, or the mean change of the images without anomalies.
    coupled : bool
        Whether the solver couples neighbouring slices. If it does not, ``"change"`` takes single slices of all scans.
    scoring : Scoring
        How residuals are scored. Its smoothing has no effect, nor has its asymmetry: implants lie on one side in any
        case.
    smoothings : sequence of float, optional
        Smoothing (mm) to try with ``"implant"``; when absent, all of `SMOOTHINGS`. With ``"change"``, which does not
        depend on it, the one to record; when absent, 0.
    seed : int
        Seed of the anomalies.
    progress : callable, optional
        Called as ``progress(weights_done)``.

    Returns
    -------
    list of dict
        A row for each weight and smoothing: ``tv_weight``, ``smoothing``, and ``implant_auc`` or ``change`` (z-scores).
    """
    measure: _Changes | _Implants
    if criterion == "change":
        measure = _Changes(scans if coupled else evenly_spaced_slices(scans, _CHANGE_SLICES), smoothings or (0.0,))
    else:
        measure = _Implants(scans, smoothings or SMOOTHINGS, scoring, seed)
    curve = []
    for done, weight in enumerate(tv_weights, start=1):
        curve += measure(weight, solve(measure.stacks, tv_weight=weight))
        if progress is not None:
            progress(done)
    return curve


def choose(curve: Sequence[dict[str, float]], criterion: str) -> dict[str, float]:
    """Choose the best row of a search.

    With ``"change"`` it is the smallest weight whose mean change of healthy images is within 1 % of the least (paper
    Eq. 7), with ``"implant"`` the row with the largest AUC of implanted anomalies.

    Warns
    -----
    UserWarning
        If the weight is the smallest or largest of several that were tried.
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
    """At most `count` slices with brain, evenly spaced over the slices of all scans, as a stack without geometry."""
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
    """Mean absolute change of healthy images by restoration, the paper's epsilon (Eq. 7), z-scores."""

    def __init__(self, healthy: Sequence[SliceStack], smoothings: Sequence[float]) -> None:
        self.stacks = healthy
        (self.smoothing,) = smoothings  # only recorded, since the change does not depend on it

    def __call__(self, weight: float, solutions: Sequence[Solution]) -> list[dict[str, float]]:
        changes = [
            (stack.slices - solution.restored)[stack.mask].abs()
            for stack, solution in zip(self.stacks, solutions, strict=True)
        ]
        return [{"tv_weight": weight, "smoothing": self.smoothing, "change": float(torch.cat(changes).double().mean())}]


class _Implants:
    """AUC of implanted anomalies for each smoothing."""

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
        # Larger deviations than ten z-scores, or a hundred times a scan's spread, are clipped to these bounds.
        histogram = ScoreHistogram(0.0, 100.0 if self.scoring.standardize else 10.0)
        scoring = replace(self.scoring, smoothing=smoothing)
        for stack, truth, solution in zip(self.stacks, self.truths, solutions, strict=True):
            residual = stack.slices - solution.restored
            scored = deviation(residual, stack, scoring)
            histogram.add(scored.values.abs(), truth, stack.mask)
        return histogram.auc()
