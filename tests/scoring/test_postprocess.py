"""Cleaning of masks: each step against its definition, and that all who make masks do it."""

from __future__ import annotations

import itertools
import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from support.models import tiny_calibration, tiny_metadata, tiny_vae
from support.scans import AFFINE, BRAIN, METADATA, VALUES, voxels

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.detectors import IntensityThreshold
from lesioncore.scoring.postprocess import PostProcessing

ndimage = pytest.importorskip("scipy.ndimage")

SIZE = (1.5, 2.0, 3.0)
HEAD = BRAIN.numpy()
CLEANED = PostProcessing(erosion=4, median=5, min_volume=200)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def blob(rng, shape=(14, 12, 9)):
    """A ragged brain that touches the end of the scan."""
    return ndimage.gaussian_filter(rng.normal(size=shape), 2) > -0.03


def in_ball(shape, radius):
    """For each voxel the indices of those at most `radius` mm from it."""
    places = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, SIZE, strict=True)), indexing="ij"), -1)
    for place in itertools.product(*map(range, shape)):
        yield place, np.linalg.norm(places - places[place], axis=-1) <= radius + 1e-9


# ---- the steps -------------------------------------------------------------------------------------------------------


def test_nothing_is_done_by_default(rng):
    brain = blob(rng)
    detected = rng.random(brain.shape) < 0.5
    assert PostProcessing().clean(detected, brain, None) is detected
    assert not PostProcessing().active


@pytest.mark.parametrize("millimetres", [1.0, 1.5, 2.9, 3.0, 4.1, 50.0])
def test_erosion_is_a_distance_in_millimetres(rng, millimetres):
    brain = blob(rng)
    detected = rng.random(brain.shape) < 0.7
    distance = ndimage.distance_transform_edt(np.pad(brain, 1), SIZE)[1:-1, 1:-1, 1:-1]
    expected = detected & (distance > millimetres)
    assert 0 < distance.max() < 50
    assert np.array_equal(PostProcessing(erosion=millimetres).clean(detected, brain, SIZE), expected)


@pytest.mark.parametrize("radius", [1.0, 2.0, 3.7])
def test_median_of_a_mask_is_the_mask_of_the_lower_median(rng, radius):
    brain, score = blob(rng), rng.random((14, 12, 9))
    medians = np.zeros(brain.shape)
    for place, ball in in_ball(brain.shape, radius):
        if brain[place]:
            values = np.sort(score[ball & brain])
            medians[place] = values[(len(values) - 1) // 2]
    found = PostProcessing(median=radius).clean(score > 0.5, brain, SIZE)
    assert np.array_equal(found, brain & (medians > 0.5))
    assert (found & (score <= 0.5)).any() == (radius > min(SIZE))  # what is smaller than a voxel changes nothing


def test_small_components_go_by_their_volume():
    """Of 9 mm^3 a voxel; voxels that touch at a corner are connected."""
    brain = np.ones((9, 9, 9), bool)
    detected = np.zeros_like(brain)
    corners = [(0, 0, 0), (1, 1, 1), (2, 0, 2)]
    pair = [(6, 6, 6), (6, 6, 7)]
    for place in corners + pair + [(0, 8, 8)]:
        detected[place] = True
    counts = {least: PostProcessing(min_volume=least).clean(detected, brain, SIZE).sum() for least in (9, 9.1, 18, 27)}
    assert counts == {9: 6, 9.1: 5, 18: 5, 27: 3}
    kept = PostProcessing(min_volume=27).clean(detected, brain, np.array(SIZE) * (1 - 1e-8))
    assert all(kept[place] for place in corners)


def test_order_and_that_the_eroded_rim_stays_empty(rng):
    brain = blob(rng)
    detected = ndimage.gaussian_filter(rng.normal(size=brain.shape), 0.7) > 0.05
    together = PostProcessing(erosion=1.5, median=2.5, min_volume=90).clean(detected, brain, SIZE)
    inside = PostProcessing(erosion=1.5).clean(brain, brain, SIZE)
    step = PostProcessing(median=2.5).clean(detected & inside, inside, SIZE)
    assert np.array_equal(together, PostProcessing(min_volume=90).clean(step, brain, SIZE))
    assert step.sum() > together.sum() > 0
    assert not (together & ~inside).any()


@pytest.mark.parametrize("options", [{"erosion": 2.0}, {"min_volume": 40.0}, {"erosion": 2.0, "min_volume": 40.0}])
def test_limits_still_hold_where_voxels_are_only_taken(rng, options):
    brain = blob(rng)
    detected = rng.random(brain.shape) < 0.2
    found = PostProcessing(**options).clean(detected, brain, SIZE)
    assert 0 < found.sum() < (detected & brain).sum()
    assert not (found & ~detected).any()


def test_storage_order_does_not_matter(rng):
    brain = blob(rng)
    detected = rng.random(brain.shape) < 0.5
    options = PostProcessing(2.0, 2.0, 30.0)
    turned = options.clean(detected.transpose(2, 0, 1)[::-1], brain.transpose(2, 0, 1)[::-1], (3.0, 1.5, 2.0))
    assert np.array_equal(turned[::-1].transpose(1, 2, 0), options.clean(detected, brain, SIZE))


def test_nothing_detected_and_detections_outside_the_brain(rng):
    brain = blob(rng)
    none = np.zeros_like(brain)
    assert not PostProcessing(median=3).clean(none, brain, SIZE).any()
    assert not PostProcessing(min_volume=1).clean(~none, none, SIZE).any()
    assert np.array_equal(PostProcessing(min_volume=1).clean(~none, brain, SIZE), brain)


@pytest.mark.parametrize("name", ["erosion", "median", "min_volume"])
@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_numbers_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"{name}: got {value}, expected a finite number >= 0"):
        PostProcessing(**{name: value})


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(ImportError, match="cleaning of masks need scipy; install it with: pip install scipy"):
        PostProcessing(erosion=1).clean(np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), SIZE)


