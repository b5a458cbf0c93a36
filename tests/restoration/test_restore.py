"""``lesioncore.restore`` end to end on small scans: kinds, geometry, masks, repeatability, errors."""

from __future__ import annotations

import hashlib
import itertools
import json
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from support.models import GaussianPrior, head, scan_values, tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc

SHAPE = (22, 18, 11)
BRAIN = head(SHAPE)
VALUES = scan_values(BRAIN)
AFFINE = np.array([[4.0, 0, 0, -40], [0, 4, 0, -36], [0, 0, 4, -20], [0, 0, 0, 1]])
FAST = lc.RestoreConfig(solver=lc.ProxSolver(steps=3, inner_iterations=10))


@pytest.fixture(scope="module")
def prior():
    return tiny_vae(metadata=tiny_metadata(tiny_calibration(solver=FAST.solver)))


@pytest.fixture(scope="module")
def image():
    return nib.Nifti1Image(VALUES.numpy(), AFFINE)


@pytest.fixture(scope="module")
def result(prior, image):
    return lc.restore(image, prior, config=FAST)


def voxels(thing):
    return thing.get_fdata() if hasattr(thing, "get_fdata") else np.asarray(thing)


def test_result_is_on_the_input_grid(result, prior, image):
    for thing in (result.restored, result.residual, result.score, result.mask(0.05), result.brain_mask, result.rank()):
        assert isinstance(thing, nib.Nifti1Image)
        assert thing.shape == image.shape
        assert np.array_equal(thing.affine, image.affine)
    assert np.array_equal(voxels(result.score), np.abs(voxels(result.residual)))
    assert np.array_equal(voxels(result.brain_mask) > 0, BRAIN.numpy())
    threshold = prior.metadata.calibration.threshold(0.05)
    assert np.array_equal(voxels(result.mask(0.05)) > 0, voxels(result.score) > threshold)
    assert np.abs(voxels(result.residual)[BRAIN]).max() > 0.1
    assert not voxels(result.residual)[~BRAIN].any()


def test_restored_is_input_minus_residual_on_the_intensity_scale(result):
    """Where nothing had to change the input is kept to the bit; the residual is off the rest, within the range."""
    restored, residual = voxels(result.restored), voxels(result.residual)
    assert np.array_equal(restored[residual == 0], VALUES.numpy()[residual == 0])
    large = np.abs(residual) > 0.05
    assert large.any()
    expected = result.scan.intensity_map.inverse(
        (result.scan.intensity_map(VALUES.numpy()) - residual).astype(np.float32)
    ).clip(0, float(VALUES.max()))
    assert (
        np.abs(restored - expected)[BRAIN.numpy()].max() < 1e-2
    )  # the prior's grid is the scan's: there is no finer detail
    assert restored.min() >= 0
    assert restored.max() <= VALUES.max()


def test_objective_rises(result):
    assert len(result.objective) == 4
    assert result.objective[-1] > result.objective[0]


@pytest.mark.parametrize("kind", ["path", "array", "tensor"])
def test_other_kinds_give_the_same(kind, prior, image, result, tmp_path):
    if kind == "path":
        nib.save(image, tmp_path / "a_T2w.nii.gz")
        other = lc.restore(tmp_path / "a_T2w.nii.gz", prior, config=FAST)
    else:
        volume = VALUES if kind == "tensor" else VALUES.numpy()
        other = lc.restore(volume, prior, affine=AFFINE, config=FAST)
        assert type(other.restored) is type(volume)
    assert np.array_equal(voxels(other.residual), voxels(result.residual))
    assert np.array_equal(voxels(other.restored), voxels(result.restored))


def test_array_without_affine_is_at_the_priors_voxel_size(prior, result):
    assert np.array_equal(lc.restore(VALUES.numpy(), prior, config=FAST).residual, voxels(result.residual))


