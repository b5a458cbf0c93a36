"""Counts of decisions agree with scikit-learn, add up, and say where a rate has no value."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from lesioncore.metrics import Confusion, UndefinedMetricError, dice

LABELS = hnp.arrays(np.bool_, st.tuples(st.just(3), st.integers(1, 40)))


class TestConfusion:
    @given(labels=LABELS, kind=st.sampled_from([np.asarray, torch.from_numpy]))
    @settings(max_examples=100, deadline=None)
    def test_agrees_with_scikit_learn_inside_the_mask(self, labels, kind):
        prediction, truth, mask = labels
        assume(mask.any())
        found = Confusion.of(kind(prediction), kind(truth), kind(mask))
        matrix = confusion_matrix(truth[mask], prediction[mask], labels=[False, True])
        assert [[found.tn, found.fp], [found.fn, found.tp]] == matrix.tolist()
        assert all(type(count) is int for count in (found.tp, found.fp, found.fn, found.tn))
        if truth[mask].any():
            assert found.sensitivity == pytest.approx(recall_score(truth[mask], prediction[mask]))
        if prediction[mask].any():
            assert found.precision == pytest.approx(precision_score(truth[mask], prediction[mask]))
        if not truth[mask].all():
            assert found.fpr == pytest.approx(np.mean(prediction[mask & ~truth]))

    @given(labels=LABELS, cut=st.integers(0, 40))
    @settings(max_examples=50, deadline=None)
    def test_the_sum_is_the_count_of_both_together(self, labels, cut):
        first, second = (Confusion.of(*part) for part in (labels[:, :cut], labels[:, cut:]))
        assert first + second == second + first == Confusion.of(*labels)

    def test_rates_without_what_they_divide_by(self):
        nothing = Confusion(tp=0, fp=0, fn=0, tn=5)
        assert nothing.dice == 1
        assert Confusion.of(*np.zeros((3, 2))) == Confusion(0, 0, 0, 0)
        assert nothing.fpr == 0
        with pytest.raises(UndefinedMetricError, match="sensitivity needs lesion voxels"):
            _ = nothing.sensitivity
        with pytest.raises(UndefinedMetricError, match="precision needs detected voxels"):
            _ = nothing.precision
        with pytest.raises(UndefinedMetricError, match="false-positive rate needs healthy voxels"):
            _ = Confusion(tp=1, fp=0, fn=2, tn=0).fpr


class TestDice:
    @given(labels=LABELS, kind=st.sampled_from([np.asarray, torch.from_numpy]))
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
        with pytest.raises(ValueError, match=r"truth: got .* expected that of prediction"):
            dice(np.zeros(3), np.zeros(4))
        with pytest.raises(ValueError, match=r"prediction: got .* expected bool or 0 and 1"):
            dice(np.full(3, 0.7), np.zeros(3))
        with pytest.raises(ValueError, match=r"mask: got .* expected bool"):
            dice(np.zeros(3), np.zeros(3), np.full(3, np.nan))
