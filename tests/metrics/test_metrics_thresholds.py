"""Thresholds keep their limits: of one pool of scores exactly, of new subjects as often as promised."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from lesioncore.metrics import conformal_threshold, fpr_threshold

LEVELS = st.integers(0, 9).map(lambda level: level / 10)  # few values: many ties


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
        if above:  # and any smaller limit one less
            assert fpr_threshold(np.arange(size), np.nextafter(above / size, 0)) == size - above

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
        with pytest.raises(ValueError, match="scores: got none"):
            fpr_threshold(np.zeros(0), 0.1)
        with pytest.raises(ValueError, match="2 NaN of 3"):
            fpr_threshold(np.array([0, np.nan, np.nan]), 0.1)


class TestConformalThreshold:
    @given(
        values=st.lists(st.integers(0, 8) | st.floats(-5, 5), min_size=2, max_size=25),
        share=st.sampled_from([0.05, 0.1, 0.29, 0.5, 0.7, 0.9]) | st.floats(0.01, 0.99),
    )
    @settings(max_examples=200, deadline=None)
    def test_coverage_by_enumeration(self, values, share):
        """Any one of exchangeable subjects may be the new one: the share of those that exceed keeps the promise."""
        n = len(values) - 1
        if 1 / (n + 1) > share:
            with pytest.raises(ValueError, match="subjects"):
                conformal_threshold(values[1:], share)
            return
        exceed = [value > conformal_threshold(values[:i] + values[i + 1 :], share) for i, value in enumerate(values)]
        assert sum(exceed) / len(values) <= share
        if len(set(values)) == len(values):
            assert (sum(exceed) + 1) / len(values) > share  # and no threshold promises less

    @pytest.mark.parametrize(
        ("n", "share"), [(9, 0.1), (19, 0.1), (19, 0.05), (99, 0.29), (9, 0.7), (9, 0.9), (20, 0.3)]
    )
    def test_is_the_order_statistic_of_split_conformal_prediction(self, n, share):
        k = math.ceil((n + 1) * (100 - round(100 * share)) / 100)
        shuffled = np.random.default_rng(0).permutation(np.arange(1, n + 1))
        assert conformal_threshold(shuffled, share) == k

    def test_new_subjects_exceed_the_limit_as_often_as_promised(self):
        rng = np.random.default_rng(0)
        limit, share, n, exceeding, trials = 0.05, 0.2, 24, 0, 600
        for _ in range(trials):
            spread = rng.gamma(3, size=(n + 1, 1))  # subjects differ
            subjects = np.abs(rng.normal(size=(n + 1, 60)) * spread)
            threshold = conformal_threshold([fpr_threshold(scores, limit) for scores in subjects[1:]], share)
            exceeding += np.mean(subjects[0] > threshold) > limit
        assert exceeding / trials == pytest.approx(share, abs=0.05)

    @pytest.mark.parametrize("needed", [1, 3, 4, 9, 19, 48, 99])
    def test_names_the_number_of_subjects_it_needs(self, needed):
        share = 1 / (needed + 1)
        assert conformal_threshold(np.arange(needed), share) == needed - 1  # the largest
        with pytest.raises(ValueError, match=f"{needed - 1} subjects, expected {needed} or more .* {share}"):
            conformal_threshold(np.arange(needed - 1), share)
        with pytest.raises(ValueError, match=f"expected {needed + 1} or more"):
            conformal_threshold([], np.nextafter(share, 0))

    def test_errors(self):
        for share in (0.0, 1.0, -0.1, math.nan):
            with pytest.raises(ValueError, match=r"share: got .* between 0 and 1"):
                conformal_threshold([1.0, 2.0], share)
        with pytest.raises(ValueError, match="1 NaN of 3"):
            conformal_threshold([1.0, math.nan, 2.0], 0.5)
        with pytest.raises(ValueError, match=r"subject_thresholds: got shape \(2, 1\), expected one number"):
            conformal_threshold([[1.0], [2.0]], 0.5)
