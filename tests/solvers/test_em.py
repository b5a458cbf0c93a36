"""The EM solver: its gradient, its steps, and which priors it is for. Its optimum: test_exact_map.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import GaussianPrior, PPCAPrior, tiny_gmvae, tiny_multiscale, tiny_vae

import lesioncore as lc
from lesioncore import Calibration, EMSolver
from lesioncore.calibration.healthy import HealthyScores
from lesioncore.engine.gradient import ElboGradient
from lesioncore.models.prior import PriorMetadata
from lesioncore.ops import reference
from lesioncore.solvers import Objective, TotalVariation


def slices(count: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(count, 1, 24, 20, generator=generator, dtype=torch.float64)
    return y, torch.rand(y.shape, generator=generator) < 0.7


def held(model, weight: float = 0.5, **options) -> Objective:
    return Objective(ElboGradient(model, fix_posterior=True, **options), weight)


@pytest.mark.parametrize("make", [tiny_vae, tiny_multiscale, tiny_gmvae])
@pytest.mark.parametrize("sampled", [False, True])
def test_held_elbo_is_the_elbo_with_the_gradient_of_the_likelihood_alone(make, sampled):
    model, (x, _) = make().double(), slices()
    noise = torch.randn(4, *model.noise_shape, dtype=torch.float64) if sampled else None
    x.requires_grad_(True)
    value = model.fixed_posterior_elbo(x, noise)
    assert torch.allclose(value, model.elbo(x, noise), rtol=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    if not sampled:
        assert torch.allclose(gradient, 2 * (model.reconstruct(x) - x), rtol=1e-10)
    (whole,) = torch.autograd.grad(model.elbo(x, noise).sum(), x)
    assert (gradient - whole).abs().max() > 0.01


def test_where_the_posterior_is_exact_both_gradients_are_one():
    """Fisher's identity."""
    generator = torch.Generator().manual_seed(0)
    loadings = torch.randn(480, 5, generator=generator, dtype=torch.float64)
    prior = PPCAPrior(torch.zeros(1, 1, 24, 20, dtype=torch.float64), loadings, 0.5**0.5)
    x, _ = slices()
    (value, gradient), (held_value, held_gradient) = (ElboGradient(prior, fix_posterior=h)(x) for h in (False, True))
    assert torch.allclose(value, held_value, rtol=1e-12)
    assert torch.allclose(gradient, held_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("isotropic", [False, True])
def test_one_step_is_one_prox_of_the_projections_residual(isotropic):
    model, (y, mask) = tiny_vae().double(), slices()
    objective = Objective(ElboGradient(model, fix_posterior=True), 0.8, TotalVariation(isotropic))
    found = EMSolver(steps=1, inner_iterations=200).solve(y, mask, objective)
    with torch.no_grad():
        residual = y - model.reconstruct(y)
    expected, _ = reference.tv_prox(residual, mask, 0.4, isotropic=isotropic, iterations=200)
    assert torch.allclose(y - found.restored, expected, atol=1e-9)


def test_objective_is_that_of_the_restoration_and_inputs_are_kept():
    model, (y, mask) = tiny_vae().double(), slices()
    before = y.clone()
    found = EMSolver(steps=3).solve(y, mask, held(model))
    with torch.no_grad():
        expected = model.elbo(found.restored) - 0.5 * reference.tv_value(found.restored, y)
    assert torch.allclose(found.objective[-1], expected, rtol=1e-9)
    assert found.objective.shape == (4, 4)
    assert torch.equal(y, before)
    assert torch.equal(found.restored[~mask], y[~mask])
    assert not torch.equal(found.restored, y)


@pytest.mark.parametrize("outlier", [None, 1.0])
def test_result_does_not_depend_on_the_batch(outlier):
    model, (y, mask) = tiny_gmvae().double(), slices(5)
    solver = EMSolver(steps=4, outlier=outlier)
    whole, parts = (solver.solve(y, mask, held(model, batch_size=n)).restored for n in (5, 2))
    alone = solver.solve(y[3:4], mask[3:4], held(model)).restored
    assert torch.allclose(whole, parts, atol=1e-10)
    assert torch.allclose(whole[3:4], alone, atol=1e-10)


def test_what_was_detected_no_longer_informs_the_encoder():
    """A prior that can follow the lesion does not where its pixels are missing: the others say what lies under it."""
    generator = torch.Generator().manual_seed(1)
    loadings = torch.randn(24, 20, 5, generator=generator, dtype=torch.float64)
    loadings[8:14, 6:12, 4] += 3.0  # a direction much like the lesion
    prior = PPCAPrior(torch.zeros(1, 1, 24, 20, dtype=torch.float64), loadings.reshape(480, 5), 0.5**0.5)
    healthy = loadings @ torch.randn(5, generator=generator, dtype=torch.float64)
    lesion = torch.zeros(1, 1, 24, 20, dtype=torch.float64)
    lesion[..., 8:14, 6:12] = 8.0
    noise = 0.5**0.5 * torch.randn(lesion.shape, generator=generator, dtype=torch.float64)
    y, mask = healthy + lesion + noise, torch.ones(1, 1, 24, 20, dtype=torch.bool)

    def error(solver: EMSolver) -> float:
        found = y - solver.solve(y, mask, held(prior, 1.0)).restored
        return float((found - lesion)[lesion > 0].abs().mean())

    plain, robust = error(EMSolver(20, 200)), error(EMSolver(20, 200, outlier=3.0))
    assert robust < 0.7 * plain
    assert error(EMSolver(20, 200, outlier=1e6)) == pytest.approx(plain, rel=1e-9)


def test_coupled_slices_are_judged_as_one_volume():
    model, (y, mask) = tiny_vae().double(), slices(6)
    solver, tv = EMSolver(steps=3, outlier=1.0), TotalVariation(depth_weight=0.5)
    elbo = ElboGradient(model, fix_posterior=True)
    both = solver.solve(y, mask, Objective(elbo, 0.5, tv, (4, 2))).restored
    first = solver.solve(y[:4], mask[:4], Objective(elbo, 0.5, tv)).restored
    assert torch.allclose(both[:4], first, atol=1e-10)
    alone = solver.solve(y[:4], mask[:4], Objective(elbo, 0.5)).restored
    assert not torch.allclose(both[:4], alone, atol=1e-3)


def test_float32_follows_float64_on_every_device(device):
    y, mask = slices()
    exact = EMSolver().solve(y, mask, held(tiny_vae().double())).restored
    y, mask = y.float().to(device), mask.to(device)
    found = EMSolver().solve(y, mask, held(tiny_vae().to(device))).restored
    assert torch.allclose(found.cpu().double(), exact, atol=1e-4)
    empty = EMSolver().solve(y[:0], mask[:0], held(tiny_vae().to(device)))
    assert empty.restored.shape == (0, 1, 24, 20)
    still = EMSolver(steps=0).solve(y, mask, held(tiny_vae().to(device)))
    assert torch.equal(still.restored, y)


def test_auto_takes_em_where_it_can():
    config, other = lc.RestoreConfig(), GaussianPrior(torch.zeros(1, 1, 24, 20))
    assert config.for_prior(tiny_vae()).solver == EMSolver()
    assert config.for_prior(other).solver == lc.ProxSolver()
    assert lc.RestoreConfig(kl_weight=2.0).for_prior(tiny_vae()).solver == lc.ProxSolver()
    assert lc.RestoreConfig("paper").for_prior(tiny_vae()).solver == lc.PaperSolver()
    with pytest.raises(ValueError, match="not decided yet"):
        config.settings()


def test_auto_takes_the_solver_of_the_calibration():
    prior = tiny_vae()
    used = lc.RestoreConfig(lc.ProxSolver(steps=3), tv_dimensions=2)
    prior.metadata = PriorMetadata("test").with_calibration(
        Calibration(used.settings(), 1.5, HealthyScores.of(np.linspace(0, 1, 9)))
    )
    assert lc.RestoreConfig().for_prior(prior) == replace(
        used, spread_map=False, asymmetry=0.0, edge_preserving=False, sign=0
    )
    assert lc.RestoreConfig("em").for_prior(prior).solver == EMSolver()
    y, _ = slices()
    result = lc.restore(y.float(), prior, config=lc.RestoreConfig(normalized=True))
    assert result.record.config.solver == lc.ProxSolver(steps=3)
    assert result.mask(0.05).shape == y.shape


def test_what_em_refuses():
    y, _ = slices()
    other = GaussianPrior(torch.zeros(1, 1, 24, 20))
    with pytest.raises(ValueError, match="GaussianPrior has no fixed_posterior_elbo"):
        lc.restore(y.float(), other, config=lc.RestoreConfig("em", tv_weight=1.0, normalized=True))
    with pytest.raises(ValueError, match="kl_weight: got 2"):
        lc.restore(y.float(), tiny_vae(), config=lc.RestoreConfig("em", tv_weight=1.0, kl_weight=2.0))
    for name, value in {"steps": -1, "inner_iterations": 0, "outlier": 0.0}.items():
        with pytest.raises(ValueError, match=f"{name}: got {value}, expected"):
            EMSolver(**{name: value})
