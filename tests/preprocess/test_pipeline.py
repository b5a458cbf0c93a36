"""Preprocessing as a whole: steps, remarks, and that scans end in the prior's space."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from support.heads import dice, simulated_head
from support.models import tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.models.prior import PriorMetadata
from lesioncore.preprocess.pipeline import STEPS, background_brain, check_steps, parse_steps, preprocess
from lesioncore.preprocess.template import template_depth
from lesioncore.restoration.prepare import prepare
from lesioncore.subjects import Loaded

GRID = lc.SliceGrid(2.0, (100, 100))


def cortical_lesion(brain):
    """A ball of 10 voxels at the right end of a brain's middle, and all that lies within 12 voxels of that end."""
    places = np.indices(brain.shape)
    _, y, z = np.argwhere(brain).mean(0).round().astype(int)
    side = np.flatnonzero(brain[:, y, z])[-1]
    ball = (places[0] - side + 6) ** 2 + (places[1] - y) ** 2 + (places[2] - z) ** 2 < 10**2
    return ball & brain, places[0] > side - 12


@pytest.fixture(scope="module")
def done():
    simulated = simulated_head("T1w")
    calls = []
    preprocessed = preprocess(
        simulated.head, simulated.affine, progress=lambda step, steps: calls.append((step, steps))
    )
    return simulated, preprocessed, calls


def test_a_head_becomes_a_brain_in_the_templates_space(done):
    simulated, preprocessed, _ = done
    assert dice(preprocessed.brain, simulated.brain) > 0.9
    assert not (preprocessed.brain & ~simulated.brain).sum() > 0.02 * simulated.brain.sum()
    # The phantom lies in the template's space, but for some millimetres and degrees of its own.
    corners = np.array([[x, y, z, 1.0] for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)])
    moved = np.linalg.norm((corners @ (preprocessed.to_template - np.eye(4)).T)[:, :3], axis=1)
    assert moved.max() < 15
    assert np.linalg.det(preprocessed.to_template[:3, :3]) > 0


def test_every_step_is_logged_with_its_figures_and_seconds(done):
    _, preprocessed, calls = done
    log = preprocessed.log()
    assert [step["name"] for step in log] == list(STEPS)
    assert log[0]["figures"]["input"] == "head"
    assert 1000 < log[0]["figures"]["brain_ml"] < 2000
    assert all(step["seconds"] > 0 and step["figures"] for step in log)
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_stripped_scans_are_recognised_and_brought_to_the_same_brain(done):
    simulated, preprocessed, _ = done
    stripped = preprocess(simulated.stripped, simulated.affine, steps=("extract",))
    assert stripped.log()[0]["figures"]["input"] == "brain"
    assert dice(stripped.brain, preprocessed.brain) > 0.9
    assert stripped.to_template is None
    assert np.array_equal(stripped.values, simulated.stripped)


def test_a_given_mask_bounds_the_brain():
    simulated = simulated_head("T1w")
    half = simulated.brain.copy()
    half[half.shape[0] // 2 :] = False
    preprocessed = preprocess(simulated.head, simulated.affine, mask=half, steps=("extract",))
    assert not (preprocessed.brain & ~half).any()
    assert preprocessed.brain.sum() > 0.6 * half.sum()
    assert np.array_equal(preprocess(simulated.head, simulated.affine, mask=half, steps=()).brain, half)


def test_without_steps_the_background_decides_and_a_skull_is_never_taken_for_brain():
    simulated = simulated_head("T2w")
    assert np.array_equal(preprocess(simulated.stripped, simulated.affine, steps=()).brain, simulated.brain)
    assert background_brain(simulated.head, simulated.affine) is None
    metadata = PriorMetadata("test", grid=GRID)
    with pytest.warns(UserWarning, match=r"has its skull, .*, so the brain was extracted \(1\d\d\d ml"):
        scan = prepare(simulated.head, metadata, affine=simulated.affine)
    assert dice(scan.brain(), simulated.brain) > 0.9
    assert [step.name for step in scan.steps] == ["extract"]


def test_a_restoration_of_a_head_says_what_was_done():
    simulated = simulated_head("T2w")
    prior = tiny_vae(metadata=replace(tiny_metadata(), grid=lc.SliceGrid(9.5, (24, 20))))
    config = lc.RestoreConfig(lc.ProxSolver(steps=1), tv_weight=1.0, preprocess=("extract",))
    result = lc.restore(torch.from_numpy(simulated.head), prior, affine=simulated.affine, config=config)
    (step,) = result.sidecar()["Preprocessing"]
    assert step["name"] == "extract"
    assert result.record.config.settings()["preprocess"] == ["extract"]


def test_registered_slices_are_the_templates_whatever_the_pose():
    simulated = simulated_head("T1w")
    metadata = PriorMetadata("test", grid=GRID, preprocessing=("register",))
    turned = np.array([[0.0, -1, 0, 20], [1, 0, 0, -10], [0, 0, 1, 30], [0, 0, 0, 1]])  # a quarter turn
    straight, lying = (
        prepare(simulated.stripped, metadata, affine=affine) for affine in (simulated.affine, turned @ simulated.affine)
    )
    assert straight.slices.shape == lying.slices.shape
    assert dice(straight.mask.numpy(), lying.mask.numpy()) > 0.97
    known = prepare(simulated.stripped, metadata, affine=simulated.affine, to_template=np.eye(4))
    assert known.steps == ()
    assert np.allclose(known.to_template, np.eye(4))
    assert np.allclose(lying.to_template @ turned, straight.to_template, atol=0.5)
    assert dice(straight.mask.numpy(), known.mask.numpy()) > 0.9
    back = lying.residual(lying.mask.float())
    assert dice(back > 0.5, lying.brain()) > 0.98


def test_the_bias_field_is_taken_off_where_slices_are_not_the_templates(done):
    """The correction registers for itself; that does not make the scan a registered one."""
    simulated, _, _ = done
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in simulated.brain.shape), indexing="ij")
    field = np.exp(0.3 * x - 0.2 * y * y).astype(np.float32)
    plain, biased = (
        preprocess(scan, simulated.affine, mask=simulated.brain, steps=("bias",))
        for scan in (simulated.stripped, simulated.stripped * field)
    )
    assert [step["name"] for step in biased.log()] == ["register", "bias"]
    assert biased.to_template is None
    assert np.array_equal(biased.brain, simulated.brain)
    where = simulated.brain & (simulated.stripped > 0)
    left = np.log(biased.values[where] / plain.values[where])
    assert left.std() < 0.15 * np.log(field)[simulated.brain].std()


