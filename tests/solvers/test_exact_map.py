"""All solvers against the exact MAP restoration under Gaussian priors, whose problem is convex."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.exact_map import ExactMAP, difference_matrix, solve
from support.models import GaussianPrior, PPCAPrior
from torch.distributions import LowRankMultivariateNormal

from lesioncore import EMSolver, PaperSolver, ProxSolver
from lesioncore.engine.gradient import ElboGradient
from lesioncore.ops import reference
from lesioncore.solvers import Objective, TotalVariation

DEPTH, HEIGHT, WIDTH = 3, 7, 6
PIXELS = HEIGHT * WIDTH


@dataclass
class Problem:
    """Slices of the package's kind, and the exact optimum of each independent problem among them."""

    y: torch.Tensor
    mask: torch.Tensor
    objective: Objective
    exact: list[ExactMAP]

    @property
    def x(self) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([solution.x for solution in self.exact])).reshape(self.y.shape)

    def per_problem(self, name: str) -> torch.Tensor:
        return torch.tensor([getattr(solution, name) for solution in self.exact], dtype=torch.float64)


def problem(kind: str, weight: float, *, depth_weight=0.0, isotropic=False, masked=False, slices=DEPTH, seed=0, s=0.6):
    random = np.random.default_rng(seed)
    y, mean = random.normal(size=(slices, HEIGHT, WIDTH)), random.normal(size=(1, HEIGHT, WIDTH))
    mask = random.random(y.shape) < (0.8 if masked else 2.0)
    if kind == "gaussian":
        k = difference_matrix((1, HEIGHT, WIDTH), 0.0).reshape(-1, PIXELS)
        precision, constant = 2.0 * np.eye(PIXELS) + 0.3 * k.T @ k, 0.0
        prior = GaussianPrior(torch.from_numpy(mean)[None], a=2.0, b=0.3)
    else:
        loadings = 0.5 * random.normal(size=(PIXELS, 4))
        precision = np.linalg.inv(loadings @ loadings.T + s**2 * np.eye(PIXELS))
        constant = 0.5 * (np.linalg.slogdet(precision)[1] - PIXELS * np.log(2 * np.pi))
        prior = PPCAPrior(torch.from_numpy(mean)[None], torch.from_numpy(loadings), s)
    form = {"depth_weight": depth_weight, "isotropic": isotropic}
    if depth_weight > 0:
        whole = np.kron(np.eye(slices), precision)
        exact = [solve(y, mask, np.repeat(mean, slices, 0), whole, slices * constant, weight, **form)]
    else:
        pairs = zip(y[:, None], mask[:, None], strict=True)
        exact = [solve(observed, inside, mean, precision, constant, weight, **form) for observed, inside in pairs]
    elbo = ElboGradient(prior, fix_posterior=kind == "ppca, held")
    objective = Objective(elbo, weight, TotalVariation(**form))
    return Problem(torch.from_numpy(y)[:, None], torch.from_numpy(mask)[:, None], objective, exact)


