"""Calibration on healthy scans: exact thresholds, both criteria, stored form."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.models import GaussianPrior, head, scan_values, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.data.stack import SliceStack
from lesioncore.metrics import fpr_threshold
from lesioncore.restoration.implant import anomalies_in, implant_anomalies
from lesioncore.restoration.search import SMOOTHINGS, choose, evenly_spaced, evenly_spaced_slices, search
from lesioncore.solvers import Solution

BRAIN = head((22, 18, 10))
HEALTHY = [scan_values(BRAIN, seed=s) for s in range(3)]
FAST = lc.RestoreConfig(solver=lc.ProxSolver(steps=3, inner_iterations=10))


# On these toys the best weight may lie on the edge of what is tried, which is right to warn of.
pytestmark = pytest.mark.filterwarnings("ignore:tv_weights. the best:UserWarning")


@pytest.fixture(scope="module")
def calibrated():
    prior = tiny_vae(metadata=tiny_metadata())
    calibration = lc.calibrate(prior, HEALTHY, config=FAST, tv_weights=(0.02, 0.05, 0.1, 0.2))
    prior.metadata = prior.metadata.with_calibration(calibration)
    return prior, calibration


def test_limits_hold_on_the_calibration_set_and_are_tight(calibrated):
    prior, calibration = calibrated
    results = lc.restore(HEALTHY, prior, config=FAST)
    scores = torch.cat([r.score[BRAIN] for r in results]).numpy()
    assert (calibration.subjects, calibration.pixels) == (3, len(scores))
    for limit in (0.003, 0.01, 0.05, 0.1, 0.27):
        threshold, exact = calibration.threshold(limit), fpr_threshold(scores, limit)
        assert (scores > threshold).mean() <= limit
        assert exact <= threshold <= 1.003 * exact
        detected = torch.cat([r.mask(limit)[BRAIN] for r in results])
        assert detected.double().mean() == (scores > threshold).mean()


def test_curve_has_every_weight_and_smoothing_and_the_best_is_taken(calibrated):
    calibration = calibrated[1]
    tried = [(row["tv_weight"], row["smoothing"]) for row in calibration.curve]
    assert tried == [(weight, smoothing) for weight in (0.02, 0.05, 0.1, 0.2) for smoothing in SMOOTHINGS]
    best = max(calibration.curve, key=lambda row: row["implant_auc"])
    assert (calibration.tv_weight, calibration.smoothing) == (best["tv_weight"], best["smoothing"])
    assert calibration.criterion == "implant"


def test_healthy_images_change_ever_less_with_an_exact_solver():
    prior = tiny_vae(metadata=tiny_metadata())
    config = lc.RestoreConfig(solver=lc.ProxSolver(steps=3, inner_iterations=10), tv_dimensions=2)
    with pytest.warns(UserWarning, match="edge"):
        found = lc.calibrate(prior, HEALTHY, config=config, tv_weights=(0.2, 0.5, 1.0, 2.0), criterion="change")
    changes = [row["change"] for row in found.curve]
    assert changes == sorted(changes, reverse=True)
    assert (found.tv_weight, found.smoothing) == (2.0, 0.0)


def test_stored_form_is_the_same(calibrated):
    calibration = calibrated[1]
    assert lc.Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_paper_criterion_takes_the_smallest_within_one_percent():
    curve = [{"tv_weight": w, "change": c} for w, c in ((1, 2.0), (2, 1.009), (3, 1.0), (4, 1.5))]
    assert choose(curve, "change")["tv_weight"] == 2
    with pytest.warns(UserWarning, match="edge"):
        assert choose(curve[:2], "change")["tv_weight"] == 2


def numbered(scans: int, height: int = 10) -> list[SliceStack]:
    """Stacks whose slices hold the stack's number plus a hundredth of their own; brain everywhere but in the first."""
    stacks = []
    for number in range(scans):
        slices = (number + 0.01 * torch.arange(height)).view(-1, 1, 1, 1).expand(-1, 1, 22, 18).clone()
        mask = torch.ones(slices.shape, dtype=torch.bool)
        mask[0] = False
        stacks.append(SliceStack(slices, mask, (4.0, 4.0, 4.0)))
    return stacks


