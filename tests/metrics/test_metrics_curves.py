"""Curves of a histogram over every threshold agree with scikit-learn where bins hold one value each."""

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_curve

from lesioncore.metrics import Confusion, ScoreHistogram, UndefinedMetricError

VOXELS = st.lists(st.tuples(st.integers(0, 15), st.booleans()), min_size=2, max_size=60).map(
    lambda pairs: tuple(np.array(column) for column in zip(*pairs, strict=True))
)


def histogram_of(score, truth):
    """Of the whole numbers from 0 to 15, each with its bin."""
    histogram = ScoreHistogram(0.0, 15.0, bins=15)
    histogram.add(score, truth)
    return histogram


def normal(seed, n=20_000):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=n) < 0.05
    return rng.normal(size=n) + 1.5 * truth, truth


class TestRoc:
    @given(voxels=VOXELS)
    @settings(max_examples=100, deadline=None)
    def test_agrees_with_scikit_learn(self, voxels):
        score, truth = voxels
        assume(truth.any() and not truth.all())
        curve = histogram_of(score, truth).roc()
        fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
        np.testing.assert_allclose(np.unique(np.stack([curve.fpr, curve.tpr]), axis=1), [fpr, tpr], atol=1e-15)
        for threshold, fpr, tpr in zip(*curve, strict=True):
            assert np.mean(score[~truth] > threshold) == fpr
            assert np.mean(score[truth] > threshold) == tpr

    def test_runs_from_nothing_to_everything(self):
        threshold, fpr, tpr = curve = histogram_of(*np.array([[3, 4, 5], [0, 1, 0]])).roc()
        assert [len(column) for column in curve] == [17, 17, 17]
        assert (threshold[0], fpr[0], tpr[0]) == (np.inf, 0, 0)
        assert (threshold[-1], fpr[-1], tpr[-1]) == (-np.inf, 1, 1)
        assert threshold[1:-1].tolist() == list(range(14, -1, -1))

    @pytest.mark.parametrize("seed", range(3))
    def test_its_area_is_the_auc(self, seed):
        histogram = ScoreHistogram(-5.0, 6.0)
        histogram.add(*normal(seed))
        _, fpr, tpr = histogram.roc()
        assert np.all(np.diff(fpr) >= 0)
        assert np.all(np.diff(tpr) >= 0)
        assert np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2) == pytest.approx(histogram.auc(), abs=1e-12)


class TestAveragePrecision:
    @given(voxels=VOXELS)
    @settings(max_examples=100, deadline=None)
    def test_agrees_with_scikit_learn(self, voxels):
        score, truth = voxels
        assume(truth.any())
        assert histogram_of(score, truth).average_precision() == pytest.approx(average_precision_score(truth, score))

    def test_of_fine_bins_is_nearly_exact(self):
        histogram = ScoreHistogram(-5.0, 6.0)
        histogram.add(*(voxels := normal(0)))
        assert histogram.average_precision() == pytest.approx(average_precision_score(*voxels[::-1]), abs=1e-3)


class TestChosenByLabels:
    @given(voxels=VOXELS)
    @settings(max_examples=60, deadline=None)
    def test_best_dice_is_the_largest_f1_score(self, voxels):
        score, truth = voxels
        assume(truth.any())
        best, threshold = histogram_of(score, truth).best_dice()
        assert best == pytest.approx(max(f1_score(truth, score >= level) for level in np.unique(score)))
        assert best == pytest.approx(f1_score(truth, score > threshold))

    @given(voxels=VOXELS)
    @settings(max_examples=60, deadline=None)
    def test_youden_threshold_maximises_the_difference_of_rates(self, voxels):
        score, truth = voxels
        assume(truth.any() and not truth.all())
        threshold = histogram_of(score, truth).youden_threshold()
        fpr, tpr, _ = roc_curve(truth, score)
        found = np.mean(score[truth] > threshold) - np.mean(score[~truth] > threshold)
        assert found == pytest.approx(np.max(tpr - fpr))

    def test_the_largest_of_equal_thresholds(self):
        histogram = histogram_of(np.array([2, 9]), np.array([False, True]))
        assert histogram.best_dice() == (1.0, 8.0)
        assert histogram.youden_threshold() == 8.0
        reversed_ = histogram_of(np.array([2, 9]), np.array([True, False]))
        assert reversed_.best_dice() == (pytest.approx(2 / 3), 1.0)
        assert reversed_.youden_threshold() == np.inf
        assert histogram_of(np.array([0, 0]), np.array([True, False])).best_dice()[1] == -np.inf


