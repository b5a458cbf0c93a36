"""A summary of healthy people's scores that can be merged and holds no image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.metrics import conformal_threshold, fpr_threshold

LEVELS = tuple(np.unique(np.concatenate([np.geomspace(1e-4, 0.5, 60).round(6), [0.01, 0.05, 0.1]])).tolist())
"""False-positive-rate limits at which each subject's own threshold is kept."""

FEWEST_TO_COMPARE = 8
"""Healthy people below which no scan is called unlike them."""

_UNUSUAL = 5.0  # standard deviations
_SAME_SPREAD = 3.0  # scanners' residuals differ several times over, and the score's unit makes up for that
_SAME_SIZE = 0.1  # brains whose extents differ less than this share are alike, however alike the calibration's are

_SMALLEST, _LARGEST, _STEPS = -20, 10, 256
# Powers of two in steps of 0.27 %, either sign, as float32 values: comparing a float32 score with one is exact.
_POSITIVE = np.exp2(np.arange(_SMALLEST * _STEPS, _LARGEST * _STEPS + 1) / _STEPS).astype(np.float32)
_EDGES = np.concatenate([-_POSITIVE[::-1], _POSITIVE])
_EDGES.flags.writeable = False


@dataclass(frozen=True)
class HealthySubject:
    """One healthy person.

    Attributes
    ----------
    thresholds : tuple of float
        For each of `LEVELS`, the smallest threshold that at most this share of the person's brain voxels exceeds.
    bend : float or None
        How far the person's intensities had to be bent to fit the reference
        (:attr:`lesioncore.data.stack.SliceStack.bend`).
    extent : tuple of float or None
        How far the brain reaches from left to right, back to front and bottom to top, mm
        (:attr:`lesioncore.data.stack.SliceStack.extent`).
    spread : float or None
        Spread of the person's residual, z-scores (:func:`lesioncore.scoring.spread.robust_spread`).
    """

    thresholds: tuple[float, ...]
    bend: float | None = None
    extent: tuple[float, float, float] | None = None
    spread: float | None = None


