"""Scans, masks and priors with values that could give a wrong answer: none does so silently."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage
from support.bad_input import TAKEN, BadInput, CommandRefusedError, command, listed, rows
from support.models import tiny_vae
from support.scans import AFFINE, BRAIN, FAST, METADATA, VALUES

import lesioncore as lc
from lesioncore.detectors import ProjectionDetector
from lesioncore.models import load_prior, save_model
from lesioncore.preprocess.mask import brain_mask
from lesioncore.preprocess.pipeline import background_brain
from lesioncore.restoration.volumes import read_mask

PRIOR = tiny_vae(metadata=METADATA)
INSIDE, SCAN = BRAIN.numpy(), VALUES.numpy()
LABELS = np.where(INSIDE, 1 + np.digitize(SCAN, np.quantile(SCAN[INSIDE], [1 / 3, 2 / 3])), 0)
SHIFTED = SCAN.astype(np.float64) + 1e8


RIPPLED = np.rint(ndimage.zoom(np.pad(SCAN, 6), 2, order=3))


class NaNPrior:
    """A user's own prior whose ELBO is not a number."""

    metadata = METADATA

    def elbo(self, x):
        return x.flatten(1).sum(1) * float("nan")

    fixed_posterior_elbo = elbo


def image(values):
    return nib.Nifti1Image(values, AFFINE)


def restore(volume, prior=PRIOR, config=FAST, **options):
    return lambda _: lc.restore(volume, prior, config=config, **options)


def score(volume, **options):
    return lc.restore(volume, PRIOR, config=FAST, **options).score


EXPECTED = score(SCAN, mask=INSIDE)
CORNER, MIDDLE = (0, 0, 0), (11, 9, 5)


def regions(volume=SCAN):
    """A label map of blocks of three voxels, whose 300 labels have no order."""
    x, y, z = np.indices(volume.shape) // 3
    labels = 1 + np.random.default_rng(0).permutation(300)
    return np.where(volume > 0, labels[(97 * x + 31 * y + z) % 300], 0).astype(np.float32)


def enlarged_scan(_):
    values = np.rint(SCAN / 2).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    lc.restore(nib.Nifti1Image(values, AFFINE @ np.diag([1 / 3, 1 / 3, 1 / 3, 1])), PRIOR, config=FAST)


def with_value(value, place=CORNER):
    """The scan with a voxel of a value."""
    changed = SCAN.copy()
    changed[place] = value
    return changed


def same_without(values):
    """Restore a scan whose wrong voxels the mask leaves out, as array, image and file: what is in the mask counts."""

    def use(folder):
        nib.save(image(values), folder / "scan.nii")
        np.testing.assert_array_equal(score(values, mask=INSIDE), EXPECTED)
        for volume in (image(values), folder / "scan.nii"):
            np.testing.assert_array_equal(score(volume, mask=INSIDE).get_fdata(), EXPECTED)

    return use


def masked_slices(_):
    prior = tiny_vae(SCAN.shape[:2], metadata=replace(METADATA, grid=None))
    slices, brain = (part.transpose(2, 0, 1)[:, None] for part in (SCAN, INSIDE))
    changed = np.where(brain, slices, np.float32(np.nan))
    expected, found = (lc.restore(one, prior, mask=brain, config=FAST).score for one in (slices, changed))
    np.testing.assert_array_equal(found, expected)


def preprocessed(values, affine=AFFINE):
    """Write a scan and its mask, and have the command preprocess it."""

    def use(folder):
        nib.save(nib.Nifti1Image(np.asarray(values, np.float32), affine), folder / "sub-1_T2w.nii")
        nib.save(nib.Nifti1Image(INSIDE.astype(np.uint8), affine), folder / "mask.nii")
        mask = ("--mask", folder / "mask.nii", "--steps", "extract")
        command("preprocess", folder / "sub-1_T2w.nii", "-o", folder / "out", *mask)

    return use


def healthy_with(mask):
    """Calibrate with a mask whose background is not quite 0."""
    found, expected = (lc.calibrate(PRIOR, [SCAN], masks=[one], config=FAST) for one in (mask, INSIDE))
    assert found == expected


def same_with(mask):
    """Restore with a mask whose background is not quite 0: it is the right brain all the same."""
    return lambda _: np.testing.assert_array_equal(score(SCAN, mask=mask), EXPECTED)


def same_with_file(folder):
    mask = image(INSIDE.astype(np.uint8))
    mask.header.set_slope_inter(1.0, 1e-8)
    nib.save(mask, folder / "mask.nii")
    np.testing.assert_array_equal(score(image(SCAN), mask=folder / "mask.nii").get_fdata(), EXPECTED)


def projected(_):
    model = tiny_vae(metadata=METADATA)
    next(model.parameters()).data.fill_(float("nan"))
    return ProjectionDetector(model).detect(SCAN)


