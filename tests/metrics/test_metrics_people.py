"""Bootstraps of people with several scans: all scans of a person are drawn together."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lesioncore.metrics import ScoreHistogram, bootstrap_interval, bootstrap_mean

PEOPLE = ("b", "a", "b", "c", "a", "b", "d")
SCANS_OF = ((0, 2, 5), (1, 4), (3,), (6,))
"""Scans of each person, in the order of the first."""


def scan(seed: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(200 + 30 * seed) < 0.1
    return rng.normal(size=truth.size) + (0.3 * (seed % 4) + gain) * truth, truth


def histogram_of(score: np.ndarray, truth: np.ndarray) -> ScoreHistogram:
    histogram = ScoreHistogram(-8.0, 8.0)
    histogram.add(score, truth)
    return histogram


def draws(n: int = 200, seed: int = 5) -> list[list[int]]:
    """Scans of each resample of the four people, by hand."""
    counts = np.random.default_rng(seed).multinomial(4, np.full(4, 1 / 4), size=n)
    return [[i for scans, times in zip(SCANS_OF, row, strict=True) for i in scans * times] for row in counts]


def quantiles(values) -> tuple[float, ...]:
    return tuple(np.quantile(values, [0.05, 0.95]))


def test_pooled_voxels_are_those_of_all_scans_of_the_people_drawn():
    first, second = ([scan(seed, gain) for seed in range(7)] for gain in (0.5, 0.0))

    def auc(pairs, drawn):
        score, truth = (np.concatenate(part) for part in zip(*(pairs[i] for i in drawn), strict=True))
        return roc_auc_score(truth, score)

    options = {"people": PEOPLE, "n": 200, "seed": 5, "level": 0.9}
    histograms, others = ([histogram_of(*pair) for pair in pairs] for pairs in (first, second))
    expected = quantiles([auc(first, drawn) for drawn in draws()])
    assert bootstrap_interval(histograms, **options) == pytest.approx(expected, abs=1e-3)
    expected = quantiles([auc(first, drawn) - auc(second, drawn) for drawn in draws()])
    assert bootstrap_interval(histograms, versus=others, **options) == pytest.approx(expected, abs=1e-3)


def test_scans_are_drawn_a_few_at_a_time_as_all_at_once(monkeypatch):
    histograms = [histogram_of(*scan(seed)) for seed in range(7)]
    at_once = bootstrap_interval(histograms, people=PEOPLE, n=50)
    monkeypatch.setattr("lesioncore.metrics.bootstrap._SCANS_AT_ONCE", 2)
    assert bootstrap_interval(histograms, people=PEOPLE, n=50) == at_once


def test_a_mean_is_that_of_all_scans_of_the_people_drawn():
    values, others = np.random.default_rng(0).random((2, 7))
    options = {"people": PEOPLE, "n": 200, "seed": 5, "level": 0.9}
    expected = quantiles([values[drawn].mean() for drawn in draws()])
    assert bootstrap_mean(values, **options) == pytest.approx(expected)
    expected = quantiles([(values - others)[drawn].mean() for drawn in draws()])
    assert bootstrap_mean(values, versus=others, **options) == pytest.approx(expected)


def test_a_person_stays_with_the_scans_that_have_a_value():
    values = np.random.default_rng(0).random(7)
    values[[2, 3]] = np.nan
    left = [0, 1, 4, 5, 6]
    people = [PEOPLE[i] for i in left]
    assert bootstrap_mean(values, people=PEOPLE) == bootstrap_mean(values[left], people=people)


def test_one_scan_of_each_person_is_what_no_names_are():
    histograms, values = [histogram_of(*scan(seed)) for seed in range(6)], np.random.default_rng(1).random(6)
    names = list("fbaedc")
    assert bootstrap_interval(histograms, people=names, seed=3) == bootstrap_interval(histograms, seed=3)
    assert bootstrap_mean(values, people=names, seed=3) == bootstrap_mean(values, seed=3)


def test_scans_given_twice_make_no_interval_narrower():
    """Twice the same scans are no more people; as if they were, the interval would shrink by the root of two."""
    values = np.random.default_rng(2).random(20)
    twice, people = np.tile(values, 2), list(range(20)) * 2
    assert bootstrap_mean(twice, people=people) == pytest.approx(bootstrap_mean(values))
    assert np.ptp(bootstrap_mean(twice)) < 0.85 * np.ptp(bootstrap_mean(values))
    histograms = [histogram_of(*scan(seed)) for seed in range(6)]
    doubled = bootstrap_interval(histograms * 2, people=list(range(6)) * 2)
    assert doubled == pytest.approx(bootstrap_interval(histograms))


def test_errors():
    histograms = [histogram_of(*scan(seed)) for seed in range(3)]
    with pytest.raises(ValueError, match="histograms: got those of 1 people, expected two or more"):
        bootstrap_interval(histograms, people=["a", "a", "a"])
    with pytest.raises(ValueError, match="people: got 2, expected one for each of 3 scans"):
        bootstrap_interval(histograms, people=["a", "b"])
    with pytest.raises(ValueError, match="people: got 3, expected one for each of 2 scans"):
        bootstrap_mean([0.1, 0.2], people=["a", "b", "c"])
    with pytest.raises(ValueError, match="1 of 2 people, expected two or more"):
        bootstrap_mean([0.1, 0.2, np.nan], people=["a", "a", "b"])
