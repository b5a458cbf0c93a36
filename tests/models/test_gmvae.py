"""The GMVAE's own terms against torch.distributions, Monte Carlo and the VAE that it is with one component."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from support.models import head, scan_values, tiny_gmvae, tiny_metadata, tiny_vae
from torch.distributions import Categorical, Independent, Normal, kl_divergence

import lesioncore as lc
from lesioncore import GMVAE, GMVAEConfig
from lesioncore.models.gaussian import Gaussian


def normal(gaussian: Gaussian) -> Independent:
    return Independent(Normal(gaussian.mean, (0.5 * gaussian.log_variance).exp()), 3)


def bayes(z, components):
    """``P(k|z,w)`` by enumeration, each component's density computed by itself."""
    c = components.mean.shape[1]
    densities = [normal(Gaussian(components.mean[:, k], components.log_variance[:, k])).log_prob(z) for k in range(c)]
    joint = torch.stack(densities, 1) - math.log(c)
    return (joint - joint.logsumexp(1, keepdim=True)).exp()


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("c", [1, 2, 5])
def test_terms_against_distributions(c, sampled):
    model = tiny_gmvae(components=c).double()
    generator = torch.Generator().manual_seed(c)
    x = torch.randn(4, 1, 24, 20, dtype=torch.float64, generator=generator)
    noise = torch.randn(4, *model.noise_shape, dtype=torch.float64, generator=generator) if sampled else None
    with torch.no_grad():
        q_z, q_w = model.encode(x)
        z, w = q_z.mean, q_w.mean
        if sampled:
            z = z + noise[:, :3] * (0.5 * q_z.log_variance).exp()
            w = w + noise[:, 3:] * (0.5 * q_w.log_variance).exp()
        components = model.components(w)
        posterior = bayes(z, components)
        divergences = torch.stack(
            [
                kl_divergence(normal(q_z), normal(Gaussian(components.mean[:, k], components.log_variance[:, k])))
                for k in range(c)
            ],
            1,
        )
        standard = normal(Gaussian(torch.zeros_like(w), torch.zeros_like(w)))
        expected = {
            "log_likelihood": Independent(Normal(model.decode(z), math.sqrt(0.5)), 3).log_prob(x),
            "kl_z": (posterior * divergences).sum(1),
            "kl_w": kl_divergence(normal(q_w), standard),
            "kl_k": kl_divergence(Categorical(posterior), Categorical(torch.ones_like(posterior))),
        }
        terms = model.elbo_terms(x, noise)
        assert set(terms) == set(expected)
        for name, value in expected.items():
            assert torch.allclose(terms[name], value, rtol=1e-10, atol=1e-12), name
        elbo = expected["log_likelihood"] - expected["kl_z"] - expected["kl_w"] - expected["kl_k"]
        assert torch.allclose(model.elbo(x, noise), elbo, rtol=1e-12)
        assert torch.allclose(model.posterior(z, w), posterior, rtol=1e-10)
    if c > 1:  # one component alone would say nothing of the weights
        assert (posterior.max(1).values < 0.99).any()


def test_components_are_one_by_one_convolutions_of_w():
    """A component's Gaussian at a place depends on w at that place alone."""
    model = tiny_gmvae().double()
    w = torch.randn(1, 2, 5, 4, dtype=torch.float64)
    moved = w.clone()
    moved[..., 2, 1] += 1.0
    with torch.no_grad():
        for a, b in zip(model.components(w), model.components(moved), strict=True):
            assert a.shape == (1, 3, 3, 5, 4)
            changed = (a != b).flatten(0, 2).any(0)
            assert changed.nonzero().tolist() == [[2, 1]]


