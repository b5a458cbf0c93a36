"""Stacks solved side by side: each as if it were alone, their slices in shared batches."""

from __future__ import annotations

import pytest
import torch
from support.models import GaussianPrior, tiny_vae

import lesioncore as lc
from lesioncore.data.stack import SliceStack
from lesioncore.restoration.run import Run
from lesioncore.restoration.solve import solve_stacks
from lesioncore.solvers import Objective, TotalVariation

CPU = torch.device("cpu")
SHAPE = (24, 20)
SOLVERS = [
    pytest.param(lc.EMSolver(steps=4), id="em"),
    pytest.param(lc.ProxSolver(steps=8), id="prox"),
    pytest.param(lc.PaperSolver(steps=6, step_size=5e-2), id="paper"),
]


def stack(count, seed, *, voxel_size=(2.0, 2.0, 3.0), beyond=1):
    """Random slices; `beyond` empty ones on either side, a hole in the brain."""
    generator = torch.Generator().manual_seed(seed)
    slices = torch.randn(count, 1, *SHAPE, generator=generator)
    mask = torch.rand(slices.shape, generator=generator) < 0.8
    mask[:beyond], mask[count - beyond :] = False, False
    mask[count // 2] = False
    return SliceStack(slices, mask, voxel_size)


def solved(stacks, prior, solver, **options):
    config = lc.RestoreConfig(solver, tv_weight=0.7, tv_dimensions=3, normalized=True, **options)
    run = Run.of(prior, config, CPU)
    return solve_stacks(stacks, prior, run, seed=3 if options.get("latent") == "sample" else None)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("tv", ["anisotropic", "isotropic"])
def test_coupled_stacks_side_by_side_are_as_alone(solver, tv):
    """Of several depths, with the brain at the volume's end as well, where a neighbour's slice would follow."""
    stacks = [stack(7, 0), stack(9, 1, beyond=0), stack(5, 2, beyond=0), stack(8, 3, beyond=2)]
    prior = tiny_vae()
    together = solved(stacks, prior, solver, tv=tv, batch_size=100)
    for one, found in zip(stacks, together, strict=True):
        (alone,) = solved([one], prior, solver, tv=tv)
        # float32 convolutions round differently in other batch sizes.
        assert torch.allclose(found.restored, alone.restored, atol=2e-4)
        assert torch.allclose(found.objective, alone.objective, rtol=1e-5)
        assert torch.equal(found.restored[~one.mask], one.slices[~one.mask])
        assert not torch.equal(found.restored, one.slices)
        assert found.objective.shape[1] == 1


def test_latent_samples_are_those_of_the_stack_alone():
    stacks, prior = [stack(7, 0), stack(6, 1)], tiny_vae()
    together = solved(stacks, prior, lc.ProxSolver(steps=4), latent="sample", batch_size=100)
    for one, found in zip(stacks, together, strict=True):
        (alone,) = solved([one], prior, lc.ProxSolver(steps=4), latent="sample")
        assert torch.allclose(found.restored, alone.restored, atol=2e-4)


def test_stacks_of_other_voxels_and_without_any():
    """What one call is given keeps its order, whatever is solved beside what."""
    mean = torch.zeros(1, 1, *SHAPE)
    stacks = [stack(6, 0), stack(7, 1, voxel_size=None), stack(5, 2, voxel_size=(2.0, 2.0, 1.0)), stack(6, 3)]
    together = solved(stacks, GaussianPrior(mean), lc.ProxSolver(steps=6), batch_size=100)
    assert [found.objective.shape[1] for found in together] == [1, 4, 1, 1]  # slices with brain, where each is alone
    for one, found in zip(stacks, together, strict=True):
        (alone,) = solved([one], GaussianPrior(mean), lc.ProxSolver(steps=6))
        assert torch.allclose(found.restored, alone.restored, atol=1e-5)


@pytest.mark.parametrize(("batch_size", "calls"), [(100, [24]), (8, [8, 8, 8]), (7, [7, 1, 7, 1, 7, 1])])
def test_coupled_stacks_share_batches(batch_size, calls):
    """Three stacks of eight slices: in one batch, or a batch each where one fills it."""

    class Counting(GaussianPrior):
        seen: list[int]

        def elbo(self, x):
            self.seen.append(len(x))
            return super().elbo(x)

    prior = Counting(torch.zeros(1, 1, *SHAPE))
    prior.seen = []
    solved([stack(8, seed) for seed in range(3)], prior, lc.ProxSolver(steps=0), batch_size=batch_size)
    assert prior.seen == calls


def test_depths_must_be_those_of_the_slices():
    objective = Objective(None, 1.0, TotalVariation(depth_weight=1.0), [3, 4])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"depths: got \(3, 4\), expected 8 slices in all"):
        objective.problems(8)
