"""The VAE against torch.distributions and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from models import tiny_vae
from torch.distributions import Independent, Normal, kl_divergence

from lesioncore import VAE, VAEConfig
from lesioncore.engine import ElboGradient


def test_paper_sizes():
    config = VAEConfig((200, 200))
    assert [s[0] for s in config.sizes] == [200, 99, 49, 24, 11, 5, 2]
    assert config.latent_shape == (512, 2, 2)


@pytest.mark.parametrize("shape", [(127, 131), (128, 160)])
def test_any_size_from_127_gives_a_latent_and_comes_back(shape):
    config = VAEConfig(shape, (2, 2, 2, 2, 2, 2), 3)
    model = VAE(config).eval()
    x = torch.randn(2, 1, *shape)
    with torch.no_grad():
        mean, log_variance = model.encode(x)
        assert mean.shape == log_variance.shape == (2, *config.latent_shape)
        assert model.decode(mean).shape == x.shape


def test_too_many_blocks_are_refused():
    with pytest.raises(ValueError, match="fewer blocks"):
        VAEConfig((20, 20), (4, 4, 4, 4, 4), 2)


@pytest.mark.parametrize("sampled", [False, True])
def test_elbo_against_distributions(sampled):
    model = tiny_vae().double()
    x = torch.randn(3, 1, 24, 20, dtype=torch.float64)
    noise = torch.randn(3, *model.noise_shape, dtype=torch.float64) if sampled else None
    with torch.no_grad():
        mean, log_variance = model.encode(x)
        posterior = Independent(Normal(mean, (0.5 * log_variance).exp()), 3)
        z = mean if noise is None else mean + noise * posterior.base_dist.scale
        likelihood = Independent(Normal(model.decode(z), math.sqrt(0.5)), 3).log_prob(x)
        prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 3)
        expected = likelihood - kl_divergence(posterior, prior)
        assert torch.allclose(model.elbo(x, noise), expected, rtol=1e-12)
        terms = model.elbo_terms(x, noise)
        assert torch.allclose(terms["log_likelihood"], likelihood, rtol=1e-12)
        assert torch.allclose(terms["kl"], kl_divergence(posterior, prior), rtol=1e-12)


def test_gradient_against_finite_differences():
    model = tiny_vae((12, 11)).double()
    x = torch.randn(2, 1, 12, 11, dtype=torch.float64)
    assert torch.autograd.gradcheck(model.elbo, x.requires_grad_(True))


def test_skip_and_convolution_see_the_same_pixels():
    """A strided residual block must not shift its skip against its convolutions."""
    block = tiny_vae().encoder[0].double()
    with torch.no_grad():
        block.down.weight.zero_()
        block.skip.weight.fill_(1.0)
        x = torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 24, 1).expand(1, 1, 24, 20)
        out = block(x) - block(torch.zeros_like(x))
        centres = 1.0 + 2 * torch.arange(out.shape[2], dtype=torch.float64)
    # Biases shift and leaky-ReLU bends values; a column that grows evenly by two rows keeps its order of differences.
    assert torch.allclose(out[0, 0, 5:, 0].diff(), centres[5:].diff(), atol=1e-9)


@pytest.mark.parametrize("sampled", [False, True])
def test_gradient_does_not_depend_on_the_batch(sampled):
    model = tiny_vae().double()
    x = torch.randn(7, 1, 24, 20, dtype=torch.float64)
    seeds = list(range(7)) if sampled else None
    whole = ElboGradient(model, batch_size=7, noise_seeds=seeds)(x)
    pieces = ElboGradient(model, batch_size=2, noise_seeds=seeds)(x)
    alone = ElboGradient(model, batch_size=1, noise_seeds=seeds and seeds[4:5])(x[4:5])
    for a, b in zip(whole, pieces, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)
    assert torch.allclose(whole[1][4:5], alone[1], rtol=1e-10, atol=1e-10)


def test_samples_repeat_by_seed_and_differ_between_calls():
    model = tiny_vae()
    x = torch.randn(2, 1, 24, 20)
    first, again = (ElboGradient(model, noise_seeds=[5, 6]) for _ in range(2))
    a, b = first(x)[0], first(x)[0]
    assert not torch.equal(a, b)
    assert torch.equal(a, again(x)[0])
    assert torch.equal(b, again(x)[0])


def test_engine_refuses_a_prior_that_averages():
    class Mean:
        def elbo(self, x):
            return x.square().mean()

    with pytest.raises(ValueError, match="one sum over pixels"):
        ElboGradient(Mean())(torch.zeros(2, 1, 4, 4))


def test_engine_refuses_sampling_where_there_is_none():
    class Plain:
        def elbo(self, x):
            return x.sum((1, 2, 3))

    with pytest.raises(ValueError, match="cannot sample"):
        ElboGradient(Plain(), noise_seeds=[0])


def test_wrong_slice_size_is_named():
    with pytest.raises(ValueError, match=r"expected \[N, 1, 24, 20\]"):
        tiny_vae().elbo(torch.zeros(1, 1, 20, 24))


def test_folded_model_is_the_same_model():
    model = tiny_vae().double()
    x = torch.randn(3, 1, 24, 20, dtype=torch.float64, requires_grad=True)
    folded = model.folded()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    pairs = [(m.elbo(x), torch.autograd.grad(m.elbo(x).sum(), x)[0]) for m in (model, folded)]
    for a, b in zip(*pairs, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)
