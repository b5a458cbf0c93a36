"""Streamed counts agree with their textbook definitions, and intervals over subjects with resampling by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.metrics import roc_auc_score

from lesioncore.metrics import ScoreHistogram, UndefinedMetricError, bootstrap_interval, bootstrap_mean


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
        with pytest.raises(ValueError, match=r"truth: got shape \(49,\), expected that of score, \(50,\)"):
            histogram.add(score, truth[:49])
        with pytest.raises(ValueError, match=r"mask: got .* expected that of score"):
            histogram.add(score, truth, truth[:1])
        with pytest.raises(ValueError, match=r"truth: got .* expected bool"):
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
        with pytest.raises(UndefinedMetricError, match=r"undefined on \d+ of 1000 resamples of 20 people"):
            bootstrap_interval(rare[3:] + rare[-3:])

    def test_errors(self):
        histograms = [histogram_of(*subject(seed)) for seed in range(3)]
        with pytest.raises(ValueError, match="got those of 1 people, expected two or more"):
            bootstrap_interval(histograms[:1])
        with pytest.raises(ValueError, match="same bins"):
            bootstrap_interval([*histograms, ScoreHistogram(0.0, 1.0)])
        with pytest.raises(ValueError, match="level"):
            bootstrap_interval(histograms, level=1.0)
        with pytest.raises(ValueError, match="n: got"):
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
    with pytest.raises(ValueError, match="12 scans"):
        bootstrap_interval(first, versus=second[:3])


class TestBootstrapMean:
    def test_is_the_resampling_of_subjects(self):
        values = np.random.default_rng(0).beta(2, 3, size=7)
        weights = np.random.default_rng(5).multinomial(7, np.full(7, 1 / 7), size=200)
        means = [np.mean(np.repeat(values, times)) for times in weights]
        expected = tuple(np.quantile(means, [0.05, 0.95]))
        assert bootstrap_mean(values, n=200, seed=5, level=0.9) == pytest.approx(expected)
        assert bootstrap_mean(values.tolist(), n=200, seed=5, level=0.9) == pytest.approx(expected)

    def test_of_a_difference_is_paired(self):
        rng = np.random.default_rng(0)
        worse = rng.uniform(size=20)
        better = worse + rng.normal(0.1, 0.02, size=20)
        low, high = bootstrap_mean(better, versus=worse)
        assert 0.08 < low < np.mean(better - worse) < high < 0.12
        assert bootstrap_mean(better, versus=better) == (0.0, 0.0)
        assert bootstrap_mean(better, versus=worse) == bootstrap_mean(better - worse)

    def test_undefined_subjects_are_left_out_of_both(self):
        rng = np.random.default_rng(1)
        first, second = rng.uniform(size=(2, 9))
        both = np.ones(9, dtype=bool)
        both[[2, 3, 7]] = False
        expected = bootstrap_mean(first[both], versus=second[both])
        first[[2, 3]] = np.nan
        second[[3, 7]] = np.nan
        assert bootstrap_mean(first, versus=second) == expected
        assert bootstrap_mean(first) == bootstrap_mean(np.delete(first, [2, 3]))

    def test_errors(self):
        with pytest.raises(ValueError, match="1 of 1 people, expected two or more"):
            bootstrap_mean([0.5])
        with pytest.raises(ValueError, match="1 of 3 people, expected two or more"):
            bootstrap_mean([0.5, np.nan, 0.1], versus=[0.5, 0.1, np.nan])
        with pytest.raises(ValueError, match="versus: got 3, expected one for each of 2 scans"):
            bootstrap_mean([0.5, 0.1], versus=[0.5, 0.1, 0.2])
        with pytest.raises(ValueError, match="versus: got 1 infinite of 2"):
            bootstrap_mean([0.5, 0.1], versus=[0.5, np.inf])
        with pytest.raises(ValueError, match=r"values: got shape \(2, 2\), expected one number per subject"):
            bootstrap_mean(np.zeros((2, 2)))
        with pytest.raises(ValueError, match="level"):
            bootstrap_mean([0.5, 0.1], level=0)
        with pytest.raises(ValueError, match="n: got"):
            bootstrap_mean([0.5, 0.1], n=0)