def nan_weights(folder):
    saved = save_model(tiny_vae(metadata=METADATA), folder / "prior", card="of a test")
    weights = load_file(saved / "model.safetensors")
    next(tensor for tensor in weights.values() if tensor.is_floating_point()).view(-1)[0] = float("nan")
    save_file(weights, saved / "model.safetensors")
    return load_prior(saved)


def solved_by(solver):
    return restore(SCAN, NaNPrior(), replace(FAST, solver=solver, preprocess=None))


@rows(
    "Values",
    BadInput("three grey values", restore(LABELS.astype(np.float32)), ValueError, ("3 different values in the brain",)),
    BadInput("a mask as a scan", restore(image((2 - (LABELS < 2)) * np.float32(INSIDE))), ValueError, ("2 different",)),
    BadInput(
        "a label map as a healthy scan",
        lambda _: lc.calibrate(PRIOR, [image(SCAN), image(LABELS.astype(np.int16))], config=FAST),
        ValueError,
        ("3 different values in the brain",),
    ),
    BadInput(
        "slices of three values",
        restore(
            LABELS.transpose(2, 0, 1)[:, None] * 1.0, tiny_vae(SCAN.shape[:2], metadata=replace(METADATA, grid=None))
        ),
        ValueError,
        ("3 different values",),
    ),
    BadInput("a label map of 300 regions", restore(regions()), ValueError, ("areas of one value in the brain",)),
    BadInput(
        "slices of a label map",
        restore(regions().transpose(2, 0, 1)[:, None], tiny_vae(SCAN.shape[:2], metadata=replace(METADATA, grid=None))),
        ValueError,
        ("areas of one value in the brain",),
    ),
    BadInput("a scan of 40 grey values", restore(np.rint(SCAN / 7)), None),
    BadInput("a scan enlarged threefold without interpolation", enlarged_scan, None),
    BadInput(
        "two grey values to preprocess", preprocessed(2 - (LABELS < 2)), CommandRefusedError, ("different values",)
    ),
    BadInput(
        "a scan in metres to preprocess",
        preprocessed(SCAN, np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE),
        CommandRefusedError,
        ("expected one around a head; check that the affine is in mm",),
    ),
    BadInput("nothing but NaN", restore(SCAN * np.nan), ValueError, ("got nothing but NaN",)),
    BadInput(
        "an infinite voxel", restore(with_value(np.inf)), ValueError, ("infinite; clean the scan first, or give",)
    ),
    BadInput(
        "an infinite voxel that the mask leaves out",
        same_without(with_value(-np.inf)),
        None,
        ("1 voxels are NaN or infinite and count as background",),
    ),
    BadInput(
        "an infinite voxel in the mask",
        restore(with_value(np.inf, MIDDLE), mask=INSIDE),
        ValueError,
        ("1 voxels within the mask are NaN or infinite",),
    ),
    BadInput(
        "NaN that the mask leaves out",
        same_without(np.where(INSIDE, SCAN, np.nan).astype(np.float32)),
        None,
        ("voxels are NaN and count as background",),
    ),
    BadInput(
        "NaN in the mask",
        restore(with_value(np.nan, MIDDLE), mask=INSIDE),
        ValueError,
        ("1 voxels within the mask are NaN or infinite",),
    ),
    BadInput("slices with NaN that the mask leaves out", masked_slices, None, ("count as background",)),
    BadInput(
        "mask with a background of 1e-7 of a healthy scan", lambda _: healthy_with(np.where(INSIDE, 1, 1e-7)), None
    ),
    BadInput(
        "mask with NaN", restore(SCAN, mask=np.where(INSIDE, 1, np.nan)), ValueError, ("mask: got .* NaN voxels",)
    ),
    BadInput("mask of nothing", restore(SCAN, mask=np.zeros(SCAN.shape)), ValueError, ("mask: no voxel is brain",)),
    BadInput("mask of probabilities", restore(SCAN, mask=INSIDE * 0.4), None, ("no whole numbers",)),
    BadInput("a constant scan", restore(np.full(SCAN.shape, 7.0)), ValueError, ("got the constant 7",)),
    BadInput("an empty array", restore(np.zeros((0, 3, 3))), ValueError, ("at least one voxel along each axis",)),
    BadInput("complex voxels", restore(SCAN * 1j), TypeError, ("got dtype complex",)),
    BadInput("complex voxels in an image", restore(image(SCAN * 1j)), ValueError, ("complex",)),
    BadInput("a series of volumes", restore(image(np.stack([SCAN] * 2, -1))), ValueError, ("got 2 volumes",)),
    BadInput(
        "colours", restore(image(np.zeros(SCAN.shape, [(colour, "u1") for colour in "RGB"]))), ValueError, ("RGB",)
    ),
    BadInput(
        "values beyond float32", restore(image(with_value(0).astype(np.float64) + 1e300)), ValueError, ("infinite",)
    ),
    BadInput("a list in place of an array", restore({"scan": SCAN}), TypeError, ("volume: got dict, expected a path",)),
    BadInput("offset in an image", restore(image(SHIFTED)), ValueError, ("subtract the offset",)),
    BadInput("offset in an array", restore(SHIFTED), ValueError, ("subtract the offset",)),
    BadInput("offset in the brain alone", restore(np.where(INSIDE, SHIFTED, 0)), ValueError, ("subtract the offset",)),
    BadInput("offset that leaves contrast", restore(SCAN.astype(np.float64) + 1e4), None),
    BadInput("mask with a background of 1e-7", same_with(np.where(INSIDE, 1, 1e-7)), None),
    BadInput("mask of bytes divided by 255", same_with(np.where(INSIDE, 1 / 255, 0)), None),
    BadInput("mask of labels", same_with(np.where(INSIDE, LABELS * 100 + 1, 0)), None),
    BadInput("mask with a scl_inter of 1e-8", same_with_file, None),
    BadInput("ripples of resampling", lambda _: brain_mask(RIPPLED), ValueError, ("ripples",)),
    BadInput("resampled without ripples", lambda _: brain_mask(ndimage.zoom(np.pad(SCAN, 6), 2, order=1)), None),
    BadInput(
        "masked array as a scan", restore(np.ma.masked_less(SCAN, 300)), TypeError, ("volume: got a masked array",)
    ),
    BadInput(
        "masked array as a mask", restore(SCAN, mask=np.ma.array(INSIDE)), TypeError, ("mask: got a masked array",)
    ),
    BadInput(
        "ELBO that is NaN, prox", solved_by(lc.ProxSolver(steps=2)), ValueError, ("prior: .*NaN or infinite ELBO",)
    ),
    BadInput("ELBO that is NaN, em", solved_by(lc.EMSolver(steps=2)), ValueError, ("prior: .*NaN or infinite ELBO",)),
    BadInput(
        "ELBO that is NaN, paper", solved_by(lc.PaperSolver(steps=2)), ValueError, ("prior: .*NaN or infinite ELBO",)
    ),
    BadInput("NaN weights in a file", nan_weights, ValueError, (r"model\.safetensors: .*NaN or infinite weights",)),
    BadInput("NaN weights of a projection", projected, ValueError, ("model: VAE returned NaN",)),
)
def test_values(bad_input, tmp_path):
    bad_input.check(tmp_path)