# ---- restorations ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prior():
    return tiny_vae(metadata=tiny_metadata(tiny_calibration()))


def test_masks_of_a_restoration_are_cleaned_and_nothing_else(prior, tmp_path):
    image = nib.Nifti1Image(VALUES.numpy(), AFFINE)
    plain = lc.restore(image, prior)
    result = lc.restore(image, prior, config=lc.RestoreConfig(postprocessing=CLEANED))
    assert np.array_equal(voxels(result.score), voxels(plain.score))
    threshold = prior.metadata.calibration.threshold(0.1)
    expected = CLEANED.clean(voxels(plain.score) > threshold, HEAD, (4.0, 4.0, 4.0))
    assert np.array_equal(voxels(result.mask(0.1)) > 0, expected)
    assert 0 < expected.sum() < (voxels(plain.mask(0.1)) > 0).sum()
    written = result.save(tmp_path, name="sub-01_T2w")
    assert np.array_equal(nib.load(written["fpr10"]).get_fdata() > 0, expected)
    sidecar = json.loads(written["sidecar"].read_text())
    assert sidecar["PostProcessing"] == {"erosion": 4, "median": 5, "min_volume": 200}
    assert sidecar["Thresholds"] == plain.sidecar()["Thresholds"]


def test_slices_without_geometry_have_no_millimetres():
    calibration = tiny_calibration(tv_dimensions=2)
    prior = tiny_vae(metadata=tiny_metadata(calibration))
    slices = lc.restore(VALUES, prior).scan.slices
    steps = []
    for volume in (slices, [VALUES, slices]):
        config = lc.RestoreConfig(normalized=True, postprocessing=PostProcessing(erosion=2))
        with pytest.raises(ValueError, match=r"slices \[N, 1, H, W\].* lack; give a volume"):
            lc.restore(volume, prior, config=config, progress=lambda *done: steps.append(done))
    assert not steps  # said before anything is restored
    plain = lc.restore(slices, prior, config=lc.RestoreConfig(normalized=True))
    assert plain.mask(0.05).shape == slices.shape


def test_a_configuration_takes_no_other_kind():
    with pytest.raises(ValueError, match="postprocessing: got 'median', expected a lesioncore"):
        lc.RestoreConfig(postprocessing="median")


# ---- detectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "array", "tensor"])
def test_masks_of_a_detector_are_cleaned(kind):
    detector = IntensityThreshold(METADATA, sign=1)
    detector.metadata = METADATA.with_calibration(detector.thresholds([VALUES]))
    volume = {"image": nib.Nifti1Image(VALUES.numpy(), AFFINE), "array": VALUES.numpy(), "tensor": VALUES}[kind]
    affine = None if kind == "image" else AFFINE
    score = detector.detect(volume, affine=affine)
    plain = voxels(detector.mask(score, 0.3)) > 0
    detector.postprocessing = PostProcessing(erosion=4, min_volume=200)
    found = detector.mask(score, 0.3, brain=HEAD, affine=affine)
    assert type(found) is type(score)
    assert np.array_equal(voxels(found) > 0, detector.postprocessing.clean(plain, HEAD, (4.0, 4.0, 4.0)))
    assert 0 < (voxels(found) > 0).sum() < plain.sum()
    assert "PostProcessing(erosion=4" in repr(detector)


def test_a_detector_says_what_cleaning_needs():
    detector = IntensityThreshold(METADATA, sign=1)
    detector.metadata = METADATA.with_calibration(detector.thresholds([VALUES]))
    detector.postprocessing = PostProcessing(erosion=4)
    score = detector.detect(VALUES)
    with pytest.raises(ValueError, match="brain: got none, expected the brain mask"):
        detector.mask(score)
    with pytest.raises(ValueError, match="arrays without an affine lack"):
        detector.mask(score, brain=BRAIN)
    with pytest.raises(ValueError, match=r"brain: got shape \(3,\)"):
        detector.mask(score, brain=torch.ones(3), affine=AFFINE)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_restore_cleans_what_it_writes(prior, tmp_path, capsys):
    nib.save(nib.Nifti1Image(VALUES.numpy(), AFFINE), tmp_path / "sub-01_T2w.nii.gz")
    directory = str(lc.save_model(prior, tmp_path / "prior", card="For tests.\n"))
    command = ["restore", str(tmp_path / "sub-01_T2w.nii.gz"), "-o", str(tmp_path / "out"), "--prior", directory]
    assert main([*command, "--json", "--erosion", "4", "--median", "5", "--min-volume", "200"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["scans"]
    config = lc.RestoreConfig(postprocessing=CLEANED)
    expected = voxels(lc.restore(VALUES.numpy(), lc.load_prior(directory), affine=AFFINE, config=config).mask(0.1))
    assert np.array_equal(nib.load(facts["files"]["fpr10"]).get_fdata() > 0, expected)
    assert facts["detected_ml"]["0.1"] == pytest.approx(expected.sum() * 0.064)
    assert main([*command, "--overwrite", "--erosion", "-1"]) == 2
    assert "erosion: got -1.0, expected a finite number >= 0" in " ".join(capsys.readouterr().err.split())
