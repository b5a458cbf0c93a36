"""Scans, masks and priors with values that could give a wrong answer: none does so silently."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage
from support.bad_input import BadInput, rows
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
    BadInput(
        "NaN weights in a file", nan_weights, ValueError, (r"model\.safetensors: .*: has NaN or infinite weights",)
    ),
    BadInput("NaN weights of a projection", projected, ValueError, ("model: VAE returned NaN",)),
)
def test_values(bad_input, tmp_path):
    bad_input.check(tmp_path)


def test_a_lesion_is_read_as_a_brain_mask_is():
    found = read_mask(np.where(INSIDE, 1, 1e-7), SCAN.shape, None, name="lesion")
    np.testing.assert_array_equal(found, INSIDE)


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


def test_noise_around_a_head_is_no_labyrinth_to_walk_through(monkeypatch):
    """Of 7 litres of head and noise no brain is sought by its background, which took half a minute."""
    monkeypatch.setattr("lesioncore.preprocess.mask.flood", lambda *_: pytest.fail("a flood"))
    noise = torch.rand((24, 24, 24), generator=torch.Generator().manual_seed(0)).numpy()
    noise[noise < 0.5] = 0
    noise[:, [0, -1]] = 0
    assert background_brain(noise, np.diag([10.0, 10, 10, 1])) is None
