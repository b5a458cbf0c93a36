"""Lesion-wise counts and surface distances against flood fill and all pairs of voxels on small volumes."""

import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from lesioncore.metrics import LesionCounts, LesionRow, UndefinedMetricError, hausdorff, lesion_counts, lesion_table


@st.composite
def volumes(draw, shape=(5, 4, 6)):
    """A prediction, a truth that it partly follows, and a mask."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    truth = rng.uniform(size=shape) < draw(st.sampled_from([0.0, 0.05, 0.15, 0.3, 0.6]))
    noise = rng.uniform(size=shape) < draw(st.sampled_from([0.0, 0.05, 0.15, 0.3, 0.6]))
    return truth & (rng.uniform(size=shape) < 0.5) | noise, truth, rng.uniform(size=shape) < 0.8


def neighbours(voxel, connectivity):
    for step in itertools.product((-1, 0, 1), repeat=len(voxel)):
        if 1 <= np.count_nonzero(step) <= connectivity:
            yield tuple(at + along for at, along in zip(voxel, step, strict=True))


def flood(region, connectivity):
    left, components = {tuple(voxel) for voxel in np.argwhere(region).tolist()}, []
    while left:
        front = [min(left)]
        left.remove(front[0])
        for voxel in front:  # grows meanwhile
            reached = left.intersection(neighbours(voxel, connectivity))
            left -= reached
            front += reached
        components.append(set(front))
    return components


class TestLesionCounts:
    @given(
        labels=volumes(),
        overlap=st.sampled_from(["0", "0.1", "0.25", "0.3", "0.5", "1"]),
        min_voxels=st.integers(1, 4),
        connectivity=st.sampled_from([1, 2, 3]),
        kind=st.sampled_from([np.asarray, torch.from_numpy]),
    )
    @settings(max_examples=150, deadline=None)
    def test_agree_with_flood_fill(self, labels, overlap, min_voxels, connectivity, kind):
        prediction, truth, mask = labels
        detections, lesions = (
            [part for part in flood(region & mask, connectivity) if len(part) >= min_voxels]
            for region in (prediction, truth)
        )

        def hit(part, others):
            shared = len(part & set().union(*others))
            return shared > 0 and Fraction(shared, len(part)) >= Fraction(overlap)

        found, true = [hit(part, detections) for part in lesions], [hit(part, lesions) for part in detections]
        options = {"overlap": float(overlap), "min_voxels": min_voxels, "connectivity": connectivity}
        counts = lesion_counts(kind(prediction), kind(truth), kind(mask), **options)
        assert counts == LesionCounts(sum(found), len(found) - sum(found), sum(true), len(true) - sum(true))
        rows = lesion_table(kind(prediction), kind(truth), 8.0, kind(mask), **options)
        assert [row.found for row in rows] == found
        assert [row.volume for row in rows] == pytest.approx([0.008 * len(part) for part in lesions])

    def test_the_rule(self):
        """A lesion of ten voxels is found from its first tenth on; a detection is judged by its own volume."""
        truth, prediction = np.zeros((2, 1, 3, 40), dtype=bool)
        truth[0, 0, :10] = True
        prediction[0, 0, 9:19] = True
        assert lesion_counts(prediction, truth) == LesionCounts(1, 0, 1, 0)
        prediction[0, 0, 9:20] = True  # eleven voxels, one of them lesion
        assert lesion_counts(prediction, truth) == LesionCounts(1, 0, 0, 1)
        assert lesion_counts(prediction, truth, overlap=0) == LesionCounts(1, 0, 1, 0)
        assert lesion_counts(prediction, truth, overlap=0.2) == LesionCounts(0, 1, 0, 1)
        truth[0, 0, 15:17] = True  # one detection finds two lesions
        assert lesion_counts(prediction, truth) == LesionCounts(2, 0, 1, 0)
        assert lesion_table(prediction, truth, 1000) == [LesionRow(10.0, 0.1, True), LesionRow(2.0, 1.0, True)]

    def test_small_components_are_removed_from_both_sides(self):
        truth, prediction = np.zeros((2, 1, 3, 12), dtype=bool)
        truth[0, 0, [0, 3, 4]] = True
        prediction[0, 0, [0, 1, 4, 9]] = True
        assert lesion_counts(prediction, truth) == LesionCounts(2, 0, 2, 1)
        assert lesion_counts(prediction, truth, min_voxels=2) == LesionCounts(0, 1, 0, 1)
        assert lesion_counts(prediction, truth, min_voxels=3) == LesionCounts(0, 0, 0, 0)

    def test_diagonal_neighbours_by_connectivity(self):
        corner, edge = np.zeros((2, 2, 2, 2), dtype=bool)
        corner[[0, 1], [0, 1], [0, 1]] = True
        edge[0, [0, 1], [0, 1]] = True
        for region, counts in ((corner, [2, 2, 1]), (edge, [2, 1, 1])):
            assert [len(lesion_table(region, region, 1.0, connectivity=c)) for c in (1, 2, 3)] == counts

    @given(labels=volumes(), order=st.permutations([0, 1, 2]), flip=st.sampled_from([(), (0,), (1, 2)]))
    @settings(max_examples=30, deadline=None)
    def test_orientation_and_slices_do_not_matter(self, labels, order, flip):
        counts = lesion_counts(*labels)
        assert lesion_counts(*[np.flip(label.transpose(order), flip) for label in labels]) == counts
        assert lesion_counts(*[label[:, None] for label in labels]) == counts

    @given(first=volumes(), second=volumes())
    @settings(max_examples=30, deadline=None)
    def test_the_sum_is_the_count_of_both_together(self, first, second):
        gap = np.zeros((1, 4, 6), dtype=bool)
        both = [np.concatenate([one, gap, other]) for one, other in zip(first, second, strict=True)]
        assert lesion_counts(*first) + lesion_counts(*second) == lesion_counts(*both)

    def test_rates(self):
        counts = LesionCounts(found=3, missed=1, true_detections=2, false_detections=6)
        assert (counts.recall, counts.precision, counts.f1) == (0.75, 0.25, 0.375)
        nothing = LesionCounts(0, 0, 0, 0)
        assert nothing.f1 == 1
        assert [LesionCounts(*counts).f1 for counts in ((0, 2, 0, 0), (0, 0, 0, 2), (1, 0, 0, 1))] == [0, 0, 0]
        with pytest.raises(UndefinedMetricError, match="the recall needs lesions"):
            _ = nothing.recall
        with pytest.raises(UndefinedMetricError, match="the precision needs detected components"):
            _ = nothing.precision

    def test_errors(self):
        some = np.ones((2, 2, 2))
        with pytest.raises(ValueError, match=r"truth: got .* expected that of prediction"):
            lesion_counts(some, some[:1])
        with pytest.raises(ValueError, match=r"overlap: got 10, expected a share in \[0, 1\]"):
            lesion_counts(some, some, overlap=10)
        with pytest.raises(ValueError, match="min_voxels: got 0, expected at least 1"):
            lesion_counts(some, some, min_voxels=0)
        with pytest.raises(ValueError, match="connectivity: got 26, expected 1, 2 or 3, for 6, 18 or 26 neighbours"):
            lesion_counts(some, some, connectivity=26)
        with pytest.raises(ValueError, match="voxel_volume: got 0, expected a positive number of cubic millimetres"):
            lesion_table(some, some, 0)


def surface(region):
    voxels = {tuple(voxel) for voxel in np.argwhere(region).tolist()}
    return np.array([voxel for voxel in voxels if not voxels.issuperset(neighbours(voxel, 1))])


class TestHausdorff:
    @given(
        labels=volumes(),
        voxel_size=st.tuples(*[st.sampled_from([0.5, 1.0, 3.3])] * 3),
        percentile=st.sampled_from([95, 100, 50, 0]),
    )
    @settings(max_examples=100, deadline=None)
    def test_agrees_with_all_pairs_of_surface_voxels(self, labels, voxel_size, percentile):
        prediction, truth, mask = labels
        first, second = (surface(region & mask) for region in (prediction, truth))
        if not len(first) or not len(second):
            return
        pairs = np.linalg.norm((first[:, None] - second) * voxel_size, axis=-1)
        expected = max(np.percentile(pairs.min(axis=axis), percentile) for axis in (0, 1))
        found = hausdorff(prediction, truth, voxel_size, percentile=percentile, mask=mask)
        assert found == pytest.approx(expected)
        assert found == hausdorff(torch.from_numpy(truth), prediction, voxel_size, percentile=percentile, mask=mask)
        prediction, truth, mask = (label.transpose(2, 0, 1)[::-1] for label in labels)
        voxel_size = [voxel_size[axis] for axis in (2, 0, 1)]
        assert found == pytest.approx(hausdorff(prediction, truth, voxel_size, percentile=percentile, mask=mask))

    def test_directions_are_not_pooled(self):
        """A few stray voxels weigh little among all, but decide the direction that starts at them."""
        truth, prediction = np.zeros((2, 1, 1, 200), dtype=bool)
        truth[..., :100] = True
        prediction[..., 0] = True
        assert hausdorff(prediction, truth, (1, 1, 2)) == pytest.approx(2 * 0.95 * 99)

    def test_only_surfaces_count(self):
        """A hole is a surface; what fills a region is not."""
        block = np.zeros((9, 9, 9), dtype=bool)
        block[1:8, 1:8, 1:8] = True
        holed = block.copy()
        holed[4, 4, 4] = False
        assert hausdorff(block, block, (1, 1, 1), percentile=100) == 0
        assert hausdorff(holed, block, (1, 1, 1), percentile=100) == 2

    def test_conventions_where_a_side_is_empty(self):
        none, some = np.zeros((2, 3, 4)), np.ones((2, 3, 4))
        assert hausdorff(none, none, (1, 1, 1)) == 0
        assert hausdorff(some, some, (1, 1, 1), mask=none) == 0
        with pytest.raises(UndefinedMetricError, match="needs detected and lesion voxels, got 24 and 0"):
            hausdorff(some, none, (1, 1, 1))
        with pytest.raises(UndefinedMetricError, match="got 0 and 24"):
            hausdorff(none, some, (1, 1, 1))

    def test_errors(self):
        some = np.ones((2, 3, 4))
        with pytest.raises(ValueError, match=r"voxel_size: got .* expected 3 positive .* \(2, 3, 4\)"):
            hausdorff(some, some, (1, 1))
        with pytest.raises(ValueError, match="voxel_size"):
            hausdorff(some, some, (1, 0, 1))
        with pytest.raises(ValueError, match=r"percentile: got 101, expected a number in \[0, 100\]"):
            hausdorff(some, some, (1, 1, 1), percentile=101)
        with pytest.raises(ValueError, match=r"mask: got .* expected that of prediction"):
            hausdorff(some, some, (1, 1, 1), mask=some[:1])


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    some = np.ones((2, 2, 2))
    for metric in (lambda: lesion_counts(some, some), lambda: hausdorff(some, some, (1, 1, 1))):
        with pytest.raises(ImportError, match="pip install scipy"):
            metric()
