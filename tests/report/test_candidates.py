"""Lesion candidates: components, their order, places in the scan and in the template, and what is too small."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores
from lesioncore.preprocess.template import brain_template
from lesioncore.report.candidates import find_candidates

pytest.importorskip("scipy.ndimage")
AFFINE = np.array([[-1.0, 0, 0, 30], [0, 0, 2, -20], [0, 1.5, 0, 5], [0, 0, 0, 1]])  # LSA storage, 1 x 1.5 x 2 mm
SHAPE = (20, 16, 12)


def scored(*boxes: tuple[tuple[slice, slice, slice], float], shape=SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A score map with boxes, and where they are."""
    score = np.zeros(shape, np.float32)
    for box, value in boxes:
        score[box] = value
    return score, score > 0


def box(x: int, y: int, z: int, size: int) -> tuple[slice, slice, slice]:
    return slice(x, x + size), slice(y, y + size), slice(z, z + size)


def test_candidates_come_by_volume_times_mean_score():
    score, mask = scored((box(1, 1, 1, 3), 2.0), (box(8, 8, 2, 3), 5.0), (box(14, 2, 6, 4), 1.0))
    found = find_candidates(score, mask, AFFINE, min_volume_ml=0)
    assert [round(one.mean_score) for one in found.listed] == [5, 1, 2]  # 27 * 5, 64 * 1, 27 * 2 voxels
    assert [one.number for one in found.listed] == [1, 2, 3]
    assert [one.volume_ml for one in found.listed] == pytest.approx([0.081, 0.192, 0.081])
    assert (found.smaller, found.smaller_ml) == (0, 0.0)


def test_labels_have_the_numbers_of_the_list_on_the_own_grid():
    score, mask = scored((box(1, 1, 1, 3), 2.0), (box(8, 8, 2, 3), 5.0), (box(15, 1, 8, 1), 9.0))
    found = find_candidates(score, mask, AFFINE, min_volume_ml=0.05)
    assert found.labels.shape == SHAPE
    assert found.labels.dtype == np.int32
    assert (found.labels[box(8, 8, 2, 3)] == 1).all()
    assert (found.labels[box(1, 1, 1, 3)] == 2).all()
    assert np.count_nonzero(found.labels) == 54  # the single voxel is too small
    assert (found.smaller, found.smaller_ml) == (1, pytest.approx(0.003))


def test_a_component_of_just_the_smallest_volume_is_listed():
    score, mask = scored((box(1, 1, 1, 3), 2.0))
    assert len(find_candidates(score, mask, AFFINE, min_volume_ml=27 * 0.003).listed) == 1
    assert find_candidates(score, mask, AFFINE, min_volume_ml=27 * 0.003 + 1e-5).smaller == 1


def test_voxels_that_share_a_corner_are_one_component():
    score, mask = scored((box(1, 1, 1, 2), 2.0), (box(3, 3, 3, 2), 2.0))
    (one,) = find_candidates(score, mask, AFFINE, min_volume_ml=0).listed
    assert one.volume_ml == pytest.approx(16 * 0.003)


def test_places_are_in_the_scans_own_millimetres():
    score, mask = scored((box(4, 5, 6, 3), 2.0))
    score[6, 7, 8] = 3.0
    (one,) = find_candidates(score, mask, AFFINE, min_volume_ml=0).listed
    assert one.centre_mm == pytest.approx(nib.affines.apply_affine(AFFINE, [5, 6, 7]))
    assert one.peak_mm == pytest.approx(nib.affines.apply_affine(AFFINE, [6, 7, 8]))
    assert one.peak == 3.0


def test_the_centre_of_a_bent_component_is_one_of_its_voxels():
    score, mask = scored(((slice(2, 15), 3, 3), 2.0), ((2, slice(3, 14), 3), 2.0), ((14, slice(3, 14), 3), 2.0))
    found = find_candidates(score, mask, AFFINE, min_volume_ml=0)
    voxel = np.linalg.inv(AFFINE) @ [*found.listed[0].centre_mm, 1]
    assert found.labels[tuple(np.rint(voxel[:3]).astype(int))] == 1


def test_without_registration_and_calibration_nothing_is_said_of_them():
    (one,) = find_candidates(*scored((box(4, 5, 6, 3), 2.0)), AFFINE, min_volume_ml=0).listed
    assert (one.template_mm, one.region, one.region_share, one.side, one.healthy_share) == (None,) * 5