@listed("Values", "lesion mask with a background of 1e-7", TAKEN)
def test_a_lesion_is_read_as_a_brain_mask_is():
    found = read_mask(np.where(INSIDE, 1, 1e-7), SCAN.shape, None, name="lesion")
    np.testing.assert_array_equal(found, INSIDE)


@listed("Values", "edits in the cache of a nibabel image", TAKEN, "they count, and are kept")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_image_is_used_as_edited_and_keeps_its_edits(tmp_path, dtype):
    nib.save(image(SCAN), tmp_path / "scan.nii")
    loaded = nib.load(tmp_path / "scan.nii")
    edited = loaded.get_fdata(dtype=dtype)
    edited[8:12, 8:12, 4:6] *= 2
    found = score(loaded, mask=INSIDE).get_fdata()
    np.testing.assert_array_equal(found, score(edited.astype(np.float32), mask=INSIDE))
    assert not np.array_equal(found, EXPECTED)
    np.testing.assert_array_equal(loaded.get_fdata(dtype=dtype), edited)


@listed("Values", "writing into the arrays of a result", TAKEN, "the result stays as it was")
@pytest.mark.parametrize("volume", [SCAN, VALUES], ids=["array", "tensor"])
def test_a_result_does_not_change_with_what_it_returned(volume):
    result = lc.restore(volume, PRIOR, mask=INSIDE, config=FAST)
    for name in ("score", "residual", "restored", "brain_mask"):
        getattr(result, name)[:] = 1
    again = lc.restore(volume, PRIOR, mask=INSIDE, config=FAST)
    for mine, expected in (
        (result._score, again._score),
        (result._residual, again._residual),
        (result._restored, again._restored),
    ):
        np.testing.assert_array_equal(mine, expected)
    np.testing.assert_array_equal(result.scan.brain(), INSIDE)


@listed("Values", "noise around a head of 7 litres", TAKEN, "no brain by its background: it is extracted")
def test_noise_around_a_head_is_no_labyrinth_to_walk_through(monkeypatch):
    """Of 7 litres of head and noise no brain is sought by its background, which took half a minute."""
    monkeypatch.setattr("lesioncore.preprocess.mask.flood", lambda *_: pytest.fail("a flood"))
    noise = torch.rand((24, 24, 24), generator=torch.Generator().manual_seed(0)).numpy()
    noise[noise < 0.5] = 0
    noise[:, [0, -1]] = 0
    assert background_brain(noise, np.diag([10.0, 10, 10, 1])) is None