@pytest.mark.parametrize("axes", [*itertools.islice(itertools.permutations("RAS"), 1, 6), "LPI", "AIL", "SPR"])
def test_storage_orientation_does_not_matter(axes, prior, image, result):
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    stored = apply_orientation(VALUES.numpy(), change)
    affine = AFFINE @ inv_ornt_aff(change, SHAPE)
    other = lc.restore(nib.Nifti1Image(stored, affine), prior, config=FAST)
    assert np.array_equal(voxels(other.residual), apply_orientation(voxels(result.residual), change))


def test_finer_scan_comes_back_on_its_own_grid(prior):
    fine = torch.nn.functional.interpolate(VALUES[None, None], scale_factor=2, mode="nearest")[0, 0]
    affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    result = lc.restore(nib.Nifti1Image(fine.numpy(), affine), prior, config=FAST)
    assert result.solution.restored.shape == (11, 1, 24, 20)
    assert voxels(result.residual).shape == fine.shape
    assert np.abs(voxels(result.residual)).max() > 0.1


def test_linear_intensity_changes_do_not_matter(prior, result):
    other = lc.restore(torch.where(BRAIN, 3.0 * VALUES + 50.0, 0.0), prior, config=FAST)
    assert np.abs(other.residual.numpy() - voxels(result.residual)).max() < 1e-3


def test_masks_given_and_derived_agree(prior, image, result, tmp_path):
    nib.save(nib.Nifti1Image(BRAIN.numpy().astype(np.uint8), AFFINE), tmp_path / "mask.nii.gz")
    for mask in (tmp_path / "mask.nii.gz", BRAIN.numpy(), BRAIN):
        assert np.array_equal(
            voxels(lc.restore(image, prior, mask=mask, config=FAST).residual), voxels(result.residual)
        )
    half = BRAIN.clone()
    half[:11] = False
    assert not voxels(lc.restore(image, prior, mask=half, config=FAST).residual)[:11].any()


def test_masks_of_probabilities_are_warned_of(prior, image):
    mask = BRAIN.numpy() * np.float32(0.3)
    with pytest.warns(UserWarning, match="mask: has values that are no whole numbers"):
        lc.restore(image, prior, mask=mask, config=FAST)


def test_list_is_each_alone(prior, image, result):
    other = scan_values(head((20, 18, 8)), seed=4).numpy()
    results = lc.restore([image, other], prior, config=FAST)
    assert np.allclose(voxels(results[0].residual), voxels(result.residual), atol=2e-3)
    assert np.allclose(results[1].residual, lc.restore(other, prior, config=FAST).residual, atol=2e-3)
    assert isinstance(lc.restore([image], prior, config=FAST), list)


def test_kl_weight_changes_the_objective(prior, image, result):
    with pytest.warns(UserWarning, match=r"kl_weight 0\.5, not 1\.0"):
        other = lc.restore(image, prior, config=lc.RestoreConfig(FAST.solver, tv_dimensions=2, kl_weight=0.5))
    assert not np.array_equal(voxels(other.residual), voxels(result.residual))
    assert other.sidecar()["Settings"]["kl_weight"] == 0.5
    rows = other.scan.mask.flatten(1).any(1)
    with torch.no_grad():
        terms = prior.elbo_terms(other.solution.restored[rows])
    expected = terms["log_likelihood"] - 0.5 * terms["kl"]
    change = other.slice_residual[rows][:, 0]
    variation = sum(change.diff(dim=axis).abs().flatten(1).sum(1) for axis in (1, 2))
    assert torch.allclose(other.solution.objective[-1], expected - variation, rtol=1e-4)


def test_kl_weight_needs_the_terms_of_the_elbo():
    y = torch.randn(1, 1, 6, 5)
    config = lc.RestoreConfig(FAST.solver, tv_weight=1.0, kl_weight=2.0)
    with pytest.raises(ValueError, match="GaussianPrior has no elbo_terms"):
        lc.restore(y, GaussianPrior(torch.zeros(1, 1, 6, 5)), config=config)


