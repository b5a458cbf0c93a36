"""Bootstrap intervals over subjects, of pooled voxels and of numbers that each subject has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lesioncore.metrics.base import Counts, Floats, UndefinedMetricError, per_subject
from lesioncore.metrics.histogram import ScoreHistogram

# Resamples are merged this many at a time: 100 of 10,000 bins are 16 MB.
_RESAMPLES_AT_ONCE = 100
_MOST_UNDEFINED = 0.1


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
    _check(n, level)
    subjects = len(histograms)
    if subjects < 2:
        raise ValueError(f"histograms must be those of two or more subjects, got {subjects}")
    if versus is not None and len(versus) != subjects:
        raise ValueError(f"versus must have one for each of {subjects} subjects, got {len(versus)}")
    methods = [histograms] if versus is None else [histograms, versus]
    pooled = [_pool(method) for method in methods]  # raises where the bins differ
    # float64 for the matrix product: exact for counts up to 2^53.
    counts = [np.stack([[h.lesion, h.healthy] for h in method]).astype(np.float64) for method in methods]
    weights = _draw(subjects, n, seed)
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
    return _interval(values, level)


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    versus: npt.ArrayLike | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over subjects of a number that each of them has, such as its Dice.

    Parameters
    ----------
    values : array-like of float
        `[subjects]`; NaN where a subject's is undefined, which leaves the subject out.
    versus : array-like of float, optional
        Another method on the same subjects, in the same order: the interval is then that of the mean difference,
        `values` minus `versus`, over the subjects that have both (paired).
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
        If fewer than two subjects are left, a value is infinite, `versus` has another number of them, or `n` or
        `level` is out of range.
    """
    _check(n, level)
    scores = _finite_or_nan(values, "values")
    if versus is not None:
        others = _finite_or_nan(versus, "versus")
        if others.size != scores.size:
            raise ValueError(f"versus must have one for each of {scores.size} subjects, got {others.size}")
        scores = scores - others
    defined = scores[~np.isnan(scores)]
    if defined.size < 2:
        raise ValueError(f"values must be defined for two or more subjects, got {defined.size} of {scores.size}")
    return _interval(_draw(defined.size, n, seed) @ defined / defined.size, level)


def _pool(histograms: Sequence[ScoreHistogram]) -> ScoreHistogram:
    pooled = ScoreHistogram(histograms[0].low, histograms[0].high, histograms[0].bins)
    for histogram in histograms:
        pooled.merge(histogram)
    return pooled


def _finite_or_nan(values: npt.ArrayLike, name: str) -> Floats:
    result = per_subject(values, name)
    infinite = int(np.count_nonzero(np.isinf(result)))
    if infinite:
        raise ValueError(f"{name} hold {infinite} infinite of {result.size}; expected numbers, or NaN where undefined")
    return result


def _check(n: int, level: float) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1 resample, got {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")


def _draw(subjects: int, n: int, seed: int) -> Counts:
    """How often each subject is drawn, `[n, subjects]`."""
    return np.random.default_rng(seed).multinomial(subjects, np.full(subjects, 1 / subjects), size=n)


def _interval(values: Sequence[float] | Floats, level: float) -> tuple[float, float]:
    lower, upper = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)