def test_terms_against_monte_carlo():
    """Each expectation of Eq. 2 from samples of z, w, k; agreement within 5 standard errors, each below 2 % of 1 nat
    or of the term."""
    model = tiny_gmvae((12, 11), seed=2).double()
    with torch.no_grad():  # divergences that stand out from their samples' noise
        for head in (model.mean, model.w_mean):
            head.bias.mul_(4)
    generator = torch.Generator().manual_seed(0)
    n = 5_000
    x = torch.randn(1, 1, 12, 11, dtype=torch.float64, generator=generator)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        q_z, q_w = (normal(Gaussian(*(part[0] for part in q))) for q in model.encode(x))
        z, other_z, w = q_z.sample((n,)), q_z.sample((n,)), q_w.sample((n,))
        components = model.components(w)
        posterior = bayes(z, components)
        k = Categorical(posterior).sample()
        rows = torch.arange(n)
        chosen = normal(Gaussian(components.mean[rows, k], components.log_variance[rows, k]))
        standard = Normal(torch.zeros_like(w), torch.ones_like(w))
        sampled = {
            "log_likelihood": Normal(model.decode(z), math.sqrt(0.5)).log_prob(x).sum((1, 2, 3)),
            # The KL's own expectation over Q(z|X) is not that of the posterior of k: a second sample of z.
            "kl_z": q_z.log_prob(other_z) - chosen.log_prob(other_z),
            "kl_w": q_w.log_prob(w) - standard.log_prob(w).sum((1, 2, 3)),
            "kl_k": posterior[rows, k].log() + math.log(3),
        }
        noise = torch.randn(n, *model.noise_shape, dtype=torch.float64, generator=generator)
        terms = model.elbo_terms(x.expand(n, -1, -1, -1), noise)
    for name, values in sampled.items():
        error = math.sqrt(float(values.var() + terms[name].var()) / n)
        assert error < 0.02 * max(1.0, abs(float(values.mean()))), name
        assert abs(float(values.mean() - terms[name].mean())) < 5 * error + 1e-9, name


@pytest.mark.parametrize("sampled", [False, True])
def test_one_standard_component_is_the_vae(sampled):
    vae, model = tiny_vae(seed=3).double(), tiny_gmvae(seed=4, components=1).double()
    missing = model.load_state_dict(vae.state_dict(), strict=False)
    assert not missing.unexpected_keys
    with torch.no_grad():
        for module in (model.w_mean, model.w_log_variance, model.component_mean, model.component_log_variance):
            for parameter in module.parameters():
                parameter.zero_()
    x = torch.randn(3, 1, 24, 20, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, *model.noise_shape, dtype=torch.float64) if sampled else None
    terms = model.elbo_terms(x, noise)
    assert not terms["kl_k"].any()
    assert not terms["kl_w"].any()
    elbo, expected = model.elbo(x, noise), vae.elbo(x, noise[:, :3] if sampled else None)
    assert torch.allclose(elbo, expected, rtol=1e-12)
    gradients = [torch.autograd.grad(value.sum(), x)[0] for value in (elbo, expected)]
    assert torch.allclose(*gradients, rtol=1e-10, atol=1e-12)


def test_one_component_has_no_k_terms_whatever_the_weights():
    model = tiny_gmvae(components=1)
    terms = model.elbo_terms(torch.randn(5, 1, 24, 20), torch.randn(5, *model.noise_shape))
    assert not terms["kl_k"].any()
    assert terms["kl_w"].min() > 0


@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(-2, 1).map(lambda e: 10**e),
    c=st.integers(1, 6),
    sampled=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_costs_are_never_negative(seed, scale, c, sampled, dtype):
    generator = torch.Generator().manual_seed(seed)
    model = tiny_gmvae((12, 11), seed=seed, components=c).to(dtype)
    x = torch.randn(3, 1, 12, 11, generator=generator, dtype=dtype, requires_grad=True)
    noise = torch.randn(3, *model.noise_shape, generator=generator, dtype=dtype) if sampled else None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    terms = model.elbo_terms(x, noise)
    rounding = 100 * torch.finfo(dtype).eps
    for name in ("kl_z", "kl_w", "kl_k"):
        assert (terms[name] >= -rounding).all(), name
        assert torch.isfinite(terms[name]).all(), name
    assert (terms["kl_k"] <= math.log(c) + rounding).all()
    assert torch.isfinite(torch.autograd.grad(model.elbo(x, noise).sum(), x)[0]).all()


