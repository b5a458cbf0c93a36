"""Summaries of healthy people's scores, which can be merged and hold no image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import add
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.data.json_form import Unbounded, check_form
from lesioncore.data.reduction import tree_reduce
from lesioncore.metrics import conformal_threshold, fpr_threshold

LEVELS = tuple(np.unique(np.concatenate([np.geomspace(1e-4, 0.5, 60).round(6), [0.01, 0.05, 0.1]])).tolist())
"""False-positive-rate limits at which each person's own threshold is stored."""

FEWEST_TO_COMPARE = 8
"""Smallest number of healthy people with whom a scan is compared."""

_UNUSUAL = 5.0
"""Deviation from the healthy mean, in standard deviations, beyond which a scan is unusual."""

_SPREAD_TOLERANCE = 3.0
"""Deviation of a spread, as a share of the healthy mean, that is never unusual: residuals of different scanners differ
by such factors, and standardization removes that from the score."""

_EXTENT_TOLERANCE = 0.1
"""Deviation of a brain's extent, as a share of the healthy mean, that is never unusual, even where the calibration's
brains happen to be very similar."""

_SMALLEST_POWER, _LARGEST_POWER, _BINS_PER_OCTAVE = -20, 10, 256
# The bins' bounds are float32, as the scores are, so that comparing them is exact.
_POSITIVE = np.exp2(
    np.arange(_SMALLEST_POWER * _BINS_PER_OCTAVE, _LARGEST_POWER * _BINS_PER_OCTAVE + 1) / _BINS_PER_OCTAVE
).astype(np.float32)
_EDGES = np.concatenate([-_POSITIVE[::-1], _POSITIVE])
_EDGES.flags.writeable = False


@dataclass(frozen=True)
class HealthySubject:
    """Thresholds and other figures of one healthy person.

    Attributes
    ----------
    thresholds : tuple of float
        For each of `LEVELS`, the smallest threshold that at most this share of the person's brain voxels exceeds.
    bend : float or None
        How far the person's intensities had to be bent to fit the prior's reference
        (:attr:`lesioncore.data.stack.SliceStack.bend`); None when unknown.
    extent : tuple of float or None
        Lengths of the brain from left to right, back to front and bottom to top, mm
        (:attr:`lesioncore.data.stack.SliceStack.extent`); None when unknown.
    spread : float or None
        Spread of the person's residual, z-scores (:func:`lesioncore.scoring.spread.robust_spread`); None when unknown.
    """

    thresholds: tuple[float, ...]
    bend: float | None = None
    extent: tuple[float, float, float] | None = None
    spread: float | None = None

    @property
    def scan(self) -> tuple[object, ...] | None:
        """What summaries of one scan share, and those of two do not; None where that cannot be told.

        The bend follows from the scan alone, whatever weight or map it is scored with. Thresholds tell it only beside a
        spread: those of ranks are the same for all brains of one size.
        """
        if self.bend:
            return self.bend, self.extent
        return (*self.thresholds, self.spread) if self.spread else None


class SubjectForm(TypedDict):
    """A person in ``calibration.json``."""

    thresholds: list[Unbounded]
    bend: float | None
    extent: tuple[float, float, float] | None
    spread: float | None


class HealthyForm(TypedDict):
    """Healthy people in ``calibration.json``."""

    first: int
    counts: list[int]
    limits: list[float]
    subjects: list[SubjectForm]