def test_sampling_repeats_by_seed(prior, image):
    config = lc.RestoreConfig(solver=FAST.solver, latent="sample", tv_weight=1.0)
    with pytest.warns(UserWarning, match="thresholds do not hold"):
        first, again, other = (
            voxels(lc.restore(image, prior, config=config, generator=torch.Generator().manual_seed(s)).residual)
            for s in (1, 1, 2)
        )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_batch_size_does_not_matter(prior, image, dimensions):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = [
            voxels(
                lc.restore(
                    image, prior, config=lc.RestoreConfig(FAST.solver, tv_dimensions=dimensions, batch_size=size)
                ).residual
            )
            for size in (1, 4, 16)
        ]
    # float32 convolutions round differently in other batch sizes.
    assert np.allclose(found[0], found[1], atol=2e-3)
    assert np.allclose(found[0], found[2], atol=2e-3)


def test_three_dimensional_tv_couples_slices(prior, image, result):
    assert result.record.config.tv_dimensions == 3  # as the prior was calibrated
    with pytest.warns(UserWarning, match="tv_dimensions 2, not 3"):
        apart = lc.restore(image, prior, config=lc.RestoreConfig(FAST.solver, tv_dimensions=2))
    through = lambda r: np.abs(np.diff(voxels(r.residual), axis=2)).sum()  # noqa: E731
    assert through(result) < through(apart)


def test_slices_beyond_the_brain_change_nothing(prior):
    """Whatever lies above and below it, the coupled problem is the same."""
    scan = torch.zeros(22, 18, 24)
    scan[:, :, 6:17] = torch.where(head((22, 18, 11)), scan_values(head((22, 18, 11))), 0.0)
    few, many = (lc.restore(part, prior, config=FAST) for part in (scan[:, :, 5:18], scan))
    assert few.record.config.tv_dimensions == 3
    assert torch.allclose(many.residual[:, :, 5:18], few.residual, atol=2e-3)
    assert many.objective == pytest.approx(few.objective, rel=1e-3)


