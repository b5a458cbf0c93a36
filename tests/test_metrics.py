"""Streaming metrics agree with their textbook definitions, and thresholds keep their limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, roc_auc_score

from lesioncore.metrics import ScoreHistogram, UndefinedMetricError, bootstrap_interval, dice, fpr_threshold

LEVELS = st.integers(0, 9).map(lambda level: level / 10)  # few values: many ties


def subject(seed, n=4000, lesion_share=0.05, shift=1.0):
    """Scores as absolute residuals are: most near 0, many exactly 0, lesions higher; and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=n) < lesion_share
    score = np.abs(rng.normal(size=n) * 0.5 + shift * truth * rng.uniform(0, 2, size=n))
    score[rng.uniform(size=n) < 0.3] = 0
    return score, truth


def histogram_of(score, truth, **bins):
    histogram = ScoreHistogram(**{"low": 0.0, "high": 5.0, **bins})
    histogram.add(score, truth)
    return histogram


class TestScoreHistogram:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("scale", [1.0, 0.3])
    def test_auc_agrees_with_scikit_learn(self, seed, scale):
        score, truth = subject(seed, n=50_000)
        score *= scale
        assert histogram_of(score, truth).auc() == pytest.approx(roc_auc_score(truth, score), abs=1e-4)

    @given(
        values=st.lists(st.tuples(st.integers(0, 15), st.booleans()), min_size=2, max_size=60).filter(
            lambda pairs: len({truth for _, truth in pairs}) == 2
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_auc_is_exact_where_bins_hold_one_value(self, values):
        score, truth = (np.array(column) for column in zip(*values, strict=True))
        auc = histogram_of(score, truth, low=0.0, high=15.0, bins=15).auc()
        assert auc == pytest.approx(roc_auc_score(truth, score), abs=1e-12)

    def test_anchors(self):
        """Perfect, reversed and blind scores; the last is a half although the curve has no inner point."""
        truth = np.array([False, False, True])
        assert histogram_of(np.array([0.1, 0.2, 0.9]), truth).auc() == 1
        assert histogram_of(np.array([0.8, 0.9, 0.1]), truth).auc() == 0
        assert histogram_of(np.zeros(3), truth).auc() == 0.5

    def test_scores_beyond_the_range_keep_their_side(self):
        score = np.array([-np.inf, -3.0, 7.0, np.inf])
        histogram = histogram_of(score, np.array([False, False, True, True]), low=0.0, high=1.0, bins=4)
        assert histogram.healthy.tolist() == [2, 0, 0, 0, 0]
        assert histogram.lesion.tolist() == [0, 0, 0, 0, 2]

    def test_the_smallest_score_above_low_is_no_tie(self):
        truth = np.array([False] * 9 + [True])
        assert histogram_of(np.array([0.0] * 9 + [1e-30]), truth).auc() == 1

    def test_values_fall_between_their_edges(self):
        histogram = ScoreHistogram(-1.0, 3.0, bins=7)
        score = np.random.default_rng(0).uniform(-1, 3, size=1000)
        histogram.add(score, score > 1)
        expected, _ = np.histogram(score, histogram.edges)
        assert (histogram.lesion + histogram.healthy).tolist() == [0, *expected]

    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
    def test_only_masked_voxels_count(self, kind, dtype):
        score, truth = subject(0, n=600)
        score = score.astype(dtype).reshape(10, 1, 6, 10)
        truth = truth.reshape(score.shape)
        mask = np.random.default_rng(1).uniform(size=score.shape) > 0.5
        score[~mask] = np.nan
        histogram = ScoreHistogram(0.0, 5.0)
        histogram.add(kind(score), kind(truth), kind(mask))
        assert int(histogram.lesion.sum()) == int(truth[mask].sum())
        assert int(histogram.healthy.sum()) == int((~truth[mask]).sum())
        assert histogram.auc() == histogram_of(score[mask], truth[mask]).auc()

    @given(cuts=st.lists(st.integers(0, 300), max_size=5))
    @settings(max_examples=30, deadline=None)
    def test_parts_merge_to_the_whole(self, cuts):
        score, truth = subject(4, n=300)
        whole = histogram_of(score, truth)
        parts = [
            histogram_of(*pair)
            for pair in zip(np.split(score, sorted(cuts)), np.split(truth, sorted(cuts)), strict=True)
        ]
        merged = sum(parts[1:], start=parts[0])
        streamed = ScoreHistogram(0.0, 5.0)
        for part in parts:
            streamed.merge(part)
        for total in (merged, streamed):
            np.testing.assert_array_equal(total.lesion, whole.lesion)
            np.testing.assert_array_equal(total.healthy, whole.healthy)

    def test_adding_leaves_the_summands(self):
        first, second = histogram_of(*subject(0)), histogram_of(*subject(1))
        before = first.healthy.copy()
        assert (first + second).healthy.sum() == first.healthy.sum() + second.healthy.sum()
        np.testing.assert_array_equal(first.healthy, before)

    def test_huge_counts_do_not_overflow(self):
        histogram = ScoreHistogram(0.0, 1.0, bins=2)
        histogram.lesion[:] = [10**9, 3 * 10**9, 0]
        histogram.healthy[:] = [3 * 10**12, 10**12, 0]
        assert histogram.auc() == pytest.approx(0.75 * 0.75 + 0.5 * (0.25 * 0.75 + 0.75 * 0.25))

    def test_errors(self):
        score, truth = subject(0, n=50)
        histogram = ScoreHistogram(0.0, 5.0)
        with pytest.raises(UndefinedMetricError, match="0 and 0"):
            histogram.auc()
        with pytest.raises(UndefinedMetricError, match="50 and 0"):
            histogram_of(score, np.ones(50, dtype=bool)).auc()
        with pytest.raises(UndefinedMetricError, match="0 and 50"):
            histogram_of(score, np.zeros(50, dtype=bool)).auc()
        with pytest.raises(ValueError, match=r"truth must have the shape of score, \(50,\), got \(49,\)"):
            histogram.add(score, truth[:49])
        with pytest.raises(ValueError, match="mask must have the shape of score"):
            histogram.add(score, truth, truth[:1])
        with pytest.raises(ValueError, match="truth must be bool"):
            histogram.add(score, truth * 2)
        with pytest.raises(ValueError, match="1 NaN of 50"):
            histogram.add(np.where(np.arange(50) == 7, np.nan, score), truth)
        with pytest.raises(ValueError, match="same bins"):
            histogram.merge(ScoreHistogram(0.0, 4.0))
        with pytest.raises(ValueError, match="low < high"):
            ScoreHistogram(1.0, 1.0)
        with pytest.raises(ValueError, match="bins"):
            ScoreHistogram(0.0, 1.0, bins=0)
        assert histogram.healthy.sum() == 0  # no half-added data


class TestDice:
    @given(
        labels=hnp.arrays(np.bool_, st.tuples(st.just(3), st.integers(1, 40))),
        kind=st.sampled_from([np.asarray, torch.from_numpy]),
    )
    @settings(max_examples=100, deadline=None)
    def test_is_the_f1_score_inside_the_mask(self, labels, kind):
        prediction, truth, mask = labels
        expected = f1_score(truth[mask], prediction[mask], zero_division=1.0) if mask.any() else 1.0
        assert dice(kind(prediction), kind(truth), kind(mask)) == pytest.approx(expected)
        assert dice(prediction, truth) == pytest.approx(f1_score(truth, prediction, zero_division=1.0))

    def test_conventions(self):
        none, some = np.zeros((2, 3)), np.eye(2, 3)
        assert dice(none, none) == 1
        assert dice(some, none) == dice(none, some) == 0
        assert dice(some.astype(np.uint8), some.astype(bool)) == 1
        assert dice(some, none, none) == 1  # nothing to count

    def test_errors(self):
        with pytest.raises(ValueError, match="truth must have the shape of prediction"):
            dice(np.zeros(3), np.zeros(4))
        with pytest.raises(ValueError, match="prediction must be bool or hold 0 and 1 alone"):
            dice(np.full(3, 0.7), np.zeros(3))
        with pytest.raises(ValueError, match="mask must be bool"):
            dice(np.zeros(3), np.zeros(3), np.full(3, np.nan))


class TestFprThreshold:
    @given(
        scores=hnp.arrays(np.float32, st.integers(1, 80), elements=LEVELS.map(np.float32) | st.floats(0, 1, width=32)),
        limit=st.sampled_from([0.0, 0.01, 0.05, 0.07, 0.1, 0.29, 0.5, 0.99]) | st.floats(0, 1, exclude_max=True),
    )
    @settings(max_examples=200, deadline=None)
    def test_is_the_smallest_that_keeps_the_limit(self, scores, limit):
        threshold = fpr_threshold(scores, limit)
        assert np.count_nonzero(scores > threshold) / scores.size <= limit
        # Between scores the rate does not change, so only what lies just below the threshold need be tried.
        below = np.nextafter(np.float32(threshold), np.float32(-np.inf))
        assert np.count_nonzero(scores > below) / scores.size > limit

    @given(size=st.integers(1, 3000), share=st.integers(0, 2999))
    @settings(max_examples=150, deadline=None)
    def test_whole_numbers_of_voxels_are_used_to_the_last(self, size, share):
        """A limit of k / n lets k scores pass, however k / n was rounded."""
        above = share % size
        assert fpr_threshold(np.arange(size), above / size) == size - 1 - above

    def test_ties_never_break_the_limit(self):
        scores = np.array([0.0] * 50 + [1.0] * 50)
        assert fpr_threshold(scores, 0.49) == 1.0
        assert fpr_threshold(scores, 0.5) == 0.0

    def test_tensors_and_shapes(self):
        scores = torch.rand(4, 1, 5, 5, generator=torch.Generator().manual_seed(0))
        threshold = fpr_threshold(scores, 0.05)
        assert int((scores > threshold).sum()) == 5
        assert fpr_threshold(scores.numpy(), 0.05) == threshold
        half = scores.bfloat16()
        assert int((half > fpr_threshold(half, 0.05)).sum()) <= 5

    def test_leaves_the_scores(self):
        scores = np.random.default_rng(0).uniform(size=100)
        before = scores.copy()
        fpr_threshold(scores, 0.1)
        np.testing.assert_array_equal(scores, before)

    @pytest.mark.parametrize("limit", [-0.1, 1.0, 5, float("nan")])
    def test_bad_limit(self, limit):
        with pytest.raises(ValueError, match="limit"):
            fpr_threshold(np.zeros(3), limit)

    def test_bad_scores(self):
        with pytest.raises(ValueError, match="empty"):
            fpr_threshold(np.zeros(0), 0.1)
        with pytest.raises(ValueError, match="2 NaN of 3"):
            fpr_threshold(np.array([0, np.nan, np.nan]), 0.1)


class TestBootstrap:
    def test_is_the_resampling_of_subjects(self):
        """The same draws of subjects, pooled by hand and scored by scikit-learn."""
        subjects = [subject(seed, n=300, shift=0.2 * seed) for seed in range(6)]
        low, high = bootstrap_interval([histogram_of(*pair) for pair in subjects], n=200, seed=5, level=0.9)
        values = []
        for weights in np.random.default_rng(5).multinomial(6, np.full(6, 1 / 6), size=200):
            drawn = [pair for pair, times in zip(subjects, weights, strict=True) for _ in range(times)]
            score, truth = (np.concatenate(column) for column in zip(*drawn, strict=True))
            values.append(roc_auc_score(truth, score))
        assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=1e-4)

    def test_seeded_and_ordered(self):
        histograms = [histogram_of(*subject(seed, shift=0.3 * seed)) for seed in range(8)]
        first = bootstrap_interval(histograms, seed=1, n=300)
        assert first == bootstrap_interval(histograms, seed=1, n=300)
        assert first != bootstrap_interval(histograms, seed=2, n=300)
        wide, narrow = (bootstrap_interval(histograms, level=level, n=300) for level in (0.99, 0.5))
        pooled = sum(histograms[1:], start=histograms[0]).auc()
        assert wide[0] < narrow[0] < pooled < narrow[1] < wide[1]

    def test_any_statistic(self):
        histograms = [histogram_of(*subject(seed, lesion_share=0.02 * (seed + 1))) for seed in range(5)]

        def lesion_share(histogram):
            return histogram.lesion.sum() / (histogram.lesion.sum() + histogram.healthy.sum())

        low, high = bootstrap_interval(histograms, lesion_share)
        assert 0.02 < low < 0.06 < high < 0.1

    def test_covers_the_truth_about_as_often_as_it_says(self):
        """Subjects that differ: the interval over subjects holds the population's value, one over voxels would not."""
        rng = np.random.default_rng(0)
        covered = 0
        for trial in range(60):
            histograms = []
            for _ in range(30):
                histogram = ScoreHistogram(0.0, 1.0, bins=2)
                share = rng.beta(4, 4)
                histogram.healthy[1] = rng.binomial(1000, share)
                histogram.healthy[2] = 1000 - histogram.healthy[1]
                histograms.append(histogram)
            low, high = bootstrap_interval(
                histograms, lambda pooled: pooled.healthy[1] / pooled.healthy.sum(), n=300, seed=trial, level=0.9
            )
            covered += low <= 0.5 <= high
        assert 0.78 * 60 <= covered <= 0.98 * 60

    def test_draws_without_a_lesion_are_left_out(self):
        rare = [histogram_of(*subject(seed, lesion_share=0.05 if seed < 4 else 0.0)) for seed in range(20)]
        low, high = bootstrap_interval(rare)
        assert 0.5 < low < high < 1
        with pytest.raises(UndefinedMetricError, match=r"undefined on \d+ of 1000 resamples of 20 subjects"):
            bootstrap_interval(rare[3:] + rare[-3:])

    def test_errors(self):
        histograms = [histogram_of(*subject(seed)) for seed in range(3)]
        with pytest.raises(ValueError, match="two or more"):
            bootstrap_interval(histograms[:1])
        with pytest.raises(ValueError, match="same bins"):
            bootstrap_interval([*histograms, ScoreHistogram(0.0, 1.0)])
        with pytest.raises(ValueError, match="level"):
            bootstrap_interval(histograms, level=1.0)
        with pytest.raises(ValueError, match="n must"):
            bootstrap_interval(histograms, n=0)


def test_bootstrap_of_a_difference_is_paired():
    rng = np.random.default_rng(0)
    first, second = [], []
    for _ in range(12):
        # Subjects differ far more than the two methods do.
        shift = rng.normal(0, 2)
        truth = rng.random(400) < 0.3
        score = rng.normal(size=400) + shift * truth
        for histograms, gain in ((first, 0.3), (second, 0.0)):
            histograms.append(ScoreHistogram(-12, 12))
            histograms[-1].add(score + gain * truth, truth)
    low, high = bootstrap_interval(first, versus=second)
    alone = np.subtract(*bootstrap_interval(first)[::-1])
    assert 0 < low < high < 0.2
    assert high - low < 0.3 * alone
    assert bootstrap_interval(first, versus=first) == (0.0, 0.0)
    with pytest.raises(ValueError, match="12 subjects"):
        bootstrap_interval(first, versus=second[:3])