@dataclass(frozen=True)
class HealthyScores:
    """Scores of healthy people: pooled counts in fine bins, and a row for each person.

    The bins' bounds are powers of two of either sign, from 1e-6 to 1024 in steps of 1/256 of an octave (0.27 %), with
    one bin around 0 for smaller scores. They are fine enough for z-scores and for probabilities, and the same for all
    summaries, so that those of several sites merge into one of all their people (``a + b``) without any scan leaving
    its site.

    Attributes
    ----------
    first : int
        Index of the first bin that holds scores.
    counts : tuple of int
        Number of voxels in each bin from the first to the last that holds scores.
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
        values = np.sort(to_numpy(scores, "scores").reshape(-1))  # order statistics of sorted values are fast
        subject = HealthySubject(tuple(fpr_threshold(values, limit) for limit in LEVELS), bend, extent, spread)
        counts = np.bincount(np.searchsorted(_EDGES, values.astype(np.float32)), minlength=len(_EDGES) + 1)
        filled = np.flatnonzero(counts)
        return cls(int(filled[0]), tuple(counts[filled[0] : filled[-1] + 1].tolist()), (subject,))

    def __add__(self, other: HealthyScores) -> HealthyScores:
        """Merge two summaries into one of all their people; ``ValueError`` if one scan is in both."""
        scans = {subject.scan for subject in self.subjects} - {None}
        if shared := sum(subject.scan in scans or other is self for subject in other.subjects):
            raise ValueError(
                f"other: {shared} of its {len(other.subjects)} people have the same scan as one of the"
                f" {len(self.subjects)} that it is merged with, who would count twice; merge those of different people"
            )
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
        """Number of scores below each bin, and in the last element that of all scores."""
        counts = np.zeros(len(_EDGES) + 1, np.int64)
        counts[self.first : self.first + len(self.counts)] = self.counts
        return np.concatenate([[0], np.cumsum(counts)])

    def threshold(self, limit: float, risk: float | None = None) -> float:
        """Threshold that keeps the false-positive rate at or below a limit.

        Parameters
        ----------
        limit : float
            Largest share of the pooled healthy voxels that may lie above the threshold (paper section 2.2.3). The
            threshold is the smallest bound of a bin for which this holds, at most 0.27 % above the exact order
            statistic.
        risk : float, optional
            Bound each person's rate instead of the pooled one: the rate of a new healthy person, exchangeable with
            these, exceeds `limit` with at most this probability (:func:`lesioncore.metrics.conformal_threshold`). This
            needs at least 1 / risk - 1 people.

        Raises
        ------
        ValueError
            If `limit` is not in [0, 1) or, with a `risk`, is below the smallest of `LEVELS`; if `risk` is not in (0, 1)
            or there are too few people for it.
        """
        if not 0 <= limit < 1:
            raise ValueError(f"fpr: got {limit}, expected a false-positive rate in [0, 1)")
        if risk is None:
            above = self.pixels - self._below[1:]
            bin_ = int(np.argmax(above <= limit * self.pixels))
            return float(_EDGES[bin_]) if bin_ < len(_EDGES) else float("inf")
        # The tolerance lets a limit such as 0.05 match the stored level despite rounding.
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
        """Share of the healthy voxels in lower bins, in [0, 1], for each element of `score`."""
        score = np.asarray(score, np.float32)
        shares = (self._below / self.pixels).astype(np.float32)
        ranks = np.full(score.shape, shares[np.searchsorted(_EDGES, 0.0)])
        scored = score != 0  # saves time, since most voxels of a scan are background
        ranks[scored] = shares[np.searchsorted(_EDGES, score[scored])]
        return ranks

    def unusual(
        self,
        scores: Array,
        bend: float | None = None,
        extent: tuple[float, float, float] | None = None,
        spread: float | None = None,
    ) -> list[str]:
        """Describe how a scan differs from all of these people, one phrase for each unusual figure.

        The figures are the median score, the spread of the residual, the bend of the intensities and the brain's
        extents. A figure is unusual if it lies more than five standard deviations from the mean of at least eight
        people. With eight people, each figure is unusual in about two of a thousand more healthy people (Student's t),
        with more people in fewer. An extent must also differ from the mean by a tenth, and a spread exceed four times
        the mean.

        A lesion that does not fill half of the brain hardly moves the median; another contrast, orientation or
        preprocessing does. A wrong voxel size and swapped axes change the extent.

        Parameters
        ----------
        scores : numpy.ndarray or torch.Tensor
            Scores of the brain's voxels.
        bend, extent, spread : optional
            Figures of the scan, as for :class:`HealthySubject`; those that are absent are not compared.

        Returns
        -------
        list of str
            Phrases that join to a sentence, without a full stop; empty if nothing is unusual.
        """
        people = self.subjects
        median = fpr_threshold(scores, LEVELS[-1])
        compared: list[tuple[float | None, list[float | None], str, float]] = [
            (median, [person.thresholds[-1] for person in people], "the median score of its brain is {}", 0.0),
            (
                spread,
                [person.spread for person in people],
                "the spread of its residual is {} z-scores",
                _SPREAD_TOLERANCE,
            ),
            (bend, [person.bend for person in people], "to fit the reference its intensities are bent by {}", 0.0),
        ]
        for axis, way in enumerate(("from left to right", "from back to front", "from bottom to top")):
            length = None if extent is None else extent[axis]
            lengths = [None if person.extent is None else person.extent[axis] for person in people]
            compared.append((length, lengths, f"its brain measures {{}} mm {way}", _EXTENT_TOLERANCE))
        remarks = []
        for value, values, text, tolerance in compared:
            known = [x for x in values if x is not None]
            if value is None or len(known) < FEWEST_TO_COMPARE:
                continue
            allowed = max(_UNUSUAL * np.std(known, ddof=1), tolerance * abs(np.mean(known)))
            if abs(value - np.mean(known)) > allowed:
                remarks.append(
                    f"{text.format(f'{value:.3g}')}, but {min(known):.3g} to {max(known):.3g} in the {len(known)}"
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
            If the values have another form or are no counts and thresholds, or the stored levels are not the `LEVELS`
            of this version.
        """
        check_form(values, HealthyForm, "healthy")
        if tuple(values["limits"]) != LEVELS:
            raise ValueError("healthy.limits: are others than this version of lesioncore has; calibrate again")
        first, counts = values["first"], values["counts"]
        if (
            first < 0
            or first + len(counts) > len(_EDGES) + 1
            or min(counts, default=0) < 0
            or not 0 < sum(counts) < 2**53
        ):
            raise ValueError(
                f"healthy.counts: got {len(counts)} bins from {first} on with {sum(counts)} voxels, expected counts of"
                f" one voxel or more in bins 0 to {len(_EDGES)}"
            )
        if not values["subjects"]:
            raise ValueError("healthy.subjects: got nobody, expected at least one person")
        subjects = []
        for number, row in enumerate(values["subjects"]):
            thresholds = tuple(row["thresholds"])
            if len(thresholds) != len(LEVELS) or list(thresholds) != sorted(thresholds, reverse=True):
                raise ValueError(
                    f"healthy.subjects[{number}].thresholds: got {len(thresholds)}, expected {len(LEVELS)} that fall as"
                    " the limits rise"
                )
            extent = None if row["extent"] is None else tuple(row["extent"])
            subjects.append(HealthySubject(thresholds, row["bend"], extent, row["spread"]))
        return cls(first, tuple(counts), tuple(subjects))


def merged(summaries: Sequence[HealthyScores]) -> HealthyScores:
    """Merge several summaries into one of all their people; errors as for ``a + b``."""
    return tree_reduce(add, summaries)