def on_template(*centres: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Balls of 4 mm on the template's grid, all in one score map."""
    template = brain_template()
    places = np.stack(np.meshgrid(*map(np.arange, template.brain.shape), indexing="ij"), -1) * 2.0
    mask = np.zeros(template.brain.shape, bool)
    for centre in centres:
        mask |= ((places + template.affine[:3, 3] - centre) ** 2).sum(axis=-1) <= 16
    return mask * np.float32(3), mask


def test_regions_of_a_scan_that_lies_on_the_template():
    score, mask = on_template((-12, -18, 8), (26, 4, 0))
    found = find_candidates(score, mask, brain_template().affine, to_template=np.eye(4))
    assert {(one.region, one.side) for one in found.listed} == {("left thalamus", "left"), ("right putamen", "right")}
    for one in found.listed:
        assert one.template_mm == one.centre_mm
        assert one.region_share > 0.7


def test_regions_do_not_depend_on_the_storage_order_nor_on_the_pose():
    score, mask = on_template((-12, -18, 8), (26, 4, 0), (-25, -62, -38))
    affine = brain_template().affine
    expected = find_candidates(score, mask, affine, to_template=np.eye(4))
    turned = np.array([[0, 0, -1, score.shape[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    scan, detected = (np.flip(part.transpose(1, 2, 0), 2) for part in (score, mask))
    pose = np.array([[0.8, -0.6, 0, 12], [0.6, 0.8, 0, -30], [0, 0, 1.1, 7], [0, 0, 0, 1]])
    found = find_candidates(scan, detected, pose @ affine @ turned, to_template=np.linalg.inv(pose))
    assert {(one.region, one.side) for one in found.listed} == {(one.region, one.side) for one in expected.listed}
    assert {tuple(np.round(one.template_mm, 6) + 0.0) for one in found.listed} == {
        one.template_mm for one in expected.listed
    }


def test_a_component_over_the_midline_is_on_both_sides():
    score, mask = on_template((0, 24, 6))
    (one,) = find_candidates(score, mask, brain_template().affine, to_template=np.eye(4)).listed
    assert (one.region, one.side) == ("corpus callosum", "both")


def test_a_component_beyond_the_template_has_a_side_and_no_region():
    score, mask = scored((box(4, 5, 6, 3), 2.0))
    far = np.eye(4)
    far[0, 3] = 500.0
    (one,) = find_candidates(score, mask, AFFINE, to_template=far, min_volume_ml=0).listed
    assert (one.region, one.region_share, one.side) == (None, None, "right")


def test_a_peak_is_compared_with_healthy_voxels():
    healthy = HealthyScores.of(np.arange(1000, dtype=np.float32) / 100)
    calibration = lc.Calibration({}, 1.0, healthy)
    (one,) = find_candidates(*scored((box(4, 5, 6, 3), 9.0)), AFFINE, calibration=calibration, min_volume_ml=0).listed
    assert one.healthy_share == pytest.approx(0.1, abs=0.01)


def test_nothing_detected_is_no_candidate():
    found = find_candidates(np.zeros(SHAPE), np.zeros(SHAPE, bool), AFFINE)
    assert (found.listed, found.smaller) == ((), 0)
    assert not found.labels.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.4), st.sampled_from([0.0, 0.006, 0.03]))
def test_every_detected_voxel_is_listed_or_counted_once(seed, share, smallest):
    random = np.random.default_rng(seed)
    score = random.uniform(size=SHAPE).astype(np.float32)
    mask = random.uniform(size=SHAPE) < share
    found = find_candidates(score, mask, AFFINE, min_volume_ml=smallest)
    assert sum(one.volume_ml for one in found.listed) + found.smaller_ml == pytest.approx(mask.sum() * 0.003)
    assert found.labels.max() == len(found.listed)
    assert not found.labels[~mask].any()
    for one in found.listed:
        own = score[found.labels == one.number]
        assert (one.volume_ml, one.peak, one.mean_score) == pytest.approx((own.size * 0.003, own.max(), own.mean()))
    weights = [one.volume_ml * one.mean_score for one in found.listed]
    assert weights == pytest.approx(sorted(weights, reverse=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.zeros((2, 2, 2))}, "score, mask: got shapes"),
        ({"mask": np.zeros(SHAPE)}, "mask: got float64, expected bool"),
        ({"affine": np.eye(3)}, "affine: got"),
        ({"affine": np.zeros((4, 4))}, "affine: got"),
        ({"to_template": np.full((4, 4), np.nan)}, "to_template: got"),
        ({"min_volume_ml": -1.0}, "min_volume_ml: got -1"),
        ({"score": np.full(SHAPE, np.nan), "mask": np.ones(SHAPE, bool)}, "score: got numbers that are not finite"),
    ],
)
def test_what_cannot_be_used_is_refused(change, message):
    arguments = {"score": np.zeros(SHAPE), "mask": np.zeros(SHAPE, bool), "affine": AFFINE} | change
    with pytest.raises(ValueError, match=message):
        find_candidates(**arguments)
