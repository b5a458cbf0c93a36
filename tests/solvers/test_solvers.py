"""Both solvers against closed forms, the float64 reference, and each other."""

from __future__ import annotations

import pytest
import torch
from support.models import GaussianPrior, tiny_vae

from lesioncore import PaperSolver, ProxSolver
from lesioncore.engine.gradient import ElboGradient
from lesioncore.ops import reference
from lesioncore.solvers import Objective, TotalVariation


def problem(n=3, h=9, w=8, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(n, 1, h, w, generator=generator, dtype=torch.float64)
    mean = torch.randn(1, 1, h, w, generator=generator, dtype=torch.float64)
    mask = torch.rand(n, 1, h, w, generator=generator) < 0.8
    return y.to(device), mean.to(device), mask.to(device)


def objective(prior, weight, **tv):
    return Objective(ElboGradient(prior, batch_size=2), weight, TotalVariation(**tv))


# Clipping makes neighbours move alike, and the sign of their rounded difference is anyone's: only one step then.
@pytest.mark.parametrize(("steps", "clip"), [(12, 1e9), (1, 0.5)])
def test_paper_solver_is_the_paper_to_the_letter(steps, clip):
    """Against a loop written from Eq. 4-6 with autograd, over the change of step size."""
    model = tiny_vae((12, 11)).double()
    y, _, mask = problem(3, 12, 11)
    solver = PaperSolver(steps=steps, step_size=5e-2, late_step_size=3e-2, first_steps=5, clip=clip)
    found = solver.solve(y, mask, Objective(ElboGradient(model, batch_size=3), 0.7))
    x = y.clone()
    for step in range(steps):
        leaf = x.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(model.elbo(leaf).sum(), leaf)
        d = (x - y)[:, 0]
        tv = torch.zeros_like(d)
        tv[:, 1:] += (d[:, 1:] - d[:, :-1]).sign()
        tv[:, :-1] -= (d[:, 1:] - d[:, :-1]).sign()
        tv[:, :, 1:] += (d[:, :, 1:] - d[:, :, :-1]).sign()
        tv[:, :, :-1] -= (d[:, :, 1:] - d[:, :, :-1]).sign()
        x = x + (5e-2 if step < 5 else 3e-2) * mask.double() * (g - 0.7 * tv[:, None]).clamp(-clip, clip)
    assert torch.allclose(found.restored, x, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(found.restored, y, atol=1e-3)


@pytest.mark.parametrize("weight", [0.3, 2.0])
@pytest.mark.parametrize("tv", [{}, {"isotropic": True}, {"depth_weight": 0.7}])
def test_prox_solver_reaches_the_optimum(weight, tv):
    """The optimum of a convex problem is the fixed point of the (reference) proximal gradient step."""
    y, mean, mask = problem()
    prior = GaussianPrior(mean, a=2.0, b=0.3)
    target = objective(prior, weight, **tv)
    found = ProxSolver(steps=150, inner_iterations=200, tolerance=0.0).solve(y, mask, target)
    problems, d = target.problems(len(y)), y - found.restored

    def stacks(slices):
        return problems.stacks(slices)[0]

    gradient = target.elbo(found.restored)[1]
    step, _ = reference.tv_prox(
        stacks(d - 0.2 * gradient),
        stacks(mask),
        0.2 * weight,
        depth_weight=target.tv.depth_weight,
        isotropic=target.tv.isotropic,
        iterations=3000,
    )
    assert (step - stacks(d)).abs().max() < 2e-5


@pytest.mark.parametrize(
    "solver", [PaperSolver(steps=400, step_size=5e-2, late_step_size=1e-2), ProxSolver(steps=60, tolerance=0.0)]
)
def test_without_data_term_the_prior_alone_decides(solver):
    y, mean, mask = problem()
    found = solver.solve(y, mask, objective(GaussianPrior(mean), 0.0))
    assert torch.allclose(found.restored, torch.where(mask, mean, y), atol=1e-3)


def test_large_weight_moves_the_slice_as_one():
    """TV ignores a constant, so with everything brain the best D is the mean of Y - mean."""
    y, mean, mask = problem()
    found = ProxSolver(steps=80, inner_iterations=400, tolerance=0.0).solve(
        y, torch.ones_like(mask), objective(GaussianPrior(mean), 100.0)
    )
    assert torch.allclose(y - found.restored, (y - mean).mean((2, 3), keepdim=True).expand_as(y), atol=1e-3)


def test_both_solvers_agree_and_prox_is_ahead():
    y, mean, mask = problem()
    target = objective(GaussianPrior(mean, b=0.3), 0.4)
    paper = PaperSolver(steps=1500, step_size=5e-3, late_step_size=1e-3, first_steps=800).solve(y, mask, target)
    prox = ProxSolver(steps=60, inner_iterations=100, tolerance=0.0).solve(y, mask, target)
    assert (paper.restored - prox.restored).abs().max() < 0.02
    assert (prox.objective[-1] >= paper.objective[-1]).all()


@pytest.mark.parametrize("tv", [{}, {"isotropic": True}, {"depth_weight": 0.5}])
def test_prox_never_gets_worse_however_large_the_first_step(tv):
    y, _, mask = problem(4, 24, 20)
    found = ProxSolver(steps=25, step_size=50.0).solve(y, mask, objective(tiny_vae().double(), 0.5, **tv))
    assert (found.objective.diff(dim=0) >= -1e-9).all()
    assert (found.objective[-1] > found.objective[0]).all()


@pytest.mark.parametrize("solver", [PaperSolver(steps=20), ProxSolver(steps=5)])
def test_objective_is_that_of_the_restoration(solver):
    y, _, mask = problem(3, 24, 20)
    model = tiny_vae().double()
    found = solver.solve(y, mask, objective(model, 0.5))
    with torch.no_grad():
        expected = model.elbo(found.restored) - 0.5 * reference.tv_value(found.restored, y)
    assert torch.allclose(found.objective[-1], expected, rtol=1e-9)
    assert found.objective.shape == (solver.steps + 1, 3)


@pytest.mark.parametrize("solver", [PaperSolver(steps=15), ProxSolver(steps=6)])
def test_result_does_not_depend_on_the_batch(solver):
    y, _, mask = problem(5, 24, 20)
    model = tiny_vae().double()
    results = [
        solver.solve(y, mask, Objective(ElboGradient(model, batch_size=size), 0.5)).restored for size in (1, 2, 5)
    ]
    alone = solver.solve(y[3:4], mask[3:4], Objective(ElboGradient(model), 0.5)).restored
    for other in results[1:]:
        assert torch.allclose(results[0], other, atol=1e-8)
    assert torch.allclose(results[0][3:4], alone, atol=1e-8)


@pytest.mark.parametrize("solver", [PaperSolver(steps=5), ProxSolver(steps=3)])
def test_outside_the_mask_nothing_changes_and_inputs_are_kept(solver):
    y, _, mask = problem(2, 24, 20)
    before = y.clone()
    found = solver.solve(y, mask, objective(tiny_vae().double(), 0.5))
    assert torch.equal(y, before)
    assert torch.equal(found.restored[~mask], y[~mask])
    assert not torch.equal(found.restored, y)


@pytest.mark.parametrize("solver", [PaperSolver(steps=3), ProxSolver(steps=3)])
def test_empty_stack_and_zero_steps(solver, device):
    y, mean, mask = problem(device=device)
    empty = solver.solve(y[:0].float(), mask[:0], objective(GaussianPrior(mean.float()), 1.0))
    assert empty.restored.shape == (0, 1, 9, 8)
    still = type(solver)(steps=0).solve(y.float(), mask, objective(GaussianPrior(mean.float()), 1.0))
    assert torch.equal(still.restored, y.float())


@pytest.mark.parametrize("solver", [PaperSolver(steps=30), ProxSolver(steps=8)])
def test_float32_follows_float64(solver, device):
    y, mean, mask = problem(device=device)
    exact = solver.solve(y.cpu(), mask.cpu(), objective(GaussianPrior(mean.cpu(), b=0.3), 0.7)).restored
    single = solver.solve(y.float(), mask, objective(GaussianPrior(mean.float(), b=0.3), 0.7)).restored
    assert (single.cpu().double() - exact).abs().max() < 2e-2


@pytest.mark.parametrize("solver", [PaperSolver(), ProxSolver()])
def test_bad_slices_are_named(solver):
    y, mean, mask = problem()
    target = objective(GaussianPrior(mean), 1.0)
    with pytest.raises(ValueError, match="NaN"):
        solver.solve(y.masked_fill(mask, float("nan")), mask, target)
    with pytest.raises(ValueError, match="mask: got"):
        solver.solve(y, mask.float(), target)
    with pytest.raises(ValueError, match="y: got"):
        solver.solve(y[0], mask[0], target)


def test_numbers_out_of_range_are_named():
    for wrong in ({"steps": -1}, {"step_size": 0.0}, {"inner_iterations": 0}):
        with pytest.raises(ValueError, match="expected"):
            ProxSolver(**wrong)
    for wrong in ({"steps": -1}, {"clip": 0.0}, {"late_step_size": -1.0}):
        with pytest.raises(ValueError, match="expected"):
            PaperSolver(**wrong)
    with pytest.raises(ValueError, match="tv_weight"):
        objective(GaussianPrior(torch.zeros(1)), -1.0)
    with pytest.raises(ValueError, match="eps"):
        TotalVariation(eps=0.0)
