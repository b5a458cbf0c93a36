"""Calibration on healthy scans: exact thresholds, both criteria, stored form."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from models import GaussianPrior, head, scan_values, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.calibrate import choose_weight
from lesioncore.implant import implant_anomalies

BRAIN = head((22, 18, 10))
HEALTHY = [scan_values(BRAIN, seed=s) for s in range(3)]
FAST = lc.RestoreConfig(solver=lc.ProxSolver(steps=3, inner_iterations=10))


# On these toys the best weight may lie on the edge of what is tried, which is right to warn of.
pytestmark = pytest.mark.filterwarnings("ignore:tv_weights. the best:UserWarning")


@pytest.fixture(scope="module")
def calibrated():
    prior = tiny_vae(metadata=tiny_metadata())
    calibration = lc.calibrate(prior, HEALTHY, config=FAST, tv_weights=(0.2, 0.5, 1.0, 2.0))
    prior.metadata = prior.metadata.with_calibration(calibration)
    return prior, calibration


def test_limits_hold_on_the_calibration_set_and_are_tight(calibrated):
    prior, calibration = calibrated
    results = lc.restore(HEALTHY, prior, config=FAST)
    scores = torch.cat([r.slice_residual.abs()[r.scan.mask] for r in results]).numpy()
    assert calibration.pixels == len(scores)
    for limit, threshold in zip(calibration.fpr, calibration.thresholds, strict=True):
        assert (scores > threshold).mean() <= limit
        below = scores[scores < threshold]
        if len(below):
            assert (scores > below.max()).mean() > limit


def test_curve_has_every_weight_and_the_best_is_taken(calibrated):
    calibration = calibrated[1]
    assert [row["tv_weight"] for row in calibration.curve] == [0.2, 0.5, 1.0, 2.0]
    best = max(calibration.curve, key=lambda row: row["implant_auc"])
    assert calibration.tv_weight == best["tv_weight"]
    assert calibration.criterion == "implant"
    changes = [row["change"] for row in calibration.curve]
    assert changes == sorted(changes, reverse=True)  # an exact solver changes ever less


def test_stored_form_is_the_same(calibrated):
    calibration = calibrated[1]
    assert lc.Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_paper_criterion_takes_the_smallest_within_one_percent():
    curve = [{"tv_weight": w, "change": c} for w, c in ((1, 2.0), (2, 1.009), (3, 1.0), (4, 1.5))]
    assert choose_weight(curve, "change") == 2
    with pytest.warns(UserWarning, match="edge"):
        assert choose_weight(curve[:2], "change") == 2


def test_paper_solver_is_calibrated_by_the_papers_criterion():
    prior = GaussianPrior(torch.zeros(1, 1, 22, 18))
    healthy = [torch.randn(4, 1, 22, 18, generator=torch.Generator().manual_seed(s)) for s in range(2)]
    config = lc.RestoreConfig(solver=lc.PaperSolver(steps=5))
    calibration = lc.calibrate(prior, healthy, config=config, tv_weights=(0.1, 1.0))
    assert calibration.criterion == "change"
    assert calibration.settings["solver"]["name"] == "paper"


def test_given_weight_skips_the_search():
    prior = tiny_vae(metadata=tiny_metadata())
    calibration = lc.calibrate(prior, HEALTHY[:1], config=lc.RestoreConfig(FAST.solver, tv_weight=0.7))
    assert (calibration.tv_weight, calibration.criterion, calibration.curve) == (0.7, "given", ())


def test_threshold_between_stored_limits_is_the_stricter():
    calibration = lc.Calibration({}, 1.0, (0.01, 0.05), (3.0, 2.0), subjects=1, pixels=1)
    assert calibration.threshold(0.05) == 2.0
    assert calibration.threshold(0.049) == 3.0
    assert calibration.threshold(0.5) == 2.0
    for wrong in (0.001, 0.0, -1.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="fpr"):
            calibration.threshold(wrong)


def test_rank_is_a_rising_quantile():
    calibration = lc.Calibration({}, 1.0, (0.01, 0.05, 0.5), (3.0, 2.0, 0.5), subjects=1, pixels=1)
    ranks = calibration.rank(np.array([0.0, 0.5, 2.0, 3.0, 50.0]))
    assert ranks.tolist() == pytest.approx([0.0, 0.5, 0.95, 0.99, 0.99])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"healthy": []}, "no scans"),
        ({"tv_weights": (2.0, 1.0)}, "ascending"),
        ({"tv_weights": ()}, "ascending"),
        ({"criterion": "best"}, "criterion"),
        ({"masks": [BRAIN]}, "one for each"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    call = {"healthy": HEALTHY} | arguments
    with pytest.raises(ValueError, match=message):
        lc.calibrate(tiny_vae(metadata=tiny_metadata()), call.pop("healthy"), **call)


@pytest.mark.parametrize("coupled", [False, True])
def test_anomalies_lie_in_the_brain_and_repeat(coupled):
    mask = BRAIN.permute(2, 0, 1)[:, None]
    slices = torch.where(mask, 0.0, -3.5)
    changed, truth = implant_anomalies(slices, mask, seed=3, coupled=coupled)
    again, _ = implant_anomalies(slices, mask, seed=3, coupled=coupled)
    assert torch.equal(changed, again)
    assert not torch.equal(changed, implant_anomalies(slices, mask, seed=4, coupled=coupled)[0])
    assert torch.equal(changed[~mask], slices[~mask])
    assert not (truth & ~mask).any()
    assert 0 < truth.sum() < mask.sum() / 2
    assert (changed - slices)[truth].abs().mean() > 0.3
    with pytest.raises(ValueError, match="no pixel is brain"):
        implant_anomalies(slices, torch.zeros_like(mask))
