"""Voxels that are NaN: background, as SPM and CAT12 write it, and an error within a mask."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from support.models import head, scan_values, tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc

SHAPE = (22, 18, 11)
BRAIN = head(SHAPE).numpy()
AFFINE = np.array([[4.0, 0, 0, -40], [0, 4, 0, -36], [0, 0, 4, -20], [0, 0, 0, 1]])
FAST = lc.RestoreConfig(solver=lc.ProxSolver(steps=3, inner_iterations=10), tv_weight=1.0)
ABSENT = int((~BRAIN).sum())


@pytest.fixture(scope="module")
def prior():
    return tiny_vae(metadata=tiny_metadata(tiny_calibration(solver=FAST.solver)))


def with_nan(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A scan with a background of 0, and the same with one of NaN."""
    values = scan_values(head(SHAPE), seed).numpy()
    return values, np.where(BRAIN, values, np.float32(np.nan))


def test_a_scan_is_restored_as_if_its_background_were_zero(prior, tmp_path):
    values, missing = with_nan()
    path = tmp_path / "spm_T2w.nii"
    nib.save(nib.Nifti1Image(missing, AFFINE), path)
    expected = lc.restore(nib.Nifti1Image(values, AFFINE), prior, config=FAST)
    with pytest.warns(UserWarning, match=rf"spm_T2w\.nii: {ABSENT} voxels are NaN and count as background"):
        found = lc.restore(path, prior, config=FAST)
    for name in ("restored", "residual", "score", "brain_mask"):
        assert np.array_equal(getattr(found, name).get_fdata(), getattr(expected, name).get_fdata()), name
    assert len(found.save(tmp_path / "out")) >= 5


def test_calibration_takes_such_scans(prior):
    pairs = [with_nan(seed) for seed in range(3)]
    zero, nan = ([pair[which] for pair in pairs] for which in (0, 1))
    with pytest.warns(UserWarning, match="NaN and count as background"):
        found = lc.calibrate(prior, nan, config=FAST)
    assert found == lc.calibrate(prior, zero, config=FAST)


def test_holes_are_no_brain(prior):
    values, missing = with_nan()
    hole = np.zeros(SHAPE, bool)
    hole[10:12, 8:10, 5] = True
    with pytest.warns(UserWarning, match="NaN"):
        result = lc.restore(nib.Nifti1Image(np.where(hole, np.nan, values), AFFINE), prior, config=FAST)
    assert np.array_equal(result.brain_mask.get_fdata() > 0, BRAIN & ~hole)
    with pytest.warns(UserWarning, match="NaN"), pytest.raises(ValueError, match="4 voxels within the mask are NaN"):
        lc.restore(np.where(hole, np.nan, missing), prior, mask=BRAIN, config=FAST)
    with pytest.warns(UserWarning, match="NaN"):
        lc.restore(missing, prior, mask=BRAIN, config=FAST)


def test_infinite_values_stay_an_error(prior):
    _, missing = with_nan()
    missing[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="1 of 4356 voxels are infinite"):
        lc.restore(missing, prior, config=FAST)
    with pytest.raises(ValueError, match="1 of 4356 voxels that are infinite"):
        lc.restore(nib.Nifti1Image(missing, AFFINE), prior, config=FAST)
