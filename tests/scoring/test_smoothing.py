"""Smoothing in three dimensions against SciPy's, and where it must do nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.models import tiny_vae
from support.scans import AFFINE, BRAIN, FAST, METADATA, VALUES

import lesioncore as lc
from lesioncore.detectors import IntensityThreshold
from lesioncore.scoring.smoothing import smooth

SHAPE = (9, 1, 17, 14)


@pytest.mark.parametrize("sigma", [1.0, 2.5, 8.0])
@pytest.mark.parametrize("voxel_size", [(2.0, 2.0, 2.0), (1.0, 1.5, 5.0)])
def test_is_scipys_in_millimetres(sigma, voxel_size, device):
    ndimage = pytest.importorskip("scipy.ndimage")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPE, dtype=torch.float64, generator=generator)
    mask = torch.rand(SHAPE, generator=generator) > 0.3
    along = (voxel_size[2], None, voxel_size[0], voxel_size[1])
    sigmas = [0 if size is None else sigma / size for size in along]
    expected = ndimage.gaussian_filter(np.where(mask, x, 0.0), sigmas, mode="constant") * mask.numpy()
    found = smooth(x.to(device), mask.to(device), voxel_size, sigma)
    assert np.abs(found.cpu().numpy() - expected).max() < 1e-12


def test_without_smoothing_or_geometry_nothing_changes():
    x, mask = torch.randn(SHAPE), torch.rand(SHAPE) > 0.3
    assert smooth(x, mask, (2.0, 2.0, 2.0), 0.0) is x
    assert smooth(x, mask, None, 3.0) is x


def test_score_of_a_restoration_is_the_smoothed_residual():
    prior = tiny_vae(metadata=METADATA)
    plain, smoothed = (
        lc.restore(VALUES, prior, affine=AFFINE, config=lc.RestoreConfig(FAST.solver, 1.0, size, standardize=False))
        for size in (0.0, 6.0)
    )
    assert torch.equal(plain.residual, smoothed.residual)
    assert torch.equal(plain.restored, smoothed.restored)
    assert torch.equal(plain.score, plain.residual.abs())
    scan = smoothed.scan
    expected = scan.residual(smooth(smoothed.slice_residual, scan.mask, scan.voxel_size, 6.0))
    assert np.array_equal(smoothed.score.numpy(), np.abs(expected))
    assert smoothed.score[BRAIN].std() < plain.score[BRAIN].std()


def test_thresholds_belong_to_one_smoothing():
    prior = tiny_vae(metadata=METADATA)
    config = lc.RestoreConfig(FAST.solver, 1.0, 4.0)
    prior.metadata = METADATA.with_calibration(lc.calibrate(prior, [VALUES], config=config))
    result = lc.restore(VALUES, prior, config=lc.RestoreConfig(FAST.solver))
    assert result.record.scoring.smoothing == 4.0
    assert 0 < result.mask(0.1).sum() <= 0.1 * BRAIN.sum()
    with pytest.warns(UserWarning, match=r"smoothing 0\.0, not 4\.0"):
        other = lc.restore(VALUES, prior, config=lc.RestoreConfig(FAST.solver, smoothing=0.0))
    with pytest.raises(ValueError, match="no calibration"):
        other.mask()


def test_slices_without_geometry_are_never_mixed():
    """Neither by the total variation nor by the smoothing; thresholds of whole volumes do not hold for them."""
    prior = tiny_vae(metadata=METADATA)
    prior.metadata = METADATA.with_calibration(
        lc.calibrate(prior, [VALUES], config=lc.RestoreConfig(FAST.solver, 1.0, 4.0))
    )
    slices = torch.where(BRAIN, VALUES, 0.0).permute(2, 0, 1)[:, None].contiguous()
    slices = torch.nn.functional.pad(
        slices, (0, METADATA.grid.shape[1] - slices.shape[3], 0, METADATA.grid.shape[0] - slices.shape[2])
    )
    with pytest.warns(UserWarning, match="without geometry"):
        together = lc.restore(slices, prior, config=lc.RestoreConfig(FAST.solver))
    assert together.record.calibration is None
    with pytest.raises(ValueError, match=r"whole volumes and do not hold for slices .* give restore a volume, or run"):
        together.mask()
    middle = len(slices) // 2
    config = lc.RestoreConfig(FAST.solver, normalized=True)
    z = together.scan.slices
    with pytest.warns(UserWarning, match="without geometry"):
        whole, alone = (lc.restore(part, prior, config=config).score for part in (z, z[middle : middle + 1]))
    assert torch.allclose(whole[middle], alone[0], atol=1e-5)


def test_thresholds_of_slices_hold_for_slices():
    prior = tiny_vae(metadata=METADATA)
    z = torch.full((4, 1, *METADATA.grid.shape), -3.5)
    z[:, :, 2:-2, 2:-2] = torch.randn(z[:, :, 2:-2, 2:-2].shape, generator=torch.Generator().manual_seed(0))
    config = lc.RestoreConfig(FAST.solver, tv_weight=0.1, normalized=True)
    found = lc.calibrate(prior, [z], config=config)
    assert (found.settings["tv_dimensions"], found.smoothing, found.of_volumes) == (2, 0.0, False)
    prior.metadata = METADATA.with_calibration(found)
    result = lc.restore(z, prior, config=config)
    assert 0 < result.mask(0.1).sum() <= 0.1 * (z != -3.5).sum()


def test_a_detector_says_that_thresholds_of_volumes_do_not_hold_for_slices():
    detector = IntensityThreshold(METADATA, sign=1, smoothing=5.0)
    detector.metadata = detector.metadata.with_calibration(detector.thresholds([VALUES]))
    with pytest.warns(UserWarning, match="without geometry"):
        detector.detect(VALUES.permute(2, 0, 1)[:, None].contiguous(), mask=BRAIN.permute(2, 0, 1)[:, None])


def test_every_deviation_is_smoothed_and_its_settings_say_so():
    detector = IntensityThreshold(METADATA, sign=1, smoothing=5.0)
    other = IntensityThreshold(METADATA, sign=1)
    assert not torch.equal(detector.detect(VALUES, affine=AFFINE), other.detect(VALUES, affine=AFFINE))
    detector.metadata = other.metadata = other.metadata.with_calibration(detector.thresholds([VALUES]))
    assert detector.calibration is not None
    assert other.calibration is None
    with pytest.raises(ValueError, match="smoothing"):
        IntensityThreshold(smoothing=-1.0)
    with pytest.raises(ValueError, match="smoothing"):
        lc.RestoreConfig(smoothing=float("nan"))
