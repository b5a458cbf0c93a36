"""How well a score finds lesions: streaming, mergeable counts, and exact thresholds from healthy scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lesioncore.data.arrays import Array, NumpyArray, to_numpy

Counts = npt.NDArray[np.int64]

# Resamples are merged this many at a time: 100 of 10,000 bins are 16 MB.
_RESAMPLES_AT_ONCE = 100
_MOST_UNDEFINED = 0.1


class UndefinedMetricError(ValueError):
    """A metric has no value on this data, such as an AUC without lesions."""


@dataclass(eq=False)
class ScoreHistogram:
    """Counts of lesion and healthy voxels by score: all that a pooled ROC curve needs, of any number of subjects.

    The first bin holds scores of `low` and less: a residual is exactly 0 over much of a brain, which the smallest
    other scores must not tie with. The others divide `(low, high]` evenly, each with its upper bound; the last takes
    what lies beyond. Within a bin scores count as tied, so choose a range that the scores fill: with the default number
    of bins the AUC then agrees with the exact one to 1e-4.

    Attributes
    ----------
    low, high : float
        Range of the scores.
    bins : int
        Number of bins between them.
    lesion, healthy : numpy.ndarray
        `[bins + 1]`, int64: voxels with and without lesion per bin, of increasing score.

    Examples
    --------
    >>> histogram = ScoreHistogram(0.0, 1.0)
    >>> histogram.add(np.array([0.1, 0.2, 0.8]), np.array([False, False, True]))
    >>> histogram.auc()
    1.0
    """

    low: float
    high: float
    bins: int = 10_000
    lesion: Counts = field(init=False, repr=False)
    healthy: Counts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low and high must be finite and low < high, got {self.low} and {self.high}")
        if self.bins < 1:
            raise ValueError(f"bins must be at least 1, got {self.bins}")
        self.lesion = np.zeros(self.bins + 1, dtype=np.int64)
        self.healthy = np.zeros(self.bins + 1, dtype=np.int64)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Upper bounds of the bins, `[bins + 1]`, from `low` to `high`."""
        return np.linspace(self.low, self.high, self.bins + 1)

    def add(self, score: Array, truth: Array, mask: Array | None = None) -> None:
        """Count the voxels of a slice, a volume or a batch.

        Parameters
        ----------
        score : numpy.ndarray or torch.Tensor
            Higher means lesion; any shape.
        truth : numpy.ndarray or torch.Tensor
            Same shape, bool or 0/1: lesion.
        mask : numpy.ndarray or torch.Tensor, optional
            Same shape, bool or 0/1: the voxels to count, by default all.

        Raises
        ------
        ValueError
            If the shapes differ, `truth` or `mask` holds other values, or a counted score is NaN.
        """
        scores, lesions = _masked(mask, score=to_numpy(score, "score"), truth=_as_bool(truth, "truth"))
        missing = int(np.count_nonzero(np.isnan(scores)))
        if missing:
            raise ValueError(f"score holds {missing} NaN of {scores.size} counted voxels; expected numbers")
        position = (scores.astype(np.float64) - self.low) * (self.bins / (self.high - self.low))
        index = np.ceil(np.clip(position, 0, self.bins)).astype(np.int64)
        in_lesion = np.bincount(index[lesions], minlength=self.bins + 1)
        self.lesion += in_lesion
        self.healthy += np.bincount(index, minlength=self.bins + 1) - in_lesion

    def merge(self, other: ScoreHistogram) -> None:
        """Add the counts of another histogram to this one.

        Raises
        ------
        ValueError
            If its bins are others.
        """
        if (self.low, self.high, self.bins) != (other.low, other.high, other.bins):
            raise ValueError(
                f"other must have the same bins: [{self.low}, {self.high}] in {self.bins}, got "
                f"[{other.low}, {other.high}] in {other.bins}"
            )
        self.lesion += other.lesion
        self.healthy += other.healthy

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        total = ScoreHistogram(self.low, self.high, self.bins)
        total.merge(self)
        total.merge(other)
        return total

    def auc(self) -> float:
        """Area under the ROC curve of all counted voxels.

        The trapezoid through (0, 0), every bin's edge and (1, 1), which is the probability that a lesion voxel scores
        higher than a healthy one, ties counting half (method: Chen et al., MedIA 2020, section 3.2).

        Raises
        ------
        UndefinedMetricError
            If no lesion or no healthy voxel was counted.
        """
        lesion, healthy = self.lesion.astype(np.float64), self.healthy.astype(np.float64)
        if lesion.sum() == 0 or healthy.sum() == 0:
            raise UndefinedMetricError(
                f"the AUC needs lesion and healthy voxels, got {int(lesion.sum())} and {int(healthy.sum())}"
            )
        below = np.cumsum(healthy) - healthy
        # Not np.dot: BLAS starts threads for a vector this short, and a bootstrap calls it a thousand times.
        return float(np.sum(lesion * (below + healthy / 2)) / (lesion.sum() * healthy.sum()))


