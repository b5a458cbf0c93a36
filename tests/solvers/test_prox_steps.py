"""The prox solver's steps: how long they are, when a problem is finished, and what finished ones cost."""

from __future__ import annotations

import pytest
import torch
from support.models import GaussianPrior, tiny_vae

import lesioncore as lc
from lesioncore import ProxSolver
from lesioncore.engine.gradient import ElboGradient
from lesioncore.phantom import simulate
from lesioncore.restoration.prepare import prepare
from lesioncore.solvers import Objective, TotalVariation


class Counting(ElboGradient):
    """Counts the slices whose gradient was computed."""

    def __init__(self, prior: object, **options: object) -> None:
        super().__init__(prior, **options)
        self.slices, self.rows = 0, []

    def __call__(self, x, rows=None):
        self.slices += len(x)
        self.rows.append(list(range(len(x))) if rows is None else rows.tolist())
        return super().__call__(x, rows)


def slices(count: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(count, 1, 24, 20, generator=generator, dtype=torch.float64)
    mean = torch.randn(1, 1, 24, 20, generator=generator, dtype=torch.float64)
    return y, torch.rand(y.shape, generator=generator) < 0.8, mean


@pytest.mark.parametrize("depth_weight", [0.0, 0.7])
def test_ten_gradients_reach_the_optimum_of_a_convex_problem(depth_weight):
    """Its curvatures lie between 2 and 26; a step that is only ever halved leaves 3e-4 of the gain."""
    (y, mask, mean), tv = slices(), TotalVariation(depth_weight=depth_weight)
    objective = Objective(ElboGradient(GaussianPrior(mean, a=2.0, b=3.0)), 0.5, tv)
    start, *_, optimum = ProxSolver(steps=400, inner_iterations=100, tolerance=0.0).solve(y, mask, objective).objective
    reached = ProxSolver(steps=10, tolerance=0.0).solve(y, mask, objective).objective[-1]
    assert (optimum - reached < 9e-5 * (optimum - start)).all()


@pytest.fixture(scope="module")
def glioma() -> tuple[lc.MultiscaleVAE, torch.Tensor, torch.Tensor]:
    """An embedded prior and four neighbouring slices of a simulated patient."""
    prior = lc.load_prior("phantom-t2")
    phantom = simulate(0, split="test", contrast="T2w", lesion="glioma", voxel_size=2.0)
    scan = prepare(phantom.image, prior.metadata, mask=phantom.brain_mask, affine=phantom.affine)
    rows = scan.mask.flatten(1).any(1).nonzero()[:, 0]
    rows = rows[len(rows) // 3 :][:4]
    return prior, scan.slices[rows], scan.mask[rows]


@pytest.mark.parametrize(("depth_weight", "share"), [(0.0, 0.8), (1.0, 0.86)])
def test_eight_gradients_gain_most_of_what_an_embedded_prior_gives(glioma, depth_weight, share):
    """Ten steps that are only ever halved gain .74 and .84: the first are lost where the encoder bends sharply."""
    prior, y, mask = glioma
    objective = Objective(ElboGradient(prior), 1.5, TotalVariation(depth_weight=depth_weight))
    start, *_, optimum = ProxSolver(steps=100, tolerance=0.0).solve(y, mask, objective).objective
    reached = ProxSolver(steps=8, tolerance=0.0).solve(y, mask, objective).objective
    assert (reached.diff(dim=0) >= -2e-6 * reached[0].abs()).all()
    assert (reached[8] - start).sum() > share * (optimum - start).sum()


def unlike(count: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Objective]:
    """Slices that need unlike numbers of steps: the further from the mean, the later differences stop to matter."""
    y, mask, mean = slices(count)
    y = mean + (y - mean) * 3.0 ** torch.arange(-count // 2, count - count // 2).view(-1, 1, 1, 1)
    mask[2] = False
    return y, mask, mean, Objective(Counting(GaussianPrior(mean, a=2.0, b=3.0)), 0.5)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-2])
def test_finished_slices_cost_nothing_and_lose_little(tolerance):
    y, mask, mean, objective = unlike()
    whole = Objective(Counting(GaussianPrior(mean, a=2.0, b=3.0)), 0.5)
    early = ProxSolver(steps=40, tolerance=tolerance).solve(y, mask, objective)
    late = ProxSolver(steps=40, tolerance=0.0).solve(y, mask, whole)
    assert early.objective.shape == late.objective.shape == (41, 6)
    assert (early.objective.diff(dim=0) >= -1e-9).all()
    # A slice with nothing to gain takes the two steps that show it.
    assert [2 in rows for rows in objective.elbo.rows[:4]] == [True, True, True, False]
    counts = [sum(row in rows for rows in objective.elbo.rows) for row in range(6)]
    assert len(set(counts)) > 1
    assert objective.elbo.slices == sum(counts) < 0.6 * whole.elbo.slices
    for row, count in enumerate(counts):
        assert (early.objective[count - 1 :, row] == early.objective[-1, row]).all()
    gain = late.objective[-1] - late.objective[0]
    assert (late.objective[-1] - early.objective[-1] <= 3 * tolerance * gain).all()
    with torch.no_grad():
        x = early.restored
        value = GaussianPrior(mean, a=2.0, b=3.0).elbo(x) - 0.5 * objective.tv_value(x, y, objective.problems(len(y)))
    assert torch.allclose(early.objective[-1], value, rtol=1e-10)
    assert torch.equal(x[~mask], y[~mask])


@pytest.mark.parametrize("sampled", [False, True])
def test_a_slice_alone_is_the_same_as_among_slices_that_finish(sampled):
    """Also with latent samples: a stream advances with its own slice, and with no other."""
    model, (y, mask, _) = tiny_vae().double(), slices()
    y *= torch.tensor([0.1, 4.0, 1.0, 0.3, 2.0, 8.0]).view(-1, 1, 1, 1)
    solver = ProxSolver(steps=25, tolerance=1e-2)

    def solve(rows):
        elbo = Counting(model, batch_size=4, noise_seeds=[7 + row for row in rows] if sampled else None)
        return solver.solve(y[rows], mask[rows], Objective(elbo, 0.5)), elbo

    together, elbo = solve([*range(6)])
    assert len({len(rows) for rows in elbo.rows}) > 1
    for row in range(6):
        alone, _ = solve([row])
        assert torch.allclose(alone.restored[0], together.restored[row], atol=1e-8)
        assert torch.allclose(alone.objective[:, 0], together.objective[:, row], rtol=1e-9)


def test_noise_of_left_out_slices_waits():
    model, (y, _, _) = tiny_vae().double(), slices()
    interrupted, whole = (ElboGradient(model, noise_seeds=range(6)) for _ in range(2))
    interrupted(y)
    interrupted(y[[1, 4]], torch.tensor([1, 4]))
    whole(y)
    second, third = whole(y)[0], whole(y)[0]
    resumed = interrupted(y)[0]
    assert torch.allclose(resumed[[0, 2, 3, 5]], second[[0, 2, 3, 5]], rtol=1e-12)
    assert torch.allclose(resumed[[1, 4]], third[[1, 4]], rtol=1e-12)


def test_a_coupled_stack_finishes_as_one():
    y, mask, mean, _ = unlike()
    elbo = Counting(GaussianPrior(mean, a=2.0, b=3.0))
    done = []
    solution = ProxSolver(steps=40, tolerance=1e-3).solve(
        y, mask, Objective(elbo, 0.5, TotalVariation(depth_weight=0.7)), lambda *at: done.append(at)
    )
    assert all(rows == [*range(6)] for rows in elbo.rows)
    assert 5 < len(elbo.rows) < 30
    assert solution.objective.shape == (41, 1)
    assert (solution.objective[len(elbo.rows) - 1 :] == solution.objective[-1]).all()
    assert done[-1] == (40, 40)


@pytest.mark.parametrize("wrong", [-1e-3, 1.0, float("nan")])
def test_a_tolerance_that_is_no_share_is_named(wrong):
    with pytest.raises(ValueError, match="tolerance: got"):
        ProxSolver(tolerance=wrong)