def test_posterior_of_components_far_apart_is_certain_and_finite():
    model = tiny_gmvae()
    with torch.no_grad():
        model.component_mean.weight.zero_()
        model.component_mean.bias.copy_(torch.tensor([-1e3, 0.0, 1e3]).repeat_interleave(3))
        model.component_log_variance.weight.zero_()
        model.component_log_variance.bias.fill_(-50.0)
        z = torch.tensor([-1e3, 0.1, 900.0]).reshape(3, 1, 1, 1).expand(3, 3, 5, 4)
        assert torch.equal(model.posterior(z, torch.zeros(3, 2, 5, 4)), torch.eye(3))
    x = torch.randn(2, 1, 24, 20, requires_grad=True)
    elbo = model.elbo(x)
    assert torch.isfinite(elbo).all()
    assert torch.isfinite(torch.autograd.grad(elbo.sum(), x)[0]).all()


def test_sample_decodes_the_chosen_component():
    model = tiny_gmvae()
    noise = torch.randn(5, *model.noise_shape)
    with torch.no_grad():
        mean, log_variance = model.components(noise[:, 3:])
        k = torch.tensor([2, 0, 1, 1, 2])
        rows = torch.arange(5)
        z = mean[rows, k] + noise[:, :3] * (0.5 * log_variance[rows, k]).exp()
        assert torch.allclose(model.sample(noise, k), model.decode(z))
        assert torch.equal(model.sample(noise), model.sample(noise, torch.tensor([0, 1, 2, 0, 1])))


@pytest.mark.parametrize("latent", ["mean", "sample"])
@pytest.mark.parametrize("solver", ["prox", "paper"])
def test_restores(solver, latent):
    solver = lc.ProxSolver(steps=5) if solver == "prox" else lc.PaperSolver(steps=20)
    config = lc.RestoreConfig(solver, tv_weight=0.5, latent=latent, kl_weight=0.8)
    brain = head((22, 18, 10))
    volume = scan_values(brain)
    first, again = (lc.restore(volume, tiny_gmvae(metadata=tiny_metadata()), config=config) for _ in range(2))
    assert torch.equal(first.residual, again.residual)
    assert not first.residual[~brain].any()
    assert first.residual[brain].abs().max() > 0.05
    assert first.objective[-1] > first.objective[0]


@pytest.mark.parametrize("wrong", ["components", "w_channels", "hidden_channels"])
def test_bad_sizes_are_named(wrong):
    with pytest.raises(ValueError, match=f"{wrong}: got 0"):
        GMVAEConfig(**{wrong: 0})


@pytest.mark.parametrize("dim_z", [256, 512, 1024])
@pytest.mark.parametrize("c", [1, 3, 6, 9])
def test_paper_sizes(c, dim_z):
    with torch.device("meta"):
        model = GMVAE(GMVAEConfig((200, 200), latent_channels=dim_z, components=c))
    assert model.noise_shape == (dim_z + 32, 2, 2)
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert parameters["component_mean"] == parameters["component_log_variance"] == c * dim_z * (64 + 1)
    assert parameters["mean"] == parameters["log_variance"] == dim_z * (512 + 1)
    assert 7e6 < parameters["encoder"] + parameters["decoder"] < 12e6


@pytest.mark.slow
def test_paper_size_runs():
    model = GMVAE(GMVAEConfig((200, 200), latent_channels=1024, components=9)).eval()
    x = torch.randn(2, 1, 200, 200, requires_grad=True)
    elbo = model.elbo(x, torch.randn(2, *model.noise_shape))
    (gradient,) = torch.autograd.grad(elbo.sum(), x)
    assert torch.isfinite(elbo).all()
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
