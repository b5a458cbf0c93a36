"""Residuals in units of the scan's own spread."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from support.models import tiny_vae
from support.scans import AFFINE, BRAIN, FAST, METADATA, VALUES

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.data.stack import SliceStack
from lesioncore.detectors import MAPDetector
from lesioncore.scoring.deviation import deviation
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.smoothing import smooth
from lesioncore.scoring.spread import robust_centre, robust_spread

SHAPE = (20, 1, 30, 30)


def residual(seed: int = 0, scale: float = 0.2) -> torch.Tensor:
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def stack(voxel_size=(2.0, 2.0, 2.0)) -> SliceStack:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[2:-2, :, 3:-3, 3:-3] = True
    return SliceStack(torch.zeros(SHAPE), mask, voxel_size)


def test_spread_of_noise_is_its_quantile():
    # 70 % of a normal distribution lie within 1.036 standard deviations; 4 times that leaves next to nothing out.
    assert robust_spread(residual(scale=0.5)) == pytest.approx(0.5 * 1.0364, rel=0.02)
    assert robust_spread(torch.zeros(10)) == 0.0
    assert robust_spread(torch.zeros(0)) == 0.0


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_lesion_hardly_changes_the_spread(share, sign):
    values = residual().flatten()
    healthy = robust_spread(values)
    values[: int(share * len(values))] += sign * 2.0
    assert robust_spread(values) == pytest.approx(healthy, rel=0.02)
    plain = np.quantile(values.abs().numpy(), 0.7)  # the quantile of all voxels moves with a large lesion
    assert share < 0.1 or plain > 1.15 * healthy


@settings(deadline=None, max_examples=25)
@given(st.floats(0.01, 100), st.integers(0, 5))
def test_a_standardized_score_knows_no_gain(gain, seed):
    d, where = residual(seed), stack()
    once = deviation(d, where, Scoring(smoothing=3.0, standardize=True))
    scaled = deviation(gain * d, where, Scoring(smoothing=3.0, standardize=True))
    assert torch.allclose(once.values, scaled.values, rtol=1e-4, atol=1e-5)
    assert scaled.spread == pytest.approx(gain * once.spread, rel=1e-4)


def test_deviation_is_smoothed_before_its_centre_and_spread_are_taken():
    d, where = residual(), stack()
    found = deviation(d, where, Scoring(smoothing=3.0, standardize=True))
    smoothed = smooth(d, where.mask, where.voxel_size, 3.0)
    expected = smoothed[where.mask] - robust_centre(smoothed[where.mask])
    assert found.spread == robust_spread(expected)
    assert torch.equal(found.values[where.mask], expected / found.spread)
    assert not found.values[~where.mask].any()
    plain = deviation(d, where, Scoring(smoothing=3.0, standardize=False))
    assert torch.equal(plain.values, smoothed)
    assert plain.spread == robust_spread(smoothed[where.mask])


@settings(deadline=None, max_examples=25)
@given(st.floats(-1, 1), st.integers(0, 5))
def test_a_standardized_score_knows_no_offset(offset, seed):
    d, where = residual(seed), stack()
    once = deviation(d, where, Scoring(smoothing=0.0, standardize=True))
    moved = deviation(d + offset, where, Scoring(smoothing=0.0, standardize=True))
    assert torch.allclose(once.values, moved.values, atol=0.02)  # the outliers differ a little
    assert moved.spread == pytest.approx(once.spread, rel=0.01)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_lesion_hardly_changes_the_centre(sign):
    values = residual().flatten() + 0.1
    values[: len(values) // 10] += sign * 2.0
    assert abs(robust_centre(values) - 0.1) < 0.1 * robust_spread(values)
    assert abs(float(values.mean()) - 0.1) > 0.8 * robust_spread(values)
    assert robust_centre(torch.zeros(0)) == 0.0


def test_slices_without_geometry_are_not_standardized():
    d, where = residual(), stack(None)
    assert torch.equal(deviation(d, where, Scoring(smoothing=0.0, standardize=True)).values, d)


def test_restoration_detector_and_calibration_agree():
    prior = tiny_vae(metadata=METADATA)
    calibration = lc.calibrate(prior, [VALUES], config=lc.RestoreConfig(FAST.solver, 1.0, 4.0))
    assert calibration.settings["standardize"] is True
    prior.metadata = METADATA.with_calibration(calibration)
    result = lc.restore(VALUES, prior, affine=AFFINE)
    assert result.spread == pytest.approx(calibration.healthy.subjects[0].spread, rel=1e-5)
    assert result.sidecar()["ResidualSpread"] == round(result.spread, 6)
    plain = lc.RestoreConfig(standardize=False)
    with pytest.warns(UserWarning, match="standardize False, not True"):
        zscores = lc.restore(VALUES, prior, affine=AFFINE, config=plain)
    signed = zscores.scan.residual(zscores._deviation.values)[BRAIN]
    centred = np.abs(signed - np.median(signed))
    np.testing.assert_allclose(result.score[BRAIN] * result.spread, centred, atol=0.02 * result.spread)
    assert torch.allclose(MAPDetector(prior).detect(VALUES, affine=AFFINE), result.score, atol=1e-6)
    assert 0 < result.mask(0.1).sum() <= 0.1 * BRAIN.sum()


def test_a_spread_of_another_kind_of_image_is_remarked_on_and_that_of_another_scanner_is_not():
    scores = np.abs(np.random.default_rng(0).normal(size=2000))
    people = merged([HealthyScores.of(scores, spread=spread) for spread in np.linspace(0.08, 0.12, 8)])
    assert people.unusual(scores, spread=0.3) == []
    (remark,) = people.unusual(scores, spread=0.5)
    assert remark.startswith("the spread of its residual is 0.5 z-scores, but 0.08 to 0.12")
    kept = HealthyScores.from_dict(people.to_dict())
    assert kept.subjects[0].spread == people.subjects[0].spread == 0.08