def test_ppca_is_its_distribution():
    generator = torch.Generator().manual_seed(0)
    mean, x = (torch.randn(n, 1, 5, 4, generator=generator, dtype=torch.float64) for n in (1, 6))
    loadings = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    noise = torch.full((20,), 0.49, dtype=torch.float64)
    expected = LowRankMultivariateNormal(mean.flatten(), loadings, noise).log_prob(x.flatten(1))
    assert torch.allclose(PPCAPrior(mean, loadings, 0.7).elbo(x), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["gaussian", "ppca"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("weight", "isotropic", "depth_weight"),
    [(0.3, False, 0.0), (1.0, False, 0.0), (1.0, False, 0.7), (0.6, True, 0.0), (0.6, True, 0.7)],
)
def test_prox_solver_finds_the_optimum(kind, masked, weight, isotropic, depth_weight):
    """To 1e-8 of what there is to gain, and 1e-6 z-scores in every pixel; the certificate allows 1e-11."""
    case = problem(kind, weight, depth_weight=depth_weight, isotropic=isotropic, masked=masked)
    optimum, start = case.per_problem("objective"), case.per_problem("start")
    gain = optimum - start
    assert (gain > 1).all()
    assert (case.per_problem("gap") <= 1e-11 * gain).all()
    # Both say the same of what they solve: the objective at the exact optimum, by the package's own means.
    problems, tv = (
        case.objective.problems(len(case.y)),
        {"depth_weight": depth_weight, "isotropic": isotropic, "eps": 0.0},
    )
    (x,), (y,) = problems.stacks(case.x), problems.stacks(case.y)
    value = problems.sums(case.objective.elbo(case.x)[0]) - weight * reference.tv_value(x, y, **tv)
    assert torch.allclose(value, optimum, rtol=1e-10, atol=1e-10)
    if not isotropic:  # some differences are flat and some are not, or TV would not be what decides
        assert 0.02 < float(case.per_problem("flat").mean()) < 0.9
    solution = ProxSolver(steps=300, inner_iterations=200, tolerance=0.0).solve(case.y, case.mask, case.objective)
    assert torch.allclose(solution.objective[0], start, rtol=1e-12)
    assert ((optimum - solution.objective[-1]).abs() <= 1e-8 * gain).all()
    assert (solution.restored - case.x).abs().max() <= 1e-6


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("weight", "isotropic", "depth_weight"),
    [(0.3, False, 0.0), (1.0, False, 0.7), (0.6, True, 0.0), (0.6, True, 0.7)],
)
def test_em_solver_finds_the_optimum(masked, weight, isotropic, depth_weight):
    """With an exact posterior no step lowers the objective, and they lead to the exact optimum (bars as above)."""
    form = {"depth_weight": depth_weight, "isotropic": isotropic, "masked": masked}
    case = problem("ppca, held", weight, **form, s=np.sqrt(0.5))
    optimum, start = case.per_problem("objective"), case.per_problem("start")
    solution = EMSolver(steps=300, inner_iterations=300).solve(case.y, case.mask, case.objective)
    assert torch.allclose(solution.objective[0], start, rtol=1e-12)
    assert (solution.objective.diff(dim=0) >= -1e-9).all()
    assert ((optimum - solution.objective[-1]).abs() <= 1e-8 * (optimum - start)).all()
    assert (solution.restored - case.x).abs().max() <= 1e-6


@pytest.mark.parametrize("kind", ["gaussian", "ppca"])
def test_default_prox_solver_is_near_the_optimum(kind):
    """Ten steps leave less than 2 % of what there is to gain."""
    case = problem(kind, 1.0, masked=True)
    solution = ProxSolver().solve(case.y, case.mask, case.objective)
    optimum, start = case.per_problem("objective"), case.per_problem("start")
    assert (optimum - solution.objective[-1] <= 0.02 * (optimum - start)).all()


@pytest.mark.parametrize("depth_weight", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["gaussian", "ppca"])
def test_paper_solver_comes_near_with_small_steps(kind, depth_weight):
    """A subgradient method with a constant step hovers below the optimum, half as far with steps half as long.

    With ``x_{k+1} = x_k + a g_k`` and g_k a subgradient of the concave J, ``|x_{k+1} - x*|^2`` gives for any K steps
    ``mean_k (J* - J_k) <= (|x_0 - x*|^2 + sum_k |x_{k+1} - x_k|^2) / (2 a K)``: the bound that is tested.
    """
    case = problem(kind, 0.5, depth_weight=depth_weight, masked=True, slices=2 if depth_weight else 1)
    (optimum,), (start,) = case.per_problem("objective").tolist(), case.per_problem("start").tolist()
    visited = []
    elbo = case.objective.elbo

    def recording(x):
        visited.append(x.detach().clone())
        return elbo(x)

    case.objective.elbo = recording
    hovering = []
    for step_size in (4e-2, 2e-2, 1e-2):
        visited.clear()
        steps = round(10 / step_size)
        solver = PaperSolver(steps=steps, step_size=step_size, late_step_size=step_size, clip=1e9)
        solution = solver.solve(case.y, case.mask, case.objective)
        below = optimum - solution.objective[:, 0]
        assert (below >= -1e-10).all()
        path = torch.stack(visited)
        moves = (path.diff(dim=0)).square().sum()
        distance = (case.y - case.x).square().sum()
        assert below[:-1].mean() <= (distance + moves) / (2 * step_size * steps)
        hovering.append(float(below[-steps // 4 :].mean()))
    assert hovering[-1] < 0.005 * (optimum - start)
    assert all(0.35 < finer / coarser < 0.65 for coarser, finer in pairwise(hovering))
    assert (solution.restored - case.x).abs().max() < 0.05
