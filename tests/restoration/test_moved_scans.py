"""Restoring commutes with how a scan is stored and where it lies: to the bit, or within a measured bound."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from nibabel.affines import apply_affine
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy import ndimage
from support.models import tiny_vae
from support.scans import AFFINE, FAST, METADATA, SHAPE, VALUES

import lesioncore as lc

PRIOR = tiny_vae(metadata=METADATA)
SCAN = VALUES.numpy()
PLACES = apply_affine(AFFINE, np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1))
CENTRE, RADII = PLACES.reshape(-1, 3).mean(0), 1.5 * np.array(SHAPE)
CORE = (((PLACES - CENTRE) / (RADII - 10)) ** 2).sum(-1) < 1
"""Where a moved scan has brain all around, between whose voxels can be interpolated."""

TYPICAL, LARGEST = 0.15, 0.4
"""Bounds of the difference after a move, root mean square and largest, as shares of the residual's root mean square. Of
40 moves the worst have .10 and .28: a convolutional network is not the same between its grid's points, and the
interpolation for the comparison has a part in it."""

PADDING = st.tuples(*[st.tuples(st.integers(0, 5), st.integers(0, 5))] * 3)
few = settings(max_examples=12)


def residual(values, affine, mask=None) -> np.ndarray:
    image = nib.Nifti1Image(np.ascontiguousarray(values), affine)
    return lc.restore(image, PRIOR, mask=mask, config=FAST).residual.get_fdata()


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return residual(SCAN, AFFINE)


@few
@given(axes=st.permutations(range(3)), flips=st.tuples(*[st.sampled_from((1, -1))] * 3), padding=PADDING)
def test_flips_permutations_and_padding_change_no_bit(axes, flips, padding, expected):
    change = np.array(list(zip(axes, flips, strict=True)), float)
    padded, affine = np.pad(SCAN, padding), AFFINE.copy()
    affine[:3, 3] -= AFFINE[:3, :3] @ [before for before, _ in padding]
    stored = apply_orientation(padded, change)
    found = residual(stored, affine @ inv_ornt_aff(change, padded.shape))
    assert np.array_equal(found, apply_orientation(np.pad(expected, padding), change))


@few
@given(degrees=st.floats(-3, 3), axis=st.integers(0, 2), shift=st.tuples(*[st.floats(-500, 500)] * 3))
def test_where_the_scanner_says_that_the_head_lies_changes_no_bit(degrees, axis, shift, expected):
    assert np.array_equal(residual(SCAN, motion(degrees, axis, shift) @ AFFINE), expected)


@few
@given(degrees=st.floats(-3, 3), axis=st.integers(0, 2), shift=st.tuples(*[st.floats(-4, 4)] * 3))
def test_a_head_that_is_scanned_a_little_elsewhere_gives_nearly_the_same(degrees, axis, shift):
    affine = motion(degrees, axis, shift) @ AFFINE
    there, here = (residual(*head(one)) for one in (affine, AFFINE))
    moved = ndimage.map_coordinates(there, apply_affine(np.linalg.inv(affine), PLACES[CORE]).T, order=1)
    difference, scale = moved - here[CORE], np.sqrt((here[CORE] ** 2).mean())
    assert np.sqrt((difference**2).mean()) < TYPICAL * scale
    assert np.abs(difference).max() < LARGEST * scale


def motion(degrees: float, axis: int, shift: tuple[float, ...]) -> np.ndarray:
    """A turn about the head's centre, and a shift (mm)."""
    first, second = (other for other in range(3) if other != axis)
    angle, turn = np.deg2rad(degrees), np.eye(4)
    turn[[first, second], [first, second]] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    turn[:3, 3] = CENTRE - turn[:3, :3] @ CENTRE + shift
    return turn


def head(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smooth head where it lies, sampled by voxels that an affine places; with the affine and the brain."""
    at = apply_affine(affine, np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)) - CENTRE
    values = 400 + sum(60 * np.sin(2 * np.pi * at[..., axis] / (4 * SHAPE[axis]) + axis) for axis in range(3))
    brain = ((at / RADII) ** 2).sum(-1) < 1
    return np.where(brain, values, 0).astype(np.float32), affine, brain
