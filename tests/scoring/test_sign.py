"""Restorations that look for what is brighter, or darker, than the prior expects."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import head, scan_values, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.detectors import MAPDetector
from lesioncore.scoring.deviation import score_of

BRAIN = head((22, 18, 11))
HEALTHY = [scan_values(BRAIN, seed=seed) for seed in range(3)]
FAST = lc.RestoreConfig(lc.EMSolver(steps=2, inner_iterations=10), tv_weight=0.1, smoothing=2.0)
SIGNS = (1, -1, 0)


@pytest.fixture(scope="module")
def prior():
    found = tiny_vae(metadata=tiny_metadata())
    found.metadata = found.metadata.with_calibration(lc.calibrate(found, HEALTHY, config=replace(FAST, sign=1)))
    return found


@pytest.fixture(scope="module")
def results(prior):
    return {sign: lc.restore(HEALTHY, prior, config=replace(FAST, sign=sign)) for sign in SIGNS}


def test_scores_are_the_signed_deviation_or_its_size(results):
    for bright, dark, either in zip(*(results[sign] for sign in SIGNS), strict=True):
        assert torch.equal(bright.score, -dark.score)
        assert torch.equal(bright.score.abs(), either.score)
        assert bright.score.min() < 0 < bright.score.max()


@pytest.mark.parametrize("sign", SIGNS)
def test_one_calibration_has_the_thresholds_of_every_sign(prior, results, sign):
    found = prior.metadata.calibration.for_settings(
        results[sign][0].record.config.settings(), FAST.tv_weight, FAST.smoothing
    )
    assert found == lc.calibrate(prior, HEALTHY, config=replace(FAST, sign=sign))
    for limit in (0.01, 0.05, 0.1):
        rate = torch.cat([result.mask(limit)[BRAIN] for result in results[sign]]).double().mean()
        assert 0.5 * limit < rate <= limit


def test_the_calibrated_sign_is_the_default(prior, results):
    (found,) = lc.restore(HEALTHY[:1], prior)
    assert found.record.config.sign == 1
    assert torch.equal(found.score, results[1][0].score)
    assert lc.RestoreConfig(protocol="paper").for_prior(prior).sign == 0


def test_a_detector_scores_alike(prior, results):
    for sign in SIGNS:
        detector = MAPDetector(prior, replace(FAST, sign=sign))
        assert torch.allclose(detector.detect(HEALTHY[0]), results[sign][0].score, atol=1e-4)
        assert detector.calibration.threshold(0.05) == results[sign][0].record.calibration.threshold(0.05)


def test_the_sign_is_saved_with_the_result(prior, tmp_path):
    result = lc.restore(HEALTHY[0], prior, affine=np.diag([4.0, 4, 4, 1]), config=replace(FAST, sign=-1))
    sidecar = json.loads(result.save(tmp_path, name="sub-1_T1w")["sidecar"].read_text())
    assert sidecar["Settings"]["sign"] == -1
    assert sidecar["Thresholds"]["0.05"] == result.record.calibration.threshold(0.05)
    assert sidecar["Remarks"] == []


def test_stored_and_merged_calibrations_keep_every_sign(prior):
    calibration = prior.metadata.calibration
    assert lc.Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    others = [scan_values(BRAIN, seed=seed) for seed in range(3, 6)]
    both = calibration.merge(lc.calibrate(prior, others, config=replace(FAST, sign=1)))
    for sign in SIGNS:
        config = replace(FAST, sign=sign)
        of_all = lc.calibrate(prior, [*HEALTHY, *others], config=config)
        merged_sign = both.for_settings(config.for_prior(prior).settings(), FAST.tv_weight, FAST.smoothing)
        assert merged_sign.threshold(0.05) == of_all.threshold(0.05)
        assert merged_sign.subjects == 6


def test_remarks_compare_the_size_of_signed_scores():
    noise = np.random.default_rng(0).normal(size=(9, 4000))
    of_sign = {(sign, 0.0): merged([HealthyScores.of(score_of(one, sign)) for one in noise]) for sign in SIGNS}
    calibration = lc.Calibration({"sign": 1}, 1.0, of_sign.pop((1, 0.0)), others=of_sign)
    assert calibration.unusual(noise[0]) == []
    (remark,) = calibration.unusual(3 * noise[0])
    assert remark.startswith("the median score of its brain is 2.0")


def test_another_sign_is_refused():
    with pytest.raises(ValueError, match=r"sign: got 2, expected one of \(1, -1, 0, None\)"):
        lc.RestoreConfig(sign=2)