def dice(prediction: Array, truth: Array, mask: Array | None = None) -> float:
    """Dice similarity coefficient of one subject, `2 |P and T| / (|P| + |T|)` inside the mask.

    Parameters
    ----------
    prediction, truth : numpy.ndarray or torch.Tensor
        Bool or 0/1, of the same shape: all slices of the subject together.
    mask : numpy.ndarray or torch.Tensor, optional
        Same shape, bool or 0/1: the voxels to count, by default all.

    Returns
    -------
    float
        From 0 to 1; 1 where there is neither a lesion nor a detection.

    Raises
    ------
    ValueError
        If the shapes differ or the values are not 0/1.
    """
    detected, lesions = _masked(mask, prediction=_as_bool(prediction, "prediction"), truth=_as_bool(truth, "truth"))
    total = int(np.count_nonzero(detected)) + int(np.count_nonzero(lesions))
    return 2 * int(np.count_nonzero(detected & lesions)) / total if total else 1.0


def fpr_threshold(scores: Array, limit: float) -> float:
    """Find the smallest threshold T for which the fraction of healthy `scores > T` is at most `limit`.

    An order statistic, so the limit is never exceeded, whatever the ties (method: Chen et al., MedIA 2020, section
    2.2.3, whose search goes to the nearest rate and may exceed it). Compare with `>` in the precision of `scores`.

    Parameters
    ----------
    scores : numpy.ndarray or torch.Tensor
        Scores of healthy voxels inside their masks, any shape.
    limit : float
        Largest false-positive rate, in [0, 1).

    Returns
    -------
    float
        One of the scores.

    Raises
    ------
    ValueError
        If there are no scores, one is NaN, or the limit lies outside its range.
    """
    if not 0 <= limit < 1:
        raise ValueError(f"limit must be a rate in [0, 1), got {limit}")
    values = to_numpy(scores, "scores").reshape(-1)
    if values.size == 0:
        raise ValueError("scores are empty: a threshold needs healthy voxels")
    missing = int(np.count_nonzero(np.isnan(values)))
    if missing:
        raise ValueError(f"scores hold {missing} NaN of {values.size}; expected numbers")
    # The most scores that may lie above. Rounding can put `limit * size` on the wrong side of a whole number.
    above = math.floor(limit * values.size)
    if (above + 1) / values.size <= limit:
        above += 1
    elif above / values.size > limit:
        above -= 1
    rank = values.size - 1 - above
    return float(np.partition(values, rank)[rank])