def test_steps_are_checked():
    assert check_steps(("register", "extract")) == ("extract", "register")
    assert parse_steps("auto") is None
    assert parse_steps("none") == ()
    assert parse_steps("bias, extract") == ("extract", "bias")
    for wrong in ("strip", "extract,extract", ""):
        with pytest.raises(ValueError, match="preprocess: got"):
            parse_steps(wrong)
    with pytest.raises(ValueError, match="preprocess: got"):
        lc.RestoreConfig(preprocess=("strip",))
    with pytest.raises(ValueError, match="constant"):
        preprocess(np.zeros((9, 9, 9), np.float32), np.eye(4), steps=())
    ramp = np.arange(729, dtype=np.float32).reshape(9, 9, 9)
    with pytest.raises(ValueError, match="no voxel is brain"):
        preprocess(ramp, np.eye(4), mask=np.zeros((9, 9, 9), bool), steps=())


def test_a_prior_is_restored_as_it_was_trained_or_calibrated(tmp_path):
    prior = tiny_vae(metadata=tiny_metadata())
    config = lc.RestoreConfig(lc.ProxSolver(steps=1), tv_weight=1.0)
    assert config.for_prior(prior).preprocess is None
    asked = lc.RestoreConfig(lc.ProxSolver(steps=1), tv_weight=1.0, preprocess=("extract",)).for_prior(prior)
    assert asked.preprocess == ("extract",)
    assert asked.settings() != config.for_prior(prior).settings()  # thresholds do not hold
    prior.metadata = lc.PriorMetadata(
        **{**vars(prior.metadata), "preprocessing": ("extract", "register"), "calibration": None}
    )
    same = lc.RestoreConfig(lc.ProxSolver(steps=1), preprocess=("register", "extract")).for_prior(prior)
    assert same.preprocess is None
    lc.save_model(prior, tmp_path / "prior", card="For tests.\n")
    assert lc.load_prior(tmp_path / "prior").metadata.preprocessing == ("extract", "register")


@pytest.mark.parametrize("given", [False, True])
def test_a_lesion_at_the_cortex_stays_in_the_brain_of_a_stripped_scan(given):
    """Dark as CSF, so that the network takes it for the rim: what lies deep in the mask is brain all the same."""
    simulated = simulated_head("T1w")
    lesion, _ = cortical_lesion(simulated.brain)
    scan = np.where(lesion, 0.25 * simulated.stripped, simulated.stripped).astype(np.float32)
    preprocessed = preprocess(scan, simulated.affine, mask=simulated.brain if given else None, steps=("extract",))
    assert (preprocessed.brain & lesion).sum() > 0.7 * lesion.sum()
    assert not (preprocessed.brain & ~simulated.brain).any()


def test_an_evaluation_preprocesses_a_scan_once_for_all_detectors():
    simulated = simulated_head("T2w")
    lesion = np.zeros_like(simulated.brain)
    loaded = Loaded(nib.Nifti1Image(simulated.head, simulated.affine), None, None, lesion)
    done = loaded.preprocess(("extract",))
    metadata = PriorMetadata("test", grid=GRID, preprocessing=("extract",))
    first, again = done.prepare(metadata), loaded.prepare(metadata)
    assert first.steps == ()  # nothing is left to do
    assert np.array_equal(first.brain(), again.brain())
    assert torch.equal(first.slices, again.slices)
    assert done.lesion is lesion
    assert done.preprocess(("extract",)) is done
    assert loaded.preprocess(()) is loaded


def test_what_lies_far_beyond_the_template_is_no_brain_and_what_lies_deep_in_it_is():
    simulated = simulated_head("T1w")  # lies in the template's space
    depth = template_depth(simulated.brain.shape, simulated.affine)
    assert not (simulated.brain & (depth == 0)).any()
    assert (depth == 2).sum() > 0.7 * simulated.brain.sum()
    assert ((depth == 2) & ~simulated.brain).sum() < 0.01 * simulated.brain.sum()
    lower = simulated.affine.copy()
    lower[:3, 3] -= lower[:3, :3] @ [0, 0, 60]
    assert (template_depth((4, 4, 4), lower) == 0).all()


def test_a_dark_lesion_at_the_cortex_of_a_head_stays_in_its_brain():
    simulated = simulated_head("T1w")
    lesion, beyond = cortical_lesion(simulated.brain)
    scan = np.where(lesion, 0.25 * simulated.head, simulated.head).astype(np.float32)
    preprocessed = preprocess(scan, simulated.affine, steps=("extract", "register"))
    assert (preprocessed.brain & lesion).sum() > 0.75 * lesion.sum()
    assert preprocessed.log()[1]["figures"]["deep_ml"] > 0
    cut = np.where(beyond, scan.min(), scan)  # what was cut away is no brain
    assert not (preprocess(cut, simulated.affine, steps=("extract", "register")).brain & beyond).any()
