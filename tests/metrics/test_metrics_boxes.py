"""Boxes: overlap, matching and average precision against counting, scikit-learn and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import precision_recall_curve

from lesioncore.metrics import BoxCounts, UndefinedMetricError, box_iou, component_boxes, lesion_contrast, match_boxes


@st.composite
def boxes(draw, axes=3, count=4, size=6):
    """Boxes with whole edges, so that their voxels can be counted."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    low = rng.integers(0, size - 1, (count, axes))
    return np.stack([low, low + rng.integers(1, size - low + 1)], axis=1).astype(float)


def filled(box, size=6):
    volume = np.zeros((size,) * box.shape[1], bool)
    volume[tuple(slice(int(low), int(high)) for low, high in box.T)] = True
    return volume


@given(boxes(), boxes())
@settings(max_examples=40, deadline=None)
def test_iou_is_that_of_the_voxels(first, second):
    found = box_iou(first, second)
    for i, a in enumerate(map(filled, first)):
        for j, b in enumerate(map(filled, second)):
            assert found[i, j] == pytest.approx((a & b).sum() / (a | b).sum())


@given(boxes(axes=2), boxes(axes=2), st.floats(0.1, 9), st.floats(-50, 50))
@settings(max_examples=40, deadline=None)
def test_iou_has_the_symmetries_of_space(first, second, scale, shift):
    found = box_iou(first, second)
    assert ((found >= 0) & (found <= 1)).all()
    assert np.allclose(np.diag(box_iou(first, first)), 1)
    assert np.array_equal(found, box_iou(second, first).T)
    assert np.allclose(found, box_iou(first * scale + shift, second * scale + shift))


def test_boxes_without_extent_are_refused():
    with pytest.raises(ValueError, match="second: got a box without extent"):
        box_iou(np.array([[[0.0], [1]]]), np.array([[[1.0], [1]]]))


def test_components_become_boxes_with_their_peaks():
    region, score = np.zeros((6, 5, 4), bool), np.zeros((6, 5, 4))
    region[1:3, 1, 1] = region[2, 2, 2] = True  # touch at a corner
    region[5, 4, 3] = True
    score[2, 1, 1], score[2, 2, 2], score[5, 4, 3] = 7, 9, 2
    found, peaks = component_boxes(region, score)
    assert found.tolist() == [[[1, 1, 1], [3, 3, 3]], [[5, 4, 3], [6, 5, 4]]]
    assert peaks.tolist() == [9, 2]
    assert component_boxes(region, score, connectivity=1)[1].tolist() == [7, 9, 2]
    empty, none = component_boxes(~region & region, score)
    assert (empty.shape, none.shape) == ((0, 2, 3), (0,))
    with pytest.raises(ValueError, match="score: got shape"):
        component_boxes(region, score[0])


def line(*ends):
    """Boxes along one axis."""
    return np.array([[[low], [high]] for low, high in ends], float).reshape(-1, 2, 1)


def test_each_box_is_found_once_by_the_most_confident():
    counts = match_boxes(line((0, 8), (0, 10), (20, 22)), np.array([0.5, 0.9, 0.7]), line((0, 10), (40, 50)), 0.5)
    assert counts == BoxCounts((0.5, 0.9, 0.7), (False, True, False), boxes=2, images=1, images_found=1)
    assert (counts.recall, counts.precision, counts.accuracy) == (1 / 2, 1 / 3, 1)
    assert counts.average_precision == 1 / 2


def test_a_detection_takes_the_next_box_where_its_best_one_is_taken():
    counts = match_boxes(line((0, 10), (1, 11)), np.array([0.9, 0.8]), line((0, 10), (4, 14)), 0.5)
    assert counts.true == (True, True)


def test_the_threshold_itself_is_reached():
    half = line((0, 5))
    assert match_boxes(half, np.array([1.0]), line((0, 10)), 0.5).true == (True,)
    assert match_boxes(half, np.array([1.0]), line((0, 10)), 0.51).true == (False,)


def test_images_without_boxes_and_without_detections():
    nothing = match_boxes(line(), np.array([]), line(), 0.3)
    assert nothing == BoxCounts((), (), 0, 0, 0)
    for figure in ("recall", "precision", "accuracy", "average_precision"):
        with pytest.raises(UndefinedMetricError):
            getattr(nothing, figure)
    missed = match_boxes(line(), np.array([]), line((0, 1)), 0.3)
    assert (missed.recall, missed.accuracy, missed.average_precision) == (0, 0, 0)
    false = match_boxes(line((0, 1)), np.array([2.0]), line(), 0.3)
    assert (missed + false) == BoxCounts((2.0,), (False,), 1, 1, 0)


def test_average_precision_by_hand():
    """Hits at ranks 1, 3 and 4 of 5, of 4 boxes: precision 1, 3/4 and 3/4 at recalls 1/4, 2/4 and 3/4."""
    counts = BoxCounts((0.9, 0.8, 0.7, 0.6, 0.5), (True, False, True, True, False), 4, 1, 1)
    assert counts.average_precision == pytest.approx((1 + 3 / 4 + 3 / 4) / 4)


@given(st.integers(0, 2**16), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_average_precision_is_the_area_under_scikit_learns_curve(seed, missed):
    """Under the largest precision at a recall or a higher one; boxes that nothing detects lower the recall alone."""
    rng = np.random.default_rng(seed)
    true, confidence = rng.uniform(size=12) < 0.4, rng.integers(0, 6, 12) / 2
    true[0] = True
    precision, recall, _ = precision_recall_curve(true, confidence)
    area = np.sum(np.maximum.accumulate(precision)[:-1] * -np.diff(recall))
    boxes = int(true.sum()) + missed
    counts = BoxCounts(tuple(confidence), tuple(true), boxes, 1, 1)
    assert counts.average_precision == pytest.approx(area * true.sum() / boxes)


def test_arguments():
    with pytest.raises(ValueError, match="iou: got 0"):
        match_boxes(line(), np.array([]), line(), 0)
    with pytest.raises(ValueError, match="confidence: got 0"):
        match_boxes(line((0, 1)), np.array([]), line(), 0.5)


def test_contrast_of_a_lesion_with_what_is_near():
    rng = np.random.default_rng(0)
    values, lesion = rng.normal(100, 5, (30, 12, 12)), np.zeros((30, 12, 12), bool)
    brain = np.ones_like(lesion)
    brain[:, 0] = False
    lesion[5:8, 5:8, 5:8] = True
    values[lesion] += 40
    values[20:] += 30  # healthy, but far away
    healthy = brain & ~lesion
    distances = np.sqrt(
        sum(
            (2 * np.clip(np.maximum(5 - axis, axis - 7), 0, None)) ** 2
            for axis in np.meshgrid(*map(np.arange, lesion.shape), indexing="ij")
        )
    )
    expected = (values[lesion].mean() - values[healthy & (distances <= 10)].mean()) / values[healthy].std()
    assert lesion_contrast(values, lesion, brain, (2, 2, 2)) == pytest.approx(expected)
    assert lesion_contrast(-values, lesion, brain, (2, 2, 2)) == pytest.approx(-expected)
    assert lesion_contrast(3 * values + 7, lesion, brain, (2, 2, 2)) == pytest.approx(expected)
    with pytest.raises(UndefinedMetricError):
        lesion_contrast(values, lesion, ~lesion, (2, 2, 2))
    with pytest.raises(UndefinedMetricError):
        lesion_contrast(values, lesion, lesion, (2, 2, 2))