class TestConfusionAtAThreshold:
    @given(
        low=st.floats(-3, 3),
        width=st.floats(0.1, 7),
        bins=st.integers(1, 40),
        seed=st.integers(0, 2**16),
        dtype=st.sampled_from([np.float32, np.float64]),
    )
    @settings(max_examples=100, deadline=None)
    def test_is_exact_at_the_edges(self, low, width, bins, seed, dtype):
        rng = np.random.default_rng(seed)
        histogram = ScoreHistogram(low, low + width, bins)
        # Anywhere in the range and on the edges, where rounding decides.
        score = np.concatenate([rng.uniform(low, low + width, size=50), histogram.edges]).astype(dtype)
        score = score[score.astype(np.float64) <= histogram.high]
        truth = rng.uniform(size=score.size) < 0.4
        histogram.add(score, truth)
        for threshold in [-np.inf, *histogram.edges, np.inf]:
            assert histogram.confusion(threshold) == Confusion.of(score.astype(np.float64) > threshold, truth)

    def test_inside_a_bin_and_beyond_the_range(self):
        histogram = ScoreHistogram(0.0, 1.0, bins=2)
        histogram.add(np.array([-1.0, 0.4, 0.8, 3.0]), np.array([False, False, True, True]))
        assert histogram.confusion(0.1) == histogram.confusion(0.5) == Confusion(tp=2, fp=0, fn=0, tn=2)
        assert histogram.confusion(0.6) == histogram.confusion(1.0) == histogram.confusion(9.0) == Confusion(0, 0, 2, 2)
        assert histogram.confusion(0.0) == Confusion(tp=2, fp=1, fn=0, tn=1)
        assert histogram.confusion(-0.1) == histogram.confusion(-9.0) == Confusion(tp=2, fp=2, fn=0, tn=0)

    def test_agrees_with_the_curve(self):
        histogram = ScoreHistogram(-5.0, 6.0, bins=200)
        histogram.add(*normal(1))
        for threshold, fpr, tpr in zip(*histogram.roc(), strict=True):
            found = histogram.confusion(threshold)
            assert (found.fpr, found.sensitivity) == (fpr, tpr)
        best, threshold = histogram.best_dice()
        assert histogram.confusion(threshold).dice == best


def test_the_order_of_voxels_does_not_matter():
    score, truth = normal(2, n=500)
    order = np.random.default_rng(0).permutation(500)
    first, second = ScoreHistogram(-5.0, 6.0), ScoreHistogram(-5.0, 6.0)
    first.add(score, truth)
    second.add(score[order], truth[order])
    np.testing.assert_array_equal(first.roc(), second.roc())
    assert first.average_precision() == second.average_precision()
    assert first.best_dice() == second.best_dice()


def test_errors():
    healthy = histogram_of(np.arange(4), np.zeros(4, dtype=bool))
    lesion = histogram_of(np.arange(4), np.ones(4, dtype=bool))
    for histogram, got in ((healthy, "0 and 4"), (lesion, "4 and 0")):
        with pytest.raises(UndefinedMetricError, match=f"the ROC curve needs lesion and healthy voxels, got {got}"):
            histogram.roc()
        with pytest.raises(UndefinedMetricError, match=got):
            histogram.youden_threshold()
    with pytest.raises(UndefinedMetricError, match="the average precision needs lesion voxels"):
        healthy.average_precision()
    with pytest.raises(UndefinedMetricError, match="the best Dice needs lesion voxels"):
        healthy.best_dice()
    assert lesion.average_precision() == lesion.best_dice()[0] == 1
    with pytest.raises(ValueError, match="threshold: got NaN, expected a number"):
        healthy.confusion(float("nan"))
