"""Healthy people's spread by place of the template."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import head, scan_values, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores
from lesioncore.calibration.measure import healthy_scores
from lesioncore.data.stack import SliceStack
from lesioncore.detectors import MAPDetector, ProjectionDetector
from lesioncore.scoring.deviation import deviation
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.spread_map import SpreadMap

SHAPE = (14, 1, 24, 20)
FAST = lc.RestoreConfig(lc.EMSolver(steps=2, inner_iterations=10), tv_weight=0.1, smoothing=0.0)
MASK = torch.ones(SHAPE, dtype=torch.bool)
MASK[:, :, :2] = False


def scores(seed: int, left: float = 3.0) -> torch.Tensor:
    """Noise that is wider in one half of the slices."""
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    values[..., :8] *= left
    return values / 3


def people(count: int) -> list[SliceStack]:
    return [
        SliceStack(torch.where(MASK, scores(seed), -3.5), MASK, (4.0, 4.0, 4.0), registered=True)
        for seed in range(count)
    ]


@pytest.fixture(scope="module")
def several() -> SpreadMap:
    return sum((SpreadMap.of(scores(seed), MASK) for seed in range(1, 12)), SpreadMap.of(scores(0), MASK))


def test_relative_spread_is_that_of_each_place(several):
    relative = several.relative(MASK.shape)
    assert relative.shape == SHAPE
    mean_square = torch.cat([scores(seed)[MASK] for seed in range(12)]).clamp(-4, 4).square().mean()
    for columns, spread in ((slice(0, 6), 1.0), (slice(12, None), 1 / 3)):
        expected = spread / mean_square.sqrt()
        found = relative[:, :, 4:, columns] / expected
        assert float(found.mean()) == pytest.approx(1, rel=0.03)
        assert 0.8 < found.min() < found.max() < 1.2


def test_one_person_does_not_make_a_place():
    other = scores(3)
    other[3:6, :, 8:12, 10:14] = 100.0
    plain, outlier = (SpreadMap.of(values, MASK).relative(MASK.shape) for values in (scores(3), other))
    at = (4, 0, 10, 12)
    assert plain[at] < outlier[at] < 4 / float(scores(3)[MASK].square().mean().sqrt())


def test_where_nobody_has_brain_the_spread_is_the_whole_brains(several):
    nowhere = SpreadMap.of(scores(0), torch.zeros_like(MASK))
    assert torch.equal(nowhere.relative(MASK.shape), torch.ones(SHAPE))
    mask = MASK.clone()
    mask[8:] = False
    empty = SpreadMap.of(scores(0), mask).relative(mask.shape)[11:]
    assert torch.allclose(empty, torch.ones_like(empty), atol=1e-5)


def test_maps_add_up_and_people_can_be_taken_out(several):
    one = SpreadMap.of(scores(5), MASK)
    rest = sum((SpreadMap.of(scores(s), MASK) for s in range(1, 12) if s != 5), SpreadMap.of(scores(0), MASK))
    assert np.allclose((several - one).squares, rest.squares, rtol=1e-4)
    assert np.array_equal((several - one).counts, rest.counts)
    with pytest.raises(ValueError, match="calibrate again"):
        several.relative(torch.Size((40, 1, 24, 20)))


def test_stored_form_differs_by_rounding_alone(several):
    again = SpreadMap.from_dict(json.loads(json.dumps(several.to_dict())))
    assert torch.allclose(again.relative(MASK.shape), several.relative(MASK.shape), rtol=1e-3)
    assert SpreadMap.from_dict(json.loads(json.dumps(again.to_dict()))) == again


def test_deviation_uses_it_on_registered_slices_alone(several):
    (stack,) = people(1)
    residual = scores(20)
    found = deviation(residual, stack, Scoring(smoothing=0.0, standardize=False), several)
    assert torch.equal(found.values, residual / several.relative(MASK.shape))
    plain = replace(stack, registered=False)
    assert torch.equal(deviation(residual, plain, Scoring(smoothing=0.0, standardize=False), several).values, residual)


@pytest.fixture(scope="module")
def calibrated():
    prior = tiny_vae(metadata=tiny_metadata())
    calibration = lc.calibrate(prior, people(6), config=FAST)
    prior.metadata = prior.metadata.with_calibration(calibration)
    return prior, calibration


def test_registered_people_are_calibrated_with_a_map_and_others_without(calibrated):
    prior, calibration = calibrated
    assert calibration.settings["spread_map"] is True
    assert calibration.spread_map is not None
    off = lc.calibrate(prior, people(2), config=replace(FAST, spread_map=False))
    assert (off.settings.get("spread_map"), off.spread_map) == (None, None)
    mixed = [replace(stack, registered=number > 0) for number, stack in enumerate(people(2))]
    assert lc.calibrate(prior, mixed, config=FAST).spread_map is None
    with pytest.raises(ValueError, match="not all healthy scans are registered"):
        lc.calibrate(prior, mixed, config=replace(FAST, spread_map=True))


def test_thresholds_are_as_strict_in_each_half_of_the_brain(calibrated):
    """Of people who were not calibrated with; without the map nearly all detections are in the wide half."""
    prior, calibration = calibrated
    plain = lc.calibrate(prior, people(6), config=replace(FAST, spread_map=False))
    halves = {}
    for name, found in (("map", calibration), ("plain", plain)):
        prior.metadata = prior.metadata.with_calibration(found)
        detector = MAPDetector(prior, FAST)
        assert detector.calibration == found
        values = torch.cat(
            detector.score_stacks(
                [replace(p, slices=torch.where(MASK, scores(s), -3.5)) for s, p in enumerate(people(3), 50)]
            )
        )
        above = (values > found.threshold(0.05)) & MASK.repeat(3, 1, 1, 1)
        rates = [above[..., part].sum() / MASK[..., part].sum() / 3 for part in (slice(0, 6), slice(12, None))]
        halves[name] = [float(rate) for rate in rates]
    prior.metadata = prior.metadata.with_calibration(calibration)
    assert halves["plain"][1] < 0.1 * halves["plain"][0]
    assert 0.5 < halves["map"][1] / halves["map"][0] < 2
    assert np.mean(halves["map"]) == pytest.approx(0.05, abs=0.015)


def test_each_healthy_person_is_scored_by_the_map_of_the_others():
    stacks, residuals = people(3), [scores(seed) for seed in range(3)]
    residuals[0][4:8, :, 8:16, 12:] += 3.0  # nobody else deviates there
    found, spread_map = healthy_scores(residuals, stacks, Scoring(smoothing=0.0, standardize=True, spread_map=True))
    maps = [
        SpreadMap.of(deviation(r, s, Scoring(smoothing=0.0, standardize=True)).values, MASK)
        for r, s in zip(residuals, stacks, strict=True)
    ]
    assert np.allclose(spread_map.squares, sum(one.squares for one in maps), rtol=1e-5)
    alone = deviation(residuals[0], stacks[0], Scoring(smoothing=0.0, standardize=True), maps[1] + maps[2])
    expected = HealthyScores.of(alone.values[MASK])
    assert found[1, 0.0].subjects[0].thresholds == pytest.approx(expected.subjects[0].thresholds, rel=1e-4)


def test_a_map_that_the_prior_lacks_is_asked_for():
    prior = tiny_vae(metadata=tiny_metadata())
    with pytest.raises(ValueError, match="carries no map"):
        lc.restore(scan_values(head((22, 18, 10))), prior, config=replace(FAST, spread_map=True))
    with pytest.raises(ValueError, match="carries no map"):
        ProjectionDetector(prior, spread_map=True).score_stacks(people(1))


def test_every_detector_of_deviations_finds_its_own_map(calibrated):
    prior, calibration = calibrated
    restored = MAPDetector(prior, FAST).thresholds(people(6))
    assert restored.threshold(0.05) == calibration.threshold(0.05)
    assert restored.spread_map == calibration.spread_map
    detector = ProjectionDetector(prior, spread_map=True, sign=1)
    found = detector.thresholds(people(6))
    detector.metadata = detector.metadata.with_calibration(found)
    assert detector.calibration == found
    assert found.spread_map != calibration.spread_map
    scored = detector.score_stacks(people(1))[0]
    (plain,) = ProjectionDetector(prior, sign=1, standardize=False).score_stacks(people(1))
    pixels, relative = torch.stack([plain[MASK], scored[MASK]]), found.spread_map.relative(MASK.shape)[MASK]
    # A line: the scan's own spread, and its centre.
    assert torch.corrcoef(torch.stack([pixels[0], pixels[1] * relative]))[0, 1] > 0.99999


def test_calibrations_of_two_sites_merge_their_maps(calibrated):
    prior, calibration = calibrated
    parts = [lc.calibrate(prior, part, config=FAST) for part in (people(6)[:3], people(6)[3:])]
    both = parts[0].merge(parts[1])
    assert np.allclose(both.spread_map.counts, calibration.spread_map.counts)
    assert both.threshold(0.05) == pytest.approx(calibration.threshold(0.05), rel=0.1)


def test_a_stored_calibration_has_the_map(calibrated):
    calibration = calibrated[1]
    again = lc.Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert again.threshold(0.05) == calibration.threshold(0.05)
    assert torch.allclose(again.spread_map.relative(MASK.shape), calibration.spread_map.relative(MASK.shape), rtol=1e-3)
