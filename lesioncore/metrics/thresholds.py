"""Thresholds from healthy people that keep a limit exactly: of one pool of scores, or for most new subjects."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.metrics.base import per_subject


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
        raise ValueError(f"limit: got {limit}, expected a rate in [0, 1)")
    values = to_numpy(scores, "scores").reshape(-1)
    if values.size == 0:
        raise ValueError("scores: got none, expected those of healthy voxels")
    missing = int(np.count_nonzero(np.isnan(values)))
    if missing:
        raise ValueError(f"scores: got {missing} NaN of {values.size}, expected numbers")
    rank = values.size - 1 - _most_within(limit, values.size)
    return float(np.partition(values, rank)[rank])


def conformal_threshold(subject_thresholds: npt.ArrayLike, share: float) -> float:
    """Find the threshold at which at most a share of new healthy subjects exceeds a limit on its false positives.

    `fpr_threshold` of pooled scores keeps the limit on the average; single subjects lie above it. Here each of n
    healthy subjects brings the threshold at which its own rate meets the limit, and the k-th smallest of them,
    k = ceil((n + 1) (1 - share)), is returned. A new subject that is exchangeable with them then exceeds the limit with
    a probability of at most `share`, over the draw of all n + 1 (split conformal prediction: Vovk et al., Algorithmic
    Learning in a Random World, 2005; Angelopoulos and Bates, Foundations and Trends in Machine Learning, 2023).

    Parameters
    ----------
    subject_thresholds : array-like of float
        `[subjects]`: `fpr_threshold` of each subject's own scores, all with the same limit.
    share : float
        Largest probability to exceed it, in (0, 1).

    Returns
    -------
    float
        One of the thresholds.

    Raises
    ------
    ValueError
        If there are too few subjects for the share, a threshold is NaN, or the share lies outside its range.
    """
    if not 0 < share < 1:
        raise ValueError(f"share: got {share}, expected a number between 0 and 1")
    thresholds = per_subject(subject_thresholds, "subject_thresholds")
    missing = int(np.count_nonzero(np.isnan(thresholds)))
    if missing:
        raise ValueError(f"subject_thresholds: got {missing} NaN of {thresholds.size}, expected numbers")
    exceeding = _most_within(share, thresholds.size + 1)
    if exceeding == 0:
        # The smallest n with 1 / (n + 1) <= share, as it rounds.
        needed = round(1 / share) - (1 / round(1 / share) <= share)
        raise ValueError(
            f"subject_thresholds: got those of {thresholds.size} subjects, expected {needed} or more for a share of "
            f"{share}"
        )
    rank = thresholds.size - exceeding
    return float(np.partition(thresholds, rank)[rank])


def _most_within(limit: float, size: int) -> int:
    """Find the largest whole number whose fraction of `size` is at most `limit`."""
    most = math.floor(limit * size)  # rounding can put the product on the wrong side of a whole number
    if (most + 1) / size <= limit:
        most += 1
    elif most / size > limit:
        most -= 1
    return most
