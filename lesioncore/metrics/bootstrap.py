"""Bootstrap intervals over people, of pooled voxels and of numbers that each scan has."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import numpy.typing as npt

from lesioncore.metrics.base import Counts, Floats, UndefinedMetricError, per_subject
from lesioncore.metrics.histogram import ScoreHistogram

# Resamples are made this many at a time, and of so many scans at once: 100 of 10,000 bins are 16 MB.
_RESAMPLES_AT_ONCE, _SCANS_AT_ONCE = 100, 100
_MOST_UNDEFINED = 0.1


def bootstrap_interval(
    histograms: Sequence[ScoreHistogram],
    statistic: Callable[[ScoreHistogram], float] = ScoreHistogram.auc,
    *,
    versus: Sequence[ScoreHistogram] | None = None,
    people: Sequence[Hashable] | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval over people of a pooled statistic.

    People are drawn with replacement, each with all scans, since neither voxels of one scan nor scans of one person are
    independent; their counts are merged and the statistic computed again. Draws on which it is undefined, such as an
    AUC of people who all lack a lesion, are left out.

    Parameters
    ----------
    histograms : sequence of ScoreHistogram
        One per scan, with the same bins.
    statistic : callable
        From a merged histogram to a number, by default the AUC.
    versus : sequence of ScoreHistogram, optional
        Another method on the same scans, in the same order: the interval is then that of the difference,
        `histograms` minus `versus`, with the same people drawn for both (paired).
    people : sequence of hashable, optional
        Who each scan is of; when absent, each is of another person.
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
        If there are fewer than two people, the bins differ, `versus` or `people` are of another number of scans, or
        `n` or `level` is out of range.
    UndefinedMetricError
        If the statistic is undefined on more than a tenth of the resamples.
    """
    _check(n, level)
    if versus is not None and len(versus) != len(histograms):
        raise ValueError(f"versus: got {len(versus)}, expected one for each of {len(histograms)} scans")
    member, number = _numbers(people, len(histograms))
    if number < 2:
        raise ValueError(f"histograms: got those of {number} people, expected two or more")
    methods = [histograms] if versus is None else [histograms, versus]
    pooled = [_pool(method) for method in methods]  # raises where the bins differ
    filled = [np.flatnonzero(np.concatenate([total.lesion, total.healthy])) for total in pooled]
    weights = _draw(number, n, seed)
    values = []
    for start in range(0, n, _RESAMPLES_AT_ONCE):
        drawn = weights[start : start + _RESAMPLES_AT_ONCE][:, member]
        merged = [_resampled(method, drawn, bins) for method, bins in zip(methods, filled, strict=True)]
        for draw in zip(*merged, strict=True):
            for resample, (lesion, healthy) in zip(pooled, draw, strict=True):
                resample.lesion, resample.healthy = lesion, healthy
            try:
                statistics = [statistic(resample) for resample in pooled]
            except UndefinedMetricError:
                continue
            values.append(statistics[0] if versus is None else statistics[0] - statistics[1])
    if n - len(values) > _MOST_UNDEFINED * n:
        raise UndefinedMetricError(
            f"the statistic is undefined on {n - len(values)} of {n} resamples of {number} people: too few of them "
            f"have lesion or healthy voxels for an interval"
        )
    return _interval(values, level)


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    versus: npt.ArrayLike | None = None,
    people: Sequence[Hashable] | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over scans of a number that each of them has, such as its Dice.

    People are drawn with replacement, each with all scans; the mean is that of all scans drawn.

    Parameters
    ----------
    values : array-like of float
        `[scans]`; NaN where a scan's is undefined, which leaves the scan out.
    versus : array-like of float, optional
        Another method on the same scans, in the same order: the interval is then that of the mean difference,
        `values` minus `versus`, over the scans that have both (paired).
    people : sequence of hashable, optional
        Who each scan is of; when absent, each is of another person.
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
        If fewer than two people are left, a value is infinite, `versus` or `people` are of another number of scans, or
        `n` or `level` is out of range.
    """
    _check(n, level)
    scores = _finite_or_nan(values, "values")
    if versus is not None:
        baseline = _finite_or_nan(versus, "versus")
        if baseline.size != scores.size:
            raise ValueError(f"versus: got {baseline.size}, expected one for each of {scores.size} scans")
        scores = scores - baseline
    member, number = _numbers(people, scores.size)
    defined = ~np.isnan(scores)
    known, left = _numbers(member[defined].tolist(), int(defined.sum()))
    if left < 2:
        raise ValueError(f"values: got defined ones of {left} of {number} people, expected two or more")
    weights = _draw(left, n, seed)
    return _interval((weights @ np.bincount(known, scores[defined])) / (weights @ np.bincount(known)), level)


def _numbers(people: Sequence[Hashable] | None, scans: int) -> tuple[Counts, int]:
    """Number the people from 0, in the order of their first scans: each scan's number, and how many there are."""
    if people is None:
        return np.arange(scans), scans
    if len(people) != scans:
        raise ValueError(f"people: got {len(people)}, expected one for each of {scans} scans")
    numbers = {person: number for number, person in enumerate(dict.fromkeys(people))}
    return np.array([numbers[person] for person in people], dtype=np.int64), len(numbers)


def _pool(histograms: Sequence[ScoreHistogram]) -> ScoreHistogram:
    pooled = ScoreHistogram(histograms[0].low, histograms[0].high, histograms[0].bins)
    for histogram in histograms:
        pooled.merge(histogram)
    return pooled


def _resampled(histograms: Sequence[ScoreHistogram], drawn: Counts, filled: Counts) -> Counts:
    """Counts by truth and bin in each resample, ``[resamples, 2, bins + 1]``.

    `drawn` says how often each scan is in each of them, and `filled` which of the counts of lesion and healthy voxels,
    one behind the other, are not 0 in all scans.
    """
    sums = np.zeros((len(drawn), len(filled)))
    for start in range(0, len(histograms), _SCANS_AT_ONCE):
        part = histograms[start : start + _SCANS_AT_ONCE]
        # float64 for the matrix product: exact for counts up to 2^53.
        counts = np.array([np.concatenate([scan.lesion, scan.healthy])[filled] for scan in part], np.float64)
        sums += drawn[:, start : start + _SCANS_AT_ONCE].astype(np.float64) @ counts
    merged = np.zeros((len(drawn), 2 * (histograms[0].bins + 1)), np.int64)
    merged[:, filled] = np.rint(sums).astype(np.int64)
    return merged.reshape(len(drawn), 2, -1)


def _finite_or_nan(values: npt.ArrayLike, name: str) -> Floats:
    result = per_subject(values, name)
    infinite = int(np.count_nonzero(np.isinf(result)))
    if infinite:
        raise ValueError(f"{name}: got {infinite} infinite of {result.size}, expected numbers, or NaN where undefined")
    return result


def _check(n: int, level: float) -> None:
    if n < 1:
        raise ValueError(f"n: got {n}, expected at least 1 resample")
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}, expected a number between 0 and 1")


def _draw(people: int, n: int, seed: int) -> Counts:
    """Draw how often each person is in each resample, `[n, people]`."""
    return np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=n)


def _interval(values: Sequence[float] | Floats, level: float) -> tuple[float, float]:
    lower, upper = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)