def test_search_takes_whole_scans_spread_over_all():
    stacks = numbered(7)
    assert [int(stack.slices.max()) for stack in evenly_spaced(stacks, 3)] == [0, 3, 6]
    assert evenly_spaced(stacks, 10) == stacks


def test_the_search_leaves_out_scans_without_brain(monkeypatch):
    stacks, seen = numbered(4), []
    stacks[0].mask[:] = False

    def stop(_, scans, *arguments, **options):
        seen.extend(scans)
        raise InterruptedError

    monkeypatch.setattr("lesioncore.restoration.calibrate.search", stop)
    with pytest.raises(InterruptedError):
        lc.calibrate(tiny_vae(), stacks, search_scans=2)
    assert [int(stack.slices.max()) for stack in seen] == [1, 3]


def test_a_device_that_is_not_there_is_refused_before_scans_are_read(tmp_path):
    with pytest.raises(ValueError, match="device: got 'tpu'"):
        lc.calibrate(tiny_vae(), [tmp_path / "missing.nii"], device="tpu")


def test_slices_of_the_search_come_from_all_scans_and_have_no_neighbours():
    (part,) = evenly_spaced_slices(numbered(4), 12)
    assert part.voxel_size is None
    assert part.mask.flatten(1).all()
    assert sorted(set(part.slices[:, 0, 0, 0].int().tolist())) == [0, 1, 2, 3]
    assert len(part.slices) == len(part.slices[:, 0, 0, 0].unique()) == 12
    assert len(evenly_spaced_slices(numbered(4), 1000)[0].slices) == 36


@pytest.mark.parametrize(("criterion", "coupled", "whole"), [("change", False, False), ("change", True, True)])
def test_change_is_measured_on_neighbours_only_where_the_solver_couples_them(criterion, coupled, whole):
    seen = []

    def solve(stacks, *, tv_weight):
        seen.extend(stacks)
        return [Solution(stack.slices + tv_weight, torch.zeros(1, 1)) for stack in stacks]

    curve = search(solve, numbered(3), (0.5, 2.0), criterion=criterion, coupled=coupled)
    assert [row["change"] for row in curve] == pytest.approx([0.5, 2.0], abs=1e-5)
    assert all((stack.voxel_size is not None) == whole for stack in seen)


def test_paper_solver_is_calibrated_by_the_papers_criterion():
    prior = GaussianPrior(torch.zeros(1, 1, 22, 18))
    healthy = [torch.randn(4, 1, 22, 18, generator=torch.Generator().manual_seed(s)) for s in range(2)]
    config = lc.RestoreConfig(solver=lc.PaperSolver(steps=5))
    calibration = lc.calibrate(prior, healthy, config=config, tv_weights=(0.1, 1.0))
    assert (calibration.criterion, calibration.smoothing) == ("change", 0.0)
    assert calibration.settings["solver"]["name"] == "paper"


def test_given_weight_skips_the_search():
    prior = tiny_vae(metadata=tiny_metadata())
    calibration = lc.calibrate(prior, HEALTHY[:1], config=lc.RestoreConfig(FAST.solver, 0.7, 2.0))
    assert (calibration.tv_weight, calibration.smoothing, calibration.criterion) == (0.7, 2.0, "given")
    assert calibration.curve == ()


def test_given_weight_leaves_the_smoothing_to_the_search():
    prior = tiny_vae(metadata=tiny_metadata())
    calibration = lc.calibrate(prior, HEALTHY[:1], config=lc.RestoreConfig(FAST.solver, tv_weight=0.7))
    assert [row["smoothing"] for row in calibration.curve] == list(SMOOTHINGS)
    assert {row["tv_weight"] for row in calibration.curve} == {calibration.tv_weight} == {0.7}


