"""Summary of healthy people's scores: thresholds against order statistics, merging, bounds on people, remarks."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from lesioncore.calibration.healthy import LEVELS, HealthyScores, merged
from lesioncore.metrics import fpr_threshold

FINE = 2.0 ** (1 / 256)
SCORES = arrays(np.float32, st.integers(1, 60), elements=st.floats(-900, 900, width=32))


@cache
def people(count: int, seed: int = 0) -> HealthyScores:
    """People whose scores are |normal|, each of a spread of their own."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.8, 1.2, count)
    return merged(
        [HealthyScores.of(np.abs(rng.normal(size=2000)) * s, 0.1 * s, (140 * s, 170 + s, 130 + s)) for s in spread]
    )


@given(SCORES, st.floats(0, 0.99))
def test_threshold_never_lets_more_through_and_is_close_to_the_order_statistic(scores, limit):
    threshold, exact = HealthyScores.of(scores).threshold(limit), fpr_threshold(scores, limit)
    assert (scores > threshold).mean() <= limit
    assert exact <= threshold <= max(exact * FINE * (1 + 1e-6), exact / FINE, 0) + 2e-6


@given(SCORES, SCORES)
def test_merging_is_pooling(first, second):
    both = HealthyScores.of(first, bend=0.1) + HealthyScores.of(second, bend=0.2)
    pooled = HealthyScores.of(np.concatenate([first, second]))
    assert (both.first, both.counts, both.pixels) == (pooled.first, pooled.counts, len(first) + len(second))
    assert len(both.subjects) == 2
    assert HealthyScores.from_dict(json.loads(json.dumps(both.to_dict()))) == both


@given(SCORES, SCORES)
def test_rank_counts_lower_bins(scores, others):
    summary = HealthyScores.of(scores)
    ranks = summary.rank(others)
    assert ranks.dtype == np.float32
    for rank, other in zip(ranks, others, strict=True):
        assert rank <= (scores < other).mean() + 1e-6
        assert rank >= (scores < min(other / FINE, other * FINE) * (1 + 1e-6) - 2e-6).mean() - 1e-6
    order = np.argsort(others)
    assert (np.diff(ranks[order]) >= 0).all()


def test_zeros_rank_lowest_and_what_lies_beyond_the_bins_is_never_detected():
    summary = HealthyScores.of(np.array([0.0] * 8 + [1.0, 5000.0]))
    assert summary.rank(np.array([0.0, 1.0, 2.0])).tolist() == pytest.approx([0.0, 0.8, 0.9])
    assert summary.threshold(0.5) < 1e-6
    assert summary.threshold(0.1) == 1.0
    assert summary.threshold(0.0) == float("inf")


def test_probabilities_keep_their_fine_differences():
    scores = np.geomspace(1e-5, 0.999, 10_000)
    summary = HealthyScores.of(scores)
    for limit in (0.5, 0.9, 0.95):
        assert summary.threshold(limit) == pytest.approx(fpr_threshold(scores, limit), rel=0.003)


def test_risk_bounds_people():
    """Of new people from the same population at most the share `risk` exceeds the limit; with slack for 300 draws."""
    exceed = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        spread = rng.uniform(0.8, 1.2, 20)
        drawn = [np.abs(rng.normal(size=400)) * s for s in spread]
        summary = merged([HealthyScores.of(scores) for scores in drawn[:19]])
        exceed.append((drawn[19] > summary.threshold(0.05, risk=0.1)).mean() > 0.05)
        assert summary.threshold(0.05, risk=0.1) > summary.threshold(0.05)
    assert np.mean(exceed) <= 0.1 + 2 * np.sqrt(0.09 / 300)


def test_risk_between_stored_limits_takes_the_stricter():
    summary = people(10)
    between = np.sqrt(LEVELS[20] * LEVELS[21])
    assert summary.threshold(between, risk=0.2) == summary.threshold(LEVELS[20], risk=0.2)
    assert summary.threshold(LEVELS[20], risk=0.2) > summary.threshold(LEVELS[21], risk=0.2)


@pytest.mark.parametrize(
    ("limit", "risk", "message"),
    [(1.0, None, "fpr"), (-0.1, None, "fpr"), (float("nan"), None, "fpr"), (1e-6, 0.2, "fpr"), (0.05, 0.01, "99")],
)
def test_what_cannot_be_held_is_said(limit, risk, message):
    with pytest.raises(ValueError, match=message):
        people(10).threshold(limit, risk)


def test_unusual_scans_are_remarked():
    summary = people(12)
    rng = np.random.default_rng(5)
    usual = np.abs(rng.normal(size=2000))
    assert summary.unusual(usual, bend=0.1) == []
    lesion = usual.copy()
    lesion[:200] += 10
    assert summary.unusual(lesion, bend=0.1) == []
    (remark,) = summary.unusual(3 * usual, bend=0.1)
    assert "median score" in remark
    (remark,) = summary.unusual(usual, bend=0.9)
    assert "bent" in remark
    assert summary.unusual(usual) == []
    assert people(7).unusual(9 * usual, bend=9.0) == []  # too few to tell


def test_brains_of_another_extent_are_remarked():
    summary = people(12)
    scores = np.abs(np.random.default_rng(5).normal(size=2000))
    usual = (140.0, 171.0, 131.0)
    assert summary.unusual(scores, extent=usual) == []
    (remark,) = summary.unusual(scores, extent=(140.0, 131.0, 131.0))
    assert "131 mm from back to front, but 171 to 171 in the 12 healthy scans" in remark
    assert summary.unusual(scores, extent=(140.0, 160.0, 131.0)) == []  # less than a tenth shorter
    wrong_size = summary.unusual(scores, extent=tuple(2 * length for length in usual))
    assert [remark.split(" mm ")[1].split(",")[0] for remark in wrong_size] == [
        "from left to right",
        "from back to front",
        "from bottom to top",
    ]
    assert summary.unusual(scores, extent=None) == []
