"""Smoothing that keeps edges: nothing is detected beyond a lesion's border, and noise still cancels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st
from support.models import tiny_vae
from support.scans import AFFINE, BRAIN, FAST, METADATA, VALUES

import lesioncore as lc
from lesioncore.data.stack import SliceStack
from lesioncore.detectors import MAPDetector, ProjectionDetector
from lesioncore.restoration.search import search
from lesioncore.scoring.deviation import deviation
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.smoothing import keep_edges, smooth
from lesioncore.solvers import Solution

VOXELS = (2.0, 2.0, 2.0)
CONFIG = lc.RestoreConfig(FAST.solver, 1.0, 4.0, edge_preserving=True)
shapes = st.tuples(st.integers(1, 4), st.just(1), st.integers(1, 6), st.integers(1, 6))


def random(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ball(radius: float, size: int = 30) -> torch.Tensor:
    """Distance, in voxels, from the middle of a cube, at most `radius`."""
    steps = torch.arange(size) - (size - 1) / 2
    away = (steps[:, None, None] ** 2 + steps[:, None] ** 2 + steps**2).sqrt()
    return (away <= radius)[:, None]


@given(shapes, st.integers(0, 1000), st.floats(0.1, 10))
def test_what_is_kept_is_bounded_by_both_and_agrees_with_both(shape, seed, gain):
    smoothed, own = random(shape, seed), random(shape, seed + 1)
    kept = keep_edges(smoothed, own)
    assert torch.equal(kept.abs(), torch.minimum(smoothed.abs(), own.abs()) * (smoothed * own > 0))
    assert (kept * smoothed >= 0).all()
    assert torch.equal(keep_edges(own, smoothed), kept)
    assert torch.equal(keep_edges(-smoothed, -own), -kept)
    assert torch.allclose(keep_edges(gain * smoothed, gain * own), gain * kept)
    assert torch.equal(keep_edges(own, own), own)


@pytest.mark.parametrize("standardize", [True, False])
def test_no_rim_is_detected_around_a_lesion_that_stays_whole(standardize):
    lesion = ball(8)
    residual = 0.5 * random(lesion.shape, 0) + torch.where(lesion, 10.0, 0.0)
    stack = SliceStack(residual, ball(14), VOXELS)
    rim = ball(10) & ~ball(8)  # 4 mm beyond the border
    detected = {}
    for edges in (False, True):
        found = deviation(
            residual, stack, Scoring(smoothing=4.0, standardize=standardize, edge_preserving=edges)
        ).values
        detected[edges] = found > 0.2 * found[ball(6)].median()
        assert detected[edges][lesion].all()
    assert detected[False][rim].float().mean() > 0.5
    assert detected[True][rim].float().mean() < 0.05


def test_noise_cancels_as_much_as_without_it():
    residual = random((20, 1, 20, 20), 1)
    stack = SliceStack(residual, torch.ones(residual.shape, dtype=torch.bool), VOXELS)
    plain = deviation(residual, stack, Scoring(smoothing=4.0, standardize=False)).values
    found = deviation(residual, stack, Scoring(smoothing=4.0, standardize=False, edge_preserving=True)).values
    assert (found.abs() <= plain.abs()).all()
    assert torch.equal(plain, smooth(residual, stack.mask, VOXELS, 4.0))


def test_without_smoothing_or_spread_nothing_changes():
    residual = random((5, 1, 6, 7), 2)
    mask = torch.ones(residual.shape, dtype=torch.bool)
    for voxels in (VOXELS, None):
        stack = SliceStack(residual, mask, voxels)
        plain, found = (
            deviation(residual, stack, Scoring(smoothing=0.0, standardize=True, edge_preserving=edges)).values
            for edges in (False, True)
        )
        assert torch.equal(plain, found)
    flat = deviation(torch.zeros_like(residual), stack, Scoring(smoothing=4.0, standardize=True, edge_preserving=True))
    assert not flat.values.any()


def test_thresholds_know_whether_edges_were_kept():
    prior = tiny_vae(metadata=METADATA)
    calibration = lc.calibrate(prior, [VALUES], config=CONFIG)
    assert calibration.settings["edge_preserving"] is True
    prior.metadata = METADATA.with_calibration(calibration)
    result = lc.restore(VALUES, prior)
    assert result.record.config.edge_preserving is True
    assert 0 < result.mask(0.1).sum() <= 0.1 * BRAIN.sum()
    assert (MAPDetector(prior).detect(VALUES, affine=AFFINE) == result.score).all()
    with pytest.warns(UserWarning, match="edge_preserving off, not True"):
        plain = lc.restore(VALUES, prior, config=lc.RestoreConfig(edge_preserving=False))
    assert plain.record.calibration is None
    assert not torch.equal(plain.score, result.score)
    assert torch.equal(plain.residual, result.residual)


def test_calibrations_from_before_are_without_it():
    prior = tiny_vae(metadata=METADATA)
    calibration = lc.calibrate(prior, [VALUES], config=replace(CONFIG, edge_preserving=None))
    assert "edge_preserving" not in calibration.settings
    prior.metadata = METADATA.with_calibration(calibration)
    assert lc.RestoreConfig().for_prior(prior).edge_preserving is False
    assert "edge_preserving" not in ProjectionDetector(prior).settings()
    assert ProjectionDetector(prior, edge_preserving=True).settings()["edge_preserving"] is True


def test_the_search_scores_as_the_thresholds_do():
    """Implanted lesions are found better where no rim around them counts."""
    scan = SliceStack(torch.zeros(24, 1, 24, 24), ball(11, 24), VOXELS)

    def nothing_restored(stacks, *, tv_weight):
        return [Solution(torch.zeros_like(stack.slices), torch.zeros(1, 1)) for stack in stacks]

    aucs = [
        search(
            nothing_restored,
            [scan],
            [1.0],
            criterion="implant",
            coupled=True,
            scoring=Scoring(standardize=True, edge_preserving=edges),
            smoothings=(4.0,),
        )[0]["implant_auc"]
        for edges in (False, True)
    ]
    assert aucs[1] > aucs[0]


def test_it_is_true_or_false():
    with pytest.raises(ValueError, match="edge_preserving: got 'yes', expected one of"):
        lc.RestoreConfig(edge_preserving="yes")