def test_slices_and_a_prior_without_metadata():
    mean = torch.zeros(1, 1, 6, 5)
    y = torch.randn(3, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    result = lc.restore(y, GaussianPrior(mean), config=lc.RestoreConfig(tv_weight=0.0))
    assert isinstance(result.restored, torch.Tensor)
    assert torch.allclose(result.restored, torch.zeros(()), atol=5e-3)
    with pytest.raises(ValueError, match="no geometry"):
        result.save("nowhere")


def test_uncalibrated_prior_wants_a_weight(image):
    bare = tiny_vae(metadata=tiny_metadata())
    with pytest.raises(ValueError, match="tv_weight"):
        lc.restore(image, bare)
    result = lc.restore(image, bare, config=lc.RestoreConfig(FAST.solver, tv_weight=1.0))
    with pytest.raises(ValueError, match="no calibration"):
        result.mask(0.05)


def test_other_settings_than_the_calibrated_warn_and_refuse_masks(prior, image):
    with pytest.warns(UserWarning, match="was calibrated with"):
        result = lc.restore(image, prior, config=lc.RestoreConfig(lc.ProxSolver(steps=4)))
    with pytest.raises(ValueError, match="no calibration for these settings"):
        result.mask(0.05)


def test_saving_over_another_restoration_leaves_none_of_its_masks(result, prior, image, tmp_path):
    old = result.save(tmp_path, name="sub-01_T2w")
    assert old["fpr05"].exists()
    with pytest.warns(UserWarning, match="was calibrated with"):
        other = lc.restore(image, prior, config=lc.RestoreConfig(lc.ProxSolver(steps=4)))
    written = other.save(tmp_path, name="sub-01_T2w")
    assert set(tmp_path.iterdir()) == set(written.values())


def test_save(result, prior, image, tmp_path):
    nib.save(image, tmp_path / "sub-01_T2w.nii.gz")
    found = lc.restore(tmp_path / "sub-01_T2w.nii.gz", prior, config=FAST)
    written = found.save(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in written.values())
    assert written["fpr05"].name == "sub-01_label-L_desc-fpr05T2w_mask.nii.gz"
    restored = nib.load(written["restored"])
    assert np.array_equal(restored.affine, image.affine)
    assert np.array_equal(restored.get_fdata(), voxels(found.restored))
    assert np.array_equal(nib.load(written["fpr05"]).get_fdata(), voxels(found.mask(0.05)))
    probability = nib.load(written["probability"]).get_fdata()
    assert probability.min() >= 0
    assert probability.max() <= 1
    sidecar = json.loads(written["sidecar"].read_text())
    assert sidecar["Prior"] == "tiny"
    assert sidecar["TVWeight"] == 1.0
    limits = sidecar["Thresholds"].items()
    assert [limit for limit, _ in limits] == ["0.01", "0.05", "0.1"]
    assert all(threshold == prior.metadata.calibration.threshold(float(limit)) for limit, threshold in limits)
    with pytest.raises(ValueError, match="name="):
        result.save(tmp_path / "out2")


def test_saved_hashes_are_of_what_was_read(prior, image, tmp_path):
    path = tmp_path / "sub-01_T2w.nii.gz"
    nib.save(image, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = lc.restore(path, prior, config=FAST)
    path.unlink()
    sidecar = json.loads(found.save(tmp_path / "out")["sidecar"].read_text())
    assert (sidecar["Source"], sidecar["SourceSHA256"], sidecar["MaskSHA256"]) == (path.name, digest, None)


def test_progress_counts_every_step(prior, image):
    calls = []
    lc.restore(image, prior, config=FAST, progress=lambda done, steps: calls.append((done, steps)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"volume": "no-such-file.nii.gz"}, FileNotFoundError, "no such file"),
        ({"volume": np.zeros((3, 3), np.float32)}, ValueError, r"\[X, Y, Z\]"),
        ({"volume": [1, 2]}, TypeError, "volume: got int"),
        ({"volume": []}, ValueError, "empty list"),
        ({"volume": np.full(SHAPE, np.nan)}, ValueError, "nothing but NaN"),
        ({"volume": np.full(SHAPE, np.inf)}, ValueError, "infinite"),
        ({"volume": np.where(np.eye(24, 20), np.nan, 0)[None, None]}, ValueError, "20 NaN in slices"),
        ({"mask": np.full(SHAPE, np.nan)}, ValueError, "mask: got .* NaN voxels"),
        ({"volume": np.zeros((2, 1, 9, 9), np.float32)}, ValueError, "expected .24, 20"),
        ({"mask": np.zeros(SHAPE, bool)}, ValueError, "no voxel is brain"),
        ({"mask": np.ones((3, 3, 3), bool)}, ValueError, "mask: got shape"),
        ({"mask": nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4))}, ValueError, "affine differs"),
        ({"affine": np.eye(4)}, ValueError, "affine: given beside"),
        ({"prior": 3}, TypeError, "load_prior"),
        ({"prior": "phantom-t9"}, FileNotFoundError, "got 'phantom-t9', expected a prior"),
        ({"prior": "auto", "volume": []}, ValueError, "empty list"),
        ({"device": "tpu"}, ValueError, "device: got"),
        ({"volume": [VALUES, VALUES], "mask": BRAIN}, ValueError, "one for each scan"),
    ],
)
def test_bad_input_is_named(arguments, error, message, prior, image):
    call = {"volume": image, "prior": prior, "config": FAST} | arguments
    with pytest.raises(error, match=message):
        lc.restore(call.pop("volume"), call.pop("prior"), **call)


def test_a_gpu_that_is_not_there_is_named(prior, image):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="no CUDA device"):
        lc.restore(image, prior, config=FAST, device="cuda")


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "newton"},
        {"tv": "l2"},
        {"tv_dimensions": 4},
        {"latent": "mode"},
        {"batch_size": 0},
        {"tv_weight": -1.0},
        {"kl_weight": -1.0},
        {"kl_weight": float("nan")},
        {"kl_weight": float("inf")},
        {"tv_eps": 0.0},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match="expected"):
        lc.RestoreConfig(**options)
