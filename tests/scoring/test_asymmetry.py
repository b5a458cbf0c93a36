"""Deviations that both sides of a brain share count less than those of one side."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from support.models import head, scan_values, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.data.stack import SliceStack
from lesioncore.detectors import MAPDetector, ProjectionDetector
from lesioncore.scoring.asymmetry import lower_symmetric
from lesioncore.scoring.deviation import deviation
from lesioncore.scoring.options import Scoring

SHAPE = (14, 1, 24, 20)
VOXELS = (4.0, 4.0, 4.0)
MASK = torch.ones(SHAPE, dtype=torch.bool)
MASK[:, :, :2] = MASK[:, :, -2:] = False
FAST = lc.RestoreConfig(lc.EMSolver(steps=2, inner_iterations=10), tv_weight=0.1, smoothing=0.0)


def noise(seed: int) -> torch.Tensor:
    return torch.where(MASK, torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)), 0.0)


def spot(*sides: str, size: float = 3.0) -> torch.Tensor:
    """A cube that deviates on the left, on the right, or on both."""
    values = torch.zeros(SHAPE)
    for side in sides:
        rows = slice(4, 8) if side == "left" else slice(16, 20)
        values[4:10, :, rows, 6:14] = size
    return values


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_one_side_has_alone_stays_and_what_both_share_is_lowered(sign):
    alone = lower_symmetric(sign * spot("left"), MASK, VOXELS, 1.0, 1.0)
    assert torch.equal(alone, sign * spot("left"))
    both = lower_symmetric(sign * spot("left", "right"), MASK, VOXELS, 1.0, 1.0)
    middle = (6, 0, 5, 10)
    assert 0.9 < sign * both[middle] < 3.0  # 3 less the other side's smoothed 2 or less
    assert torch.allclose(both, both.flip(2), atol=1e-6)
    half = lower_symmetric(sign * spot("left", "right"), MASK, VOXELS, 1.0, 0.5)
    assert float(half[middle]) == pytest.approx((sign * 3 + float(both[middle])) / 2, abs=1e-5)


def test_the_other_direction_across_is_no_evidence():
    mixed = spot("left") - spot("right")
    assert torch.equal(lower_symmetric(mixed, MASK, VOXELS, 1.0, 1.0), mixed)


def test_a_large_lesion_across_takes_off_no_more_than_a_healthy_deviation():
    values = spot("left", size=6.0) + spot("right", size=500.0)
    found = lower_symmetric(values, MASK, VOXELS, 1.0, 1.0)
    assert float(found[6, 0, 5, 10]) == pytest.approx(4.0)  # 2 spreads at most


@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0.1, 10))
def test_nothing_grows_or_crosses_zero_and_the_unit_scales(seed, share, gain):
    values = noise(seed)
    found = lower_symmetric(values, MASK, VOXELS, 1.0, share)
    assert (found.abs() <= values.abs()).all()
    assert (found * values >= 0).all()
    assert not found[~MASK].any()
    scaled = lower_symmetric(gain * values, MASK, VOXELS, gain, share)
    assert torch.allclose(scaled, gain * found, rtol=1e-4, atol=1e-5 * gain)
    mirrored = lower_symmetric(values.flip(2), MASK.flip(2), VOXELS, 1.0, share)
    assert torch.allclose(mirrored, found.flip(2), atol=1e-5)


def test_scores_of_registered_scans_alone_are_lowered():
    values = noise(1) + spot("left", "right", size=2.0)
    registered, plain = (SliceStack(values, MASK, VOXELS, registered=yes) for yes in (True, False))
    once = deviation(values, registered, Scoring(smoothing=0.0, standardize=True))
    lowered = deviation(values, registered, Scoring(smoothing=0.0, standardize=True, asymmetry=1.0))
    assert lowered.spread == once.spread
    where = spot("left", "right") > 0
    assert lowered.values[where].mean() < once.values[where].mean()
    same = deviation(values, plain, Scoring(smoothing=0.0, standardize=True, asymmetry=1.0))
    assert torch.equal(same.values, deviation(values, plain, Scoring(smoothing=0.0, standardize=True)).values)


@pytest.fixture(scope="module")
def people() -> list[SliceStack]:
    return [SliceStack(noise(seed), MASK, VOXELS, registered=True) for seed in range(4)]


@pytest.fixture(scope="module")
def prior(people):
    found = tiny_vae(metadata=tiny_metadata())
    calibration = lc.calibrate(found, people, config=replace(FAST, sign=1, asymmetry=0.5))
    found.metadata = found.metadata.with_calibration(calibration)
    return found


def test_one_calibration_has_thresholds_with_and_without_it(prior, people):
    calibration = lc.Calibration.from_dict(json.loads(json.dumps(prior.metadata.calibration.to_dict())))
    assert calibration.others == prior.metadata.calibration.others
    calibration = replace(calibration, spread_map=prior.metadata.calibration.spread_map)  # stored in half precision
    assert calibration.settings["asymmetry"] == 0.5
    for share in (0.5, 0.0):
        for sign in (1, -1, 0):
            config = replace(FAST, sign=sign, asymmetry=share).for_prior(prior)
            found = calibration.for_settings(config.settings(), FAST.tv_weight, FAST.smoothing)
            alone = lc.calibrate(prior, people, config=config)
            assert (found.settings, found.healthy) == (alone.settings, alone.healthy)
            detector = MAPDetector(prior, config)
            scores = torch.cat([s[MASK] for s in detector.score_stacks(people)])
            # Each person was scored by the others' spread map, here by that of all.
            assert 0.5 * 0.05 < (scores > found.threshold(0.05)).double().mean() < 1.5 * 0.05
    other = replace(FAST, asymmetry=0.25).for_prior(prior)
    assert calibration.for_settings(other.settings(), FAST.tv_weight, FAST.smoothing) is None


def test_the_calibrated_share_is_the_default_and_the_papers_is_none(prior):
    assert lc.RestoreConfig().for_prior(prior).asymmetry == 0.5
    assert lc.RestoreConfig(asymmetry=0.0).for_prior(prior).asymmetry == 0.0
    assert lc.RestoreConfig(protocol="paper").for_prior(prior).asymmetry == 0.0


def test_other_detectors_lower_alike(prior, people):
    plain, lowered = (ProjectionDetector(prior, asymmetry=share) for share in (0.0, 1.0))
    assert "asymmetry" not in plain.settings()
    assert lowered.settings()["asymmetry"] == 1.0
    once, less = (detector.score_stacks(people[:1])[0] for detector in (plain, lowered))
    assert not torch.equal(once, less)
    calibration = lowered.thresholds(people)
    assert calibration.settings == lowered.settings()


def test_a_brain_without_registration_keeps_its_scores():
    brain = head((22, 18, 11))
    prior = tiny_vae(metadata=tiny_metadata())
    plain, lowered = (
        lc.restore(scan_values(brain), prior, config=replace(FAST, asymmetry=share)) for share in (0.0, 1.0)
    )
    assert np.array_equal(plain.score, lowered.score)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_out_of_its_range_is_refused(share):
    with pytest.raises(ValueError, match=r"asymmetry: got .*, expected a share in \[0, 1\]"):
        lc.RestoreConfig(asymmetry=share)
    with pytest.raises(ValueError, match="asymmetry: got "):
        ProjectionDetector(tiny_vae(metadata=tiny_metadata()), asymmetry=share)