@dataclass(frozen=True)
class HealthyScores:
    """Scores of healthy people: pooled counts in fine bins, and a row for each person.

    The bins' bounds are the powers of two in steps of 1/256 (0.27 %), of either sign, from 1e-6 to 1024, and one bin
    for what is smaller: fine for z-scores and probabilities alike, and the same for all, so that summaries of several
    sites merge into that of all their people (``a + b``) without any scan leaving its site.

    Attributes
    ----------
    first : int
        Number of the first bin that holds scores.
    counts : tuple of int
        Voxels in that bin and the following ones, which end with the last that holds scores.
    subjects : tuple of HealthySubject
        The people.
    """

    first: int
    counts: tuple[int, ...]
    subjects: tuple[HealthySubject, ...]

    @classmethod
    def of(
        cls,
        scores: Array,
        bend: float | None = None,
        extent: tuple[float, float, float] | None = None,
        spread: float | None = None,
    ) -> HealthyScores:
        """Summary of one person.

        Parameters
        ----------
        scores : numpy.ndarray or torch.Tensor
            Scores of the brain's voxels, any shape.
        bend, extent, spread : optional
            See :class:`HealthySubject`.

        Raises
        ------
        ValueError
            If there are no scores, or one is NaN.
        """
        values = np.sort(to_numpy(scores, "scores").reshape(-1))  # which makes the order statistics quick
        subject = HealthySubject(tuple(fpr_threshold(values, limit) for limit in LEVELS), bend, extent, spread)
        counts = np.bincount(np.searchsorted(_EDGES, values.astype(np.float32)), minlength=len(_EDGES) + 1)
        filled = np.flatnonzero(counts)
        return cls(int(filled[0]), tuple(counts[filled[0] : filled[-1] + 1].tolist()), (subject,))

    def __add__(self, other: HealthyScores) -> HealthyScores:
        first = min(self.first, other.first)
        counts = np.zeros(max(self.first + len(self.counts), other.first + len(other.counts)) - first, np.int64)
        for part in (self, other):
            counts[part.first - first :][: len(part.counts)] += part.counts
        return HealthyScores(first, tuple(counts.tolist()), self.subjects + other.subjects)

    @property
    def pixels(self) -> int:
        """Number of scores."""
        return sum(self.counts)

    @cached_property
    def _below(self) -> npt.NDArray[np.int64]:
        """For each bin, and beyond the last, the number of scores in lower ones."""
        counts = np.zeros(len(_EDGES) + 1, np.int64)
        counts[self.first : self.first + len(self.counts)] = self.counts
        return np.concatenate([[0], np.cumsum(counts)])

    def threshold(self, limit: float, risk: float | None = None) -> float:
        """Threshold that holds a false-positive rate.

        Parameters
        ----------
        limit : float
            At most this share of the pooled healthy voxels lies above the threshold (paper section 2.2.3), which is the
            smallest bin's bound of which that is true: at most 0.27 % above the exact order statistic.
        risk : float, optional
            Bound people instead of the pool: the rate of a new healthy person, exchangeable with these, exceeds `limit`
            with at most this probability (:func:`lesioncore.metrics.conformal_threshold`). Takes 1 / risk - 1 people.

        Raises
        ------
        ValueError
            If `limit` is not in [0, 1), or with `risk` below the strictest of `LEVELS`; if `risk` is out of its range
            or there are too few people for it.
        """
        if not 0 <= limit < 1:
            raise ValueError(f"fpr: got {limit}, expected a false-positive rate in [0, 1)")
        if risk is None:
            above = self.pixels - self._below[1:]
            bin_ = int(np.argmax(above <= limit * self.pixels))
            return float(_EDGES[bin_]) if bin_ < len(_EDGES) else float("inf")
        # The slack tolerates float rounding: 0.05 finds a stored 0.05.
        index = int(np.searchsorted(LEVELS, limit * (1 + 1e-9), side="right")) - 1
        if index < 0:
            raise ValueError(f"fpr: got {limit}, expected at least {LEVELS[0]:g} where a risk is given")
        needed, people = math.ceil(1 / risk - 1 - 1e-9) if 0 < risk < 1 else 0, len(self.subjects)
        if people < needed:
            raise ValueError(
                f"risk: got {risk}, for which {needed} healthy people are needed, but the calibration has {people};"
                f" calibrate on more, or take a risk of {1 / (people + 1):.2g} or more"
            )
        return conformal_threshold([subject.thresholds[index] for subject in self.subjects], risk)

    def rank(self, score: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Share of the healthy voxels that lie in lower bins, in [0, 1], of the shape of `score`."""
        score = np.asarray(score, np.float32)
        shares = (self._below / self.pixels).astype(np.float32)
        ranks = np.full(score.shape, shares[np.searchsorted(_EDGES, 0.0)])
        scored = score != 0  # most of a scan is background
        ranks[scored] = shares[np.searchsorted(_EDGES, score[scored])]
        return ranks

    def unusual(
        self,
        scores: Array,
        bend: float | None = None,
        extent: tuple[float, float, float] | None = None,
        spread: float | None = None,
    ) -> list[str]:
        """Say in what a scan is unlike all of these people, as whole sentences.

        Compared are the median score, the spread of the residual, the bend of the intensities and the brain's extent;
        unusual is what lies more than five standard deviations from the mean of at least eight people, which about one
        more healthy person in a thousand does if these are eight (Student's t; fewer with more), an extent only if it
        differs by a tenth as well, a spread only if it is more than four times the mean. A lesion that does not fill
        half of the brain hardly moves a median; another contrast, orientation or preprocessing does. A wrong voxel size
        and swapped axes change the extent.

        Parameters
        ----------
        scores : numpy.ndarray or torch.Tensor
            Scores of the brain's voxels.
        bend, extent, spread : optional
            See :class:`HealthySubject`.
        """
        people = self.subjects
        median = fpr_threshold(scores, LEVELS[-1])
        compared: list[tuple[float | None, list[float | None], str, float]] = [
            (median, [person.thresholds[-1] for person in people], "the median score of its brain is {}", 0.0),
            (spread, [person.spread for person in people], "the spread of its residual is {} z-scores", _SAME_SPREAD),
            (bend, [person.bend for person in people], "to fit the reference its intensities are bent by {}", 0.0),
        ]
        for axis, way in enumerate(("from left to right", "from back to front", "from bottom to top")):
            mine = None if extent is None else extent[axis]
            theirs = [None if person.extent is None else person.extent[axis] for person in people]
            compared.append((mine, theirs, f"its brain measures {{}} mm {way}", _SAME_SIZE))
        remarks = []
        for value, seen, what, tolerance in compared:
            known = [x for x in seen if x is not None]
            if value is None or len(known) < FEWEST_TO_COMPARE:
                continue
            allowed = max(_UNUSUAL * np.std(known, ddof=1), tolerance * abs(np.mean(known)))
            if abs(value - np.mean(known)) > allowed:
                remarks.append(
                    f"{what.format(f'{value:.3g}')}, but {min(known):.3g} to {max(known):.3g} in the {len(known)}"
                    " healthy scans of the calibration"
                )
        return remarks

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        rows = [
            {
                "thresholds": list(subject.thresholds),
                "bend": subject.bend,
                "extent": None if subject.extent is None else list(subject.extent),
                "spread": subject.spread,
            }
            for subject in self.subjects
        ]
        return {"first": self.first, "counts": list(self.counts), "limits": list(LEVELS), "subjects": rows}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HealthyScores:
        """Inverse of :meth:`to_dict`.

        Raises
        ------
        ValueError
            If the limits are not those of this version.
        """
        if tuple(values["limits"]) != LEVELS:
            raise ValueError("limits: the file has others than this version of lesioncore; calibrate again")
        subjects = tuple(
            HealthySubject(
                tuple(row["thresholds"]),
                row["bend"],
                None if row["extent"] is None else tuple(row["extent"]),
                row["spread"],
            )
            for row in values["subjects"]
        )
        return cls(int(values["first"]), tuple(values["counts"]), subjects)


def merged(summaries: Sequence[HealthyScores]) -> HealthyScores:
    """Summary of all people of several summaries."""
    return sum(summaries[1:], summaries[0])