def bootstrap_interval(
    histograms: Sequence[ScoreHistogram],
    statistic: Callable[[ScoreHistogram], float] = ScoreHistogram.auc,
    *,
    versus: Sequence[ScoreHistogram] | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval over subjects of a pooled statistic.

    Subjects are drawn with replacement, since voxels of one subject are not independent; their counts are merged and
    the statistic computed again. Draws on which it is undefined, such as an AUC of subjects that all lack a lesion,
    are left out.

    Parameters
    ----------
    histograms : sequence of ScoreHistogram
        One per subject, with the same bins.
    statistic : callable
        From a merged histogram to a number, by default the AUC.
    versus : sequence of ScoreHistogram, optional
        Another method on the same subjects, in the same order: the interval is then that of the difference,
        `histograms` minus `versus`, with the same subjects drawn for both (paired).
    n : int
        Number of resamples.
    seed : int
        Seed of the draws.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper bound.

    Raises
    ------
    ValueError
        If there are fewer than two subjects, their bins differ, `versus` has another number of them, or `n` or `level`
        is out of range.
    UndefinedMetricError
        If the statistic is undefined on more than a tenth of the resamples.
    """
    if len(histograms) < 2:
        raise ValueError(f"histograms must be those of two or more subjects, got {len(histograms)}")
    if n < 1:
        raise ValueError(f"n must be at least 1 resample, got {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if versus is not None and len(versus) != len(histograms):
        raise ValueError(f"versus must have one for each of {len(histograms)} subjects, got {len(versus)}")
    methods = [histograms] if versus is None else [histograms, versus]
    pooled = [_pool(method) for method in methods]  # raises where the bins differ
    # float64 for the matrix product: exact for counts up to 2^53.
    counts = [np.stack([[h.lesion, h.healthy] for h in method]).astype(np.float64) for method in methods]
    subjects = len(histograms)
    weights = np.random.default_rng(seed).multinomial(subjects, np.full(subjects, 1 / subjects), size=n)
    values = []
    for start in range(0, n, _RESAMPLES_AT_ONCE):
        drawn = weights[start : start + _RESAMPLES_AT_ONCE].astype(np.float64)
        merged = [np.rint(drawn @ c.reshape(subjects, -1)).astype(np.int64).reshape(len(drawn), 2, -1) for c in counts]
        for draw in zip(*merged, strict=True):
            for resample, (lesion, healthy) in zip(pooled, draw, strict=True):
                resample.lesion, resample.healthy = lesion, healthy
            try:
                found = [statistic(resample) for resample in pooled]
            except UndefinedMetricError:
                continue
            values.append(found[0] if versus is None else found[0] - found[1])
    if n - len(values) > _MOST_UNDEFINED * n:
        raise UndefinedMetricError(
            f"the statistic is undefined on {n - len(values)} of {n} resamples of {subjects} subjects: too few of them "
            f"have lesion or healthy voxels for an interval"
        )
    lower, upper = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)


def _pool(histograms: Sequence[ScoreHistogram]) -> ScoreHistogram:
    pooled = ScoreHistogram(histograms[0].low, histograms[0].high, histograms[0].bins)
    for histogram in histograms:
        pooled.merge(histogram)
    return pooled


def _as_bool(array: Array, name: str) -> npt.NDArray[np.bool_]:
    values = to_numpy(array, name)
    if values.dtype == np.bool_:
        return values
    result: npt.NDArray[np.bool_] = values != 0
    if not np.array_equal(result, values):
        raise ValueError(f"{name} must be bool or hold 0 and 1 alone, got values up to {np.max(values)}; compare first")
    return result


def _masked(mask: Array | None, **arrays: NumpyArray) -> list[NumpyArray]:
    """Check that the arrays share a shape and select the masked voxels of each, flat."""
    (first_name, first), *others = arrays.items()
    chosen = None if mask is None else _as_bool(mask, "mask")
    for name, other in [*others, *([] if chosen is None else [("mask", chosen)])]:
        if other.shape != first.shape:
            raise ValueError(f"{name} must have the shape of {first_name}, {first.shape}, got {other.shape}")
    return [array.reshape(-1) if chosen is None else array[chosen] for array in arrays.values()]
