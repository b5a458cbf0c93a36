"""Mergeable histograms of lesion and healthy scores, and the curves of any number of subjects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.metrics.base import Counts, Floats, UndefinedMetricError, as_bool, shared_mask
from lesioncore.metrics.confusion import Confusion


class RocCurve(NamedTuple):
    """Points of an ROC curve, `[points]` each: `score > threshold` detects healthy voxels at `fpr`, lesions at `tpr`.

    From (0, 0) with the threshold infinity to (1, 1) with minus infinity; both rates ascend.
    """

    threshold: Floats
    fpr: Floats
    tpr: Floats


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
            raise ValueError(f"low, high: got {self.low}, {self.high}, expected finite numbers with low < high")
        if self.bins < 1:
            raise ValueError(f"bins: got {self.bins}, expected at least 1")
        self.lesion = np.zeros(self.bins + 1, dtype=np.int64)
        self.healthy = np.zeros(self.bins + 1, dtype=np.int64)

    @property
    def edges(self) -> Floats:
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
        scores, lesions = to_numpy(score, "score"), as_bool(truth, "truth")
        inside = shared_mask(mask, score=scores, truth=lesions)
        scores, lesions = scores[inside], lesions[inside]
        missing = int(np.count_nonzero(np.isnan(scores)))
        if missing:
            raise ValueError(f"score: got {missing} NaN of {scores.size} counted voxels, expected numbers")
        # A search among the edges themselves, since arithmetic would round: thresholds at them are exact.
        index = np.minimum(np.searchsorted(self.edges, scores), self.bins)
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
                f"other: got [{other.low}, {other.high}] in {other.bins} bins, expected the same bins: "
                f"[{self.low}, {self.high}] in {self.bins}"
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
        self._need_lesion_and_healthy("the AUC")
        lesion, healthy = self.lesion.astype(np.float64), self.healthy.astype(np.float64)
        below = np.cumsum(healthy) - healthy
        # Not np.dot: BLAS starts threads for a vector this short, and a bootstrap calls it a thousand times.
        return float(np.sum(lesion * (below + healthy / 2)) / (lesion.sum() * healthy.sum()))

    def roc(self) -> RocCurve:
        """ROC curve of all counted voxels, `bins + 2` points: at every edge between bins, and at both ends.

        Raises
        ------
        UndefinedMetricError
            If no lesion or no healthy voxel was counted.
        """
        self._need_lesion_and_healthy("the ROC curve")
        threshold, tp, fp = self._detected()
        return RocCurve(threshold, fp / fp[-1], tp / tp[-1])

    def average_precision(self) -> float:
        """Area under the precision-recall curve of all counted voxels (AUPRC), in steps.

        The sum over thresholds of the precision times the gain in recall, which interpolates nothing; the scores of a
        bin are one step. It is that of `sklearn.metrics.average_precision_score`.

        Raises
        ------
        UndefinedMetricError
            If no lesion voxel was counted.
        """
        self._need_lesion("the average precision")
        _, tp, fp = self._detected()
        gained = np.diff(tp)
        steps = np.flatnonzero(gained)
        precision = tp[steps + 1] / (tp[steps + 1] + fp[steps + 1])
        return float(np.sum(precision * gained[steps]) / tp[-1])

    def best_dice(self) -> tuple[float, float]:
        """Find the largest Dice coefficient of all counted voxels, pooled, over every threshold.

        It chooses by the labels, so it bounds what a threshold from healthy people alone can reach (the field's
        "⌈Dice⌉": Baur et al., MedIA 2021), and it grows with the share of lesion in the data.

        Returns
        -------
        dice, threshold : float
            That of `score > threshold`, and the largest such threshold.

        Raises
        ------
        UndefinedMetricError
            If no lesion voxel was counted.
        """
        self._need_lesion("the best Dice")
        threshold, tp, fp = self._detected()
        dice = 2 * tp / (tp + fp + tp[-1])
        best = int(np.argmax(dice))
        return float(dice[best]), float(threshold[best])

    def youden_threshold(self) -> float:
        """Find the largest threshold that maximises the true-positive rate minus the false-positive rate.

        It chooses by the labels (T_AUC of Chen et al., MedIA 2020; Youden, Cancer 1950), and is infinity where no
        threshold does better than to detect nothing.

        Raises
        ------
        UndefinedMetricError
            If no lesion or no healthy voxel was counted.
        """
        curve = self.roc()
        return float(curve.threshold[np.argmax(curve.tpr - curve.fpr)])

    def confusion(self, threshold: float) -> Confusion:
        """Count the decisions of `score > threshold`.

        Exact at the edges. Inside a bin, whose scores count as tied, the threshold is that of its upper bound; one of
        `high` or more detects nothing, since scores beyond count as `high`, and one below `low` everything.

        Raises
        ------
        ValueError
            If the threshold is NaN.
        """
        if math.isnan(threshold):
            raise ValueError("threshold: got NaN, expected a number")
        first = int(np.searchsorted(self.edges, threshold)) + 1 if threshold >= self.low else 0
        tp, fp = int(self.lesion[first:].sum()), int(self.healthy[first:].sum())
        return Confusion(tp, fp, int(self.lesion.sum()) - tp, int(self.healthy.sum()) - fp)

    def _detected(self) -> tuple[Floats, Counts, Counts]:
        """Thresholds from infinity to minus infinity, and the lesion and healthy voxels above each."""
        threshold = np.concatenate([[np.inf], self.edges[-2::-1], [-np.inf]])
        tp, fp = (np.concatenate([[0], np.cumsum(counts[::-1])]) for counts in (self.lesion, self.healthy))
        return threshold, tp, fp

    def _need_lesion(self, metric: str) -> None:
        if not self.lesion.any():
            raise UndefinedMetricError(f"{metric} needs lesion voxels, got none")

    def _need_lesion_and_healthy(self, metric: str) -> None:
        lesion, healthy = int(self.lesion.sum()), int(self.healthy.sum())
        if not lesion or not healthy:
            raise UndefinedMetricError(f"{metric} needs lesion and healthy voxels, got {lesion} and {healthy}")
