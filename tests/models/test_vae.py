"""VAE, multiscale VAE, and what they share with the GMVAE, against torch.distributions and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from support.models import tiny_gmvae, tiny_multiscale, tiny_vae
from torch.distributions import Independent, Normal, kl_divergence

from lesioncore import VAE, VAEConfig
from lesioncore.engine.gradient import ElboGradient
from lesioncore.models.latent import PIXEL_LOG_VARIANCE
from lesioncore.models.prior import elbo_of_terms
from lesioncore.ops.random import normal, streams_of

both = pytest.mark.parametrize("make", [tiny_vae, tiny_gmvae])
every = pytest.mark.parametrize("make", [tiny_vae, tiny_multiscale, tiny_gmvae])
vaes = pytest.mark.parametrize("make", [tiny_vae, tiny_multiscale])


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


@vaes
@pytest.mark.parametrize("sampled", [False, True])
def test_elbo_against_distributions(make, sampled):
    model = make().double()
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
        assert set(terms) == {"log_likelihood", "kl"}
        assert torch.allclose(terms["log_likelihood"], likelihood, rtol=1e-12)
        assert torch.allclose(terms["kl"], kl_divergence(posterior, prior), rtol=1e-12)


@every
def test_elbo_is_its_terms(make):
    model = make()
    x = torch.randn(3, 1, 24, 20)
    terms = model.elbo_terms(x)
    assert all(term.shape == (3,) for term in terms.values())
    costs = sum(value for name, value in terms.items() if name != "log_likelihood")
    assert torch.allclose(model.elbo(x), terms["log_likelihood"] - costs)
    assert torch.allclose(elbo_of_terms(terms, 0.25), terms["log_likelihood"] - 0.25 * costs)


@both
@pytest.mark.parametrize("scale", [0.1, 100.0])
def test_learned_variance_against_distributions(make, scale):
    """A large scale leaves the range of the log-variance on both sides."""
    model = make(learned_variance=True).double()
    x = torch.randn(3, 1, 24, 20, dtype=torch.float64)
    with torch.no_grad():
        model.output.weight[1].mul_(scale)
        encoded = model.encode(x)
        z = (encoded if isinstance(model, VAE) else encoded[0]).mean
        raw = model.output(model.decoder(model.expand(z)))[:, 1:]
        low, high = PIXEL_LOG_VARIANCE
        assert ((raw < low).any() and (raw > high).any()) == (scale > 1)
        expected = Normal(model.decode(z), (0.5 * raw.clamp(low, high)).exp()).log_prob(x).sum((1, 2, 3))
        terms, learned = model.elbo_terms(x), model.elbo_terms(x, learned_variance=True)
        assert torch.allclose(learned.pop("log_likelihood"), expected, rtol=1e-12)
        fixed = Normal(model.decode(z), math.sqrt(0.5)).log_prob(x).sum((1, 2, 3))
        assert torch.allclose(terms["log_likelihood"], fixed, rtol=1e-12)
        assert all(torch.equal(learned[name], terms[name]) for name in learned)
        assert torch.equal(model.elbo(x), elbo_of_terms(terms))
        assert model.decode(z).shape == model.reconstruct(x).shape == x.shape


@both
def test_variance_that_was_not_learned_is_refused(make):
    with pytest.raises(ValueError, match="learned_variance=True"):
        make().elbo_terms(torch.zeros(1, 1, 24, 20), learned_variance=True)


@every
def test_gradient_against_finite_differences(make):
    model = make((12, 11)).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, 12, 11, dtype=torch.float64, generator=generator)
    noise = torch.randn(2, *model.noise_shape, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(model.elbo, x.requires_grad_(True))
    assert torch.autograd.gradcheck(model.elbo, (x, noise))


@every
@pytest.mark.parametrize("learned_variance", [False, True])
def test_parameter_gradient_against_finite_differences(make, learned_variance):
    model = make((12, 11), learned_variance=learned_variance).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, 12, 11, dtype=torch.float64, generator=generator)
    noise = torch.randn(2, *model.noise_shape, dtype=torch.float64, generator=generator)
    names, parameters = zip(*model.named_parameters(), strict=True)

    class Training(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return elbo_of_terms(model.elbo_terms(x, noise, learned_variance=learned_variance))

    def elbo(*values):
        named = {f"model.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Training(), named, ())

    assert torch.autograd.gradcheck(elbo, parameters, fast_mode=True)


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


@every
@pytest.mark.parametrize("sampled", [False, True])
def test_gradient_does_not_depend_on_the_batch(make, sampled):
    model = make().double()
    x = torch.randn(7, 1, 24, 20, dtype=torch.float64)
    seeds = list(range(7)) if sampled else None
    whole = ElboGradient(model, batch_size=7, noise_seeds=seeds)(x)
    pieces = ElboGradient(model, batch_size=2, noise_seeds=seeds)(x)
    alone = ElboGradient(model, batch_size=1, noise_seeds=seeds and seeds[4:5])(x[4:5])
    for a, b in zip(whole, pieces, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)
    assert torch.allclose(whole[0][4:5], alone[0], rtol=1e-10, atol=1e-10)
    assert torch.allclose(whole[1][4:5], alone[1], rtol=1e-10, atol=1e-10)


@every
def test_samples_repeat_by_seed_and_differ_between_calls(make):
    model = make()
    x = torch.randn(2, 1, 24, 20)
    first, again = (ElboGradient(model, noise_seeds=[5, 6]) for _ in range(2))
    a, b = first(x)[0], first(x)[0]
    assert not torch.equal(a, b)
    assert torch.equal(a, again(x)[0])
    assert torch.equal(b, again(x)[0])


@every
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("kl_weight", [0.0, 0.3, 1.0])
def test_engine_weighs_the_costs(make, sampled, kl_weight):
    model = make().double()
    x = torch.randn(3, 1, 24, 20, dtype=torch.float64, requires_grad=True)
    noise = normal(streams_of(range(3)), model.noise_shape).double()
    terms = model.elbo_terms(x, noise if sampled else None)
    costs = sum(value for name, value in terms.items() if name != "log_likelihood")
    expected = terms["log_likelihood"] - kl_weight * costs
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    seeds = range(3) if sampled else None
    value, found = ElboGradient(model, batch_size=2, noise_seeds=seeds, kl_weight=kl_weight)(x.detach())
    assert torch.allclose(value, expected, rtol=1e-10)
    assert torch.allclose(found, gradient, rtol=1e-9, atol=1e-9)


class Plain:
    def elbo(self, x):
        return x.sum((1, 2, 3))


def test_engine_refuses_a_prior_that_averages():
    class Mean:
        def elbo(self, x):
            return x.square().mean()

    with pytest.raises(ValueError, match="one sum over pixels"):
        ElboGradient(Mean())(torch.zeros(2, 1, 4, 4))


def test_engine_refuses_sampling_where_there_is_none():
    with pytest.raises(ValueError, match=r"latent: got .sample., but Plain has no noise_shape"):
        ElboGradient(Plain(), noise_seeds=[0])


def test_engine_refuses_another_weight_where_there_are_no_terms():
    assert ElboGradient(Plain(), kl_weight=1.0)(torch.ones(1, 1, 2, 2))[0] == 4
    with pytest.raises(ValueError, match=r"kl_weight: got 0\.5, but Plain has no elbo_terms"):
        ElboGradient(Plain(), kl_weight=0.5)


@every
def test_wrong_slice_size_is_named(make):
    with pytest.raises(ValueError, match=r"expected \[N, 1, 24, 20\]"):
        make().elbo(torch.zeros(1, 1, 20, 24))


@every
@pytest.mark.parametrize("learned_variance", [False, True])
def test_folded_model_is_the_same_model(make, learned_variance):
    model = make(learned_variance=learned_variance).double()
    x = torch.randn(3, 1, 24, 20, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, *model.noise_shape, dtype=torch.float64)
    inference = model.for_inference()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in inference.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    for arguments in ((x,), (x, noise)):
        models = (model, inference)
        pairs = [(m.elbo(*arguments), torch.autograd.grad(m.elbo(*arguments).sum(), x)[0]) for m in models]
        for a, b in zip(*pairs, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


@vaes
def test_sample_decodes_the_standard_normal_latent(make):
    model = make()
    z = torch.randn(4, *model.noise_shape)
    with torch.no_grad():
        assert torch.equal(model.sample(z), model.decode(z))


@every
def test_autocast_keeps_the_sums_in_full_precision(make):
    model = make()
    x = torch.randn(2, 1, 24, 20)
    noise = torch.randn(2, *model.noise_shape)
    exact = model.elbo_terms(x, noise)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.elbo_terms(x, noise)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert torch.allclose(term, exact[name], rtol=0.05, atol=0.1)
