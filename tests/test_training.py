"""Training: it learns, it repeats, and it stops with a clear word."""

from __future__ import annotations

import pytest
import torch
from lesioncore.training import TrainingConfig, fit

from lesioncore import VAEConfig

ARCHITECTURE = VAEConfig((20, 18), (4, 6), 3)


def slices(n=64, seed=0):
    """Ellipses of two random sizes in noise."""
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.meshgrid(torch.linspace(-1, 1, 20), torch.linspace(-1, 1, 18), indexing="ij")
    radius = 0.4 + 0.5 * torch.rand(n, 1, 1, 1, generator=generator)
    x = torch.where((i.square() + j.square()).sqrt() < radius, 1.0, -1.0)
    return x + 0.1 * torch.randn(n, 1, 20, 18, generator=generator)


def test_learns_and_reports():
    updates = []
    config = TrainingConfig(slices_seen=4000, batch_size=16, learning_rate=5e-3)
    model = fit(slices(), ARCHITECTURE, config, report=updates.append)
    assert updates[-1].slices_seen == 4000
    assert updates[-1].elbo > updates[0].elbo
    held_out = slices(seed=1)
    with torch.no_grad():
        error = (held_out - model.reconstruct(held_out)).square().mean()
    assert error < 0.3 * held_out.var()
    assert not model.training


def test_same_seed_same_weights():
    config = TrainingConfig(slices_seen=160, batch_size=16, seed=3)
    state = torch.random.get_rng_state()
    first, again = (fit(slices(), ARCHITECTURE, config).state_dict() for _ in range(2))
    other = fit(slices(), ARCHITECTURE, TrainingConfig(slices_seen=160, batch_size=16, seed=4)).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])
    assert torch.equal(state, torch.random.get_rng_state())


def test_outliers_stop_with_a_word():
    broken = slices()
    broken[::2] = float("inf")
    with pytest.raises(FloatingPointError, match="outliers"):
        fit(broken, ARCHITECTURE, TrainingConfig(slices_seen=320, batch_size=16))


@pytest.mark.parametrize(
    ("data", "message"), [(torch.zeros(64, 1, 9, 9), "expected"), (torch.zeros(3, 1, 20, 18), "at least one batch")]
)
def test_bad_slices_are_named(data, message):
    with pytest.raises(ValueError, match=message):
        fit(data, ARCHITECTURE)


@pytest.mark.parametrize("wrong", [{"batch_size": 1}, {"slices_seen": 0}, {"learning_rate": 0.0}, {"warmup": 2.0}])
def test_bad_options_are_named(wrong):
    with pytest.raises(ValueError, match="expected"):
        TrainingConfig(**wrong)


def test_phantom_stacks_are_what_restore_would_see():
    pytest.importorskip("nilearn")
    from lesioncore.training.phantoms import brain_slices, healthy_stacks, reference_scale

    from lesioncore.data.grid import SliceGrid
    from lesioncore.phantom import simulate

    grid, scale = SliceGrid(4.0, (50, 50)), reference_scale("T2w", 4.0)
    stacks = healthy_stacks([0, 1], split="validation", contrast="T2w", grid=grid, intensity=scale, workers=1)
    assert len(stacks) == 2
    assert stacks[0].slices.shape[1:] == (1, 50, 50)
    brain = stacks[0].slices[stacks[0].mask]
    assert abs(float(brain.mean())) < 0.3
    assert 0.7 < float(brain.std()) < 1.3
    voxels = simulate(0, split="validation", contrast="T2w", voxel_size=4.0).brain_mask.sum()
    assert stacks[0].mask.sum() == voxels
    assert brain_slices(stacks).shape[0] < sum(len(s.slices) for s in stacks)