def test_calibrations_of_two_sites_merge(calibrated):
    prior, whole = calibrated
    config = lc.RestoreConfig(FAST.solver, whole.tv_weight, whole.smoothing)
    first, second = (lc.calibrate(prior, part, config=config) for part in (HEALTHY[:1], HEALTHY[1:]))
    both = first.merge(second)
    assert (both.subjects, both.pixels) == (3, whole.pixels)
    for limit in (0.01, 0.05, 0.1):
        # Slices that share other batches are rounded differently, which may move a score to the next bin.
        assert both.threshold(limit) == pytest.approx(whole.threshold(limit), rel=0.006)
    other = lc.calibrate(prior, HEALTHY[:1], config=lc.RestoreConfig(FAST.solver, 0.3, whole.smoothing))
    with pytest.raises(ValueError, match=r"tv_weight 0\.3"):
        first.merge(other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"healthy": []}, "no scans"),
        ({"healthy": "healthy_study"}, "expected a list of scans"),
        ({"healthy": ["a-t1n.nii", "b_T2w.nii", "c.T2.mgz"]}, r"got scans of T1w \(1\), T2w \(2\) by their names"),
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


@pytest.mark.parametrize("voxel_size", [None, (4.0, 4.0, 4.0)])
def test_anomalies_lie_in_the_brain_and_repeat(voxel_size):
    mask = BRAIN.permute(2, 0, 1)[:, None]
    slices = torch.where(mask, 0.0, -3.5)
    changed, truth = implant_anomalies(slices, mask, seed=3, voxel_size=voxel_size)
    again, _ = implant_anomalies(slices, mask, seed=3, voxel_size=voxel_size)
    assert torch.equal(changed, again)
    assert not torch.equal(changed, implant_anomalies(slices, mask, seed=4, voxel_size=voxel_size)[0])
    assert torch.equal(changed[~mask], slices[~mask])
    assert not (truth & ~mask).any()
    assert 0 < truth.sum() < mask.sum() / 2
    assert (changed - slices)[truth].abs().mean() > 0.3
    with pytest.raises(ValueError, match="no pixel is brain"):
        implant_anomalies(slices, torch.zeros_like(mask))


def test_anomalies_of_several_volumes_cover_the_range_evenly():
    """Each four in a row have two of either sign, whatever the seed; independent draws would stray."""
    mask = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    for seed in range(4):
        bright = []
        for first in range(16):
            changed, truth = implant_anomalies(torch.zeros(mask.shape), mask, seed=seed, first=first)
            bright.append(bool(changed[truth].mean() > 0))
        assert np.reshape(bright, (4, 4)).sum(axis=1).tolist() == [2, 2, 2, 2]


def test_anomalies_are_as_thick_as_wide_whatever_the_distance_of_the_slices():
    extents = {}
    for distance, height in ((1.0, 14), (7.0, 2)):  # one anomaly each
        mask = torch.ones(height, 1, 60, 60, dtype=torch.bool)
        extents[distance] = 0
        for seed in range(20):
            _, truth = implant_anomalies(torch.zeros(mask.shape), mask, seed=seed, voxel_size=(1.0, 1.0, distance))
            extents[distance] += int(truth.flatten(1).any(1).sum())
    assert 20 <= extents[7.0] < 0.4 * extents[1.0]


@pytest.mark.parametrize(
    ("height", "pixels", "depth_ratio", "count"),
    [(70, 50, 1.0, 6), (140, 100, 1.0, 6), (35, 100, 0.25, 6), (2, 50, 1.0, 1)],
)
def test_a_volume_has_as_many_anomalies_at_any_resolution(height, pixels, depth_ratio, count):
    mask = torch.zeros(height + 6, 1, pixels, pixels, dtype=torch.bool)
    mask[3:-3, 0, 10, 10] = True
    assert anomalies_in(mask, (1.0, 1.0, 1.0 / depth_ratio)) == count  # one for each 24 % of the slice's side
