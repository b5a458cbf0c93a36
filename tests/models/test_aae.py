"""Adversarial autoencoder: shapes, the critic's penalty, which update moves which network, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.models import ellipses, tiny_metadata
from support.updates import moved, one_update, parameters
from torch import nn

from lesioncore import load_model, save_model
from lesioncore.models import AAE, AAEConfig
from lesioncore.training import TensorSlices, TrainingConfig, fit
from lesioncore.training.adversarial import AAELearner, LatentCritic, fixed_statistics, gradient_penalty
from lesioncore.training.learner import Batch

LATENTS = ("spatial", "dense")


def tiny_aae(latent="spatial", shape=(20, 18), channels=(4, 6), seed=0):
    """A random autoencoder whose batch statistics are not the trivial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AAE(AAEConfig(shape, channels, 3, latent=latent))
        model.train()
        with torch.no_grad():
            for _ in range(20):
                model.reconstruct(torch.randn(8, 1, *shape))
    return model.eval()


def learner(latent="spatial", seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AAELearner(tiny_aae(latent, seed=seed), critic_width=16, **options)


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize(("shape", "channels"), [((20, 18), (4, 6)), ((21, 19), (3, 5, 4)), ((7, 5), (3,))])
def test_latent_and_slices_have_their_sizes(latent, shape, channels):
    model = tiny_aae(latent, shape, channels)
    x = torch.randn(2, 1, *shape)
    z = model.encode(x)
    height, width = model.config.sizes[-1]
    assert z.shape == (2, *model.config.latent_shape)
    assert z.shape[1:] == ((3, height, width) if latent == "spatial" else (3, 1, 1))
    assert torch.equal(model.decode(z), model.reconstruct(x))
    assert model.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("size", [128, 200, 256])
def test_paper_sizes(latent, size):
    config = AAEConfig((size, size), latent=latent)
    with torch.device("meta"):
        model = AAE(config).eval()
        assert model.reconstruct(torch.empty(1, 1, size, size)).shape == (1, 1, size, size)
    if latent == "spatial":
        assert config.latent_shape[1:] == {128: (1, 1), 200: (2, 2), 256: (3, 3)}[size]


def test_every_pixel_of_the_last_map_reaches_a_dense_latent():
    model = tiny_aae("dense")
    features = torch.randn(1, 6, *model.config.sizes[-1], requires_grad=True)
    (gradient,) = torch.autograd.grad(model.encoder[-1](features)[0, 0, 0, 0], features)
    assert gradient.all()


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"latent: got 'flat', expected 'spatial' .* or 'dense'"):
        AAEConfig((20, 18), (4,), 3, latent="flat")
    with pytest.raises(ValueError, match="fewer blocks"):
        AAEConfig((20, 18), (4, 4, 4, 4, 4), 3, latent="dense")
    with pytest.raises(ValueError, match=r"expected \[N, 1, 20, 18\]"):
        tiny_aae().reconstruct(torch.zeros(1, 1, 18, 20))
    for wrong in ({"adversarial_weight": -1.0}, {"constraint_weight": float("nan")}, {"critic_steps": 0}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))}: got .*, expected"):
            AAELearner(tiny_aae(), **wrong)


@pytest.mark.parametrize("latent", LATENTS)
def test_slices_do_not_depend_on_each_other(latent):
    model = tiny_aae(latent).double()
    x = torch.randn(3, 1, 20, 18, dtype=torch.float64)
    with torch.no_grad():
        alone = torch.cat([model.reconstruct(part) for part in x.split(1)])
        assert torch.allclose(alone, model.reconstruct(x), rtol=1e-12, atol=1e-12)


def test_round_trip(tmp_path):
    model = tiny_aae("dense")
    model.metadata = replace(tiny_metadata(), grid=None)
    loaded = load_model(save_model(model, tmp_path / "aae", card=""))
    assert loaded.config == model.config
    x = torch.randn(2, 1, 20, 18)
    with torch.no_grad():
        assert torch.equal(loaded.reconstruct(x), model.reconstruct(x))


@pytest.mark.parametrize("length", [0.25, 1.0, 3.0])
def test_penalty_of_a_linear_critic(length):
    weight = torch.randn(24, dtype=torch.float64)
    weight *= length / weight.norm()
    real, fake = torch.randn(2, 5, 2, 4, 3, dtype=torch.float64)
    penalty = gradient_penalty(lambda y: y.flatten(1) @ weight, real, fake, torch.rand(5, 1, 1, 1, dtype=torch.float64))
    assert torch.allclose(penalty, torch.full((5,), (length - 1.0) ** 2, dtype=torch.float64), atol=1e-12)


def test_penalty_is_taken_between_real_and_fake():
    """The critic |y|^2 / 2 has the gradient y."""
    real, fake = torch.randn(2, 5, 2, 4, 3, dtype=torch.float64)
    place = torch.rand(5, 1, 1, 1, dtype=torch.float64)
    penalty = gradient_penalty(lambda y: 0.5 * y.square().flatten(1).sum(1), real, fake, place)
    between = (place * real + (1 - place) * fake).flatten(1)
    assert torch.allclose(penalty, (between.norm(dim=1) - 1).square(), rtol=1e-12)


def test_penalty_is_differentiable_in_the_critic():
    torch.manual_seed(0)
    critic = LatentCritic((2, 2, 1), 3, 0.2).double()
    real, fake = torch.randn(2, 4, 2, 2, 1, dtype=torch.float64)
    place = torch.rand(4, 1, 1, 1, dtype=torch.float64)
    weights = tuple(p for name, p in critic.named_parameters() if name.endswith("weight"))

    def penalty(*_):
        return gradient_penalty(critic, real, fake, place)

    assert torch.autograd.gradcheck(penalty, weights)


@pytest.mark.parametrize("options", [{}, {"constraint_weight": 0.1}])
def test_each_step_moves_its_own_part_alone(options):
    x = ellipses(8)
    for part, own in (("critic", "critic."), ("model", "model.")):
        trained = learner(**options)
        before = parameters(trained)
        one_update(trained, x, step=[part])
        changed = moved(trained, before)
        assert all(name.startswith(own) for name in changed)
        assert changed >= {name for name, value in before.items() if name.startswith(own) and value.dim() > 1}


def test_the_constraint_leaves_the_running_statistics_alone():
    x = ellipses(8)
    plain, constrained = learner(), learner(constraint_weight=0.1)
    for variant in (plain, constrained):
        one_update(variant, x)
    for name, value in plain.model.state_dict().items():
        if "running" in name:
            assert torch.equal(value, constrained.model.state_dict()[name]), name


def test_fixed_statistics_normalise_as_before():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).train()
    x = 2 + 3 * torch.randn(8, 3, 4, 4)
    with fixed_statistics(norm):
        inside = norm(x)
    assert not norm.running_mean.any()
    assert norm.momentum == 0.1
    assert torch.equal(norm(x), inside)
    assert norm.running_mean.all()


def test_validation_does_not_depend_on_the_batch():
    trained = learner().eval().double()
    x = ellipses(7).double()
    labels = torch.ones(x.shape, dtype=torch.uint8)
    with torch.no_grad():
        whole = trained.validate(Batch(x, labels))
        pieces = [trained.validate(Batch(x[i : i + 1], labels[i : i + 1])) for i in range(7)]
    assert set(whole) == {"loss", "latent_square", "latent_gap"}
    for name, value in whole.items():
        assert value.shape == (7,)
        assert torch.allclose(value, torch.cat([piece[name] for piece in pieces]), rtol=1e-10, atol=1e-10)
    error = (trained.model.reconstruct(x) - x).square().sum((1, 2, 3))
    assert torch.allclose(whole["loss"], error, rtol=1e-12)


def trained_on_ellipses(slices_seen=2400, seed=0, **options):
    trained = learner("dense", seed=seed, **options)
    config = TrainingConfig(slices_seen=slices_seen, batch_size=16, learning_rate=5e-3, seed=seed, validate_every=0)
    outcome = fit(trained, TensorSlices(ellipses(256)), TensorSlices(ellipses(64, seed=1)), config)
    return trained.model, outcome.figures


def energy_distance(z):
    """To N(0, I) from latents ``[n, ...]``; 0 on average for draws of it."""
    z = z.flatten(1)
    normal = torch.randn(len(z), z.shape[1], generator=torch.Generator().manual_seed(0))
    pairs = len(z) * (len(z) - 1)
    within = (torch.cdist(z, z).sum() + torch.cdist(normal, normal).sum()) / pairs
    return float(2 * torch.cdist(z, normal).mean() - within)


@pytest.fixture(scope="module")
def matched():
    """A trained autoencoder and the run's last figures."""
    return trained_on_ellipses()


def test_learns_slices_and_shapes_their_latents(matched):
    held_out = ellipses(64, seed=1)
    model, figures = matched
    free, _ = trained_on_ellipses(adversarial_weight=0.0)
    with torch.no_grad():
        error = (held_out - model.reconstruct(held_out)).square().mean()
        distances = [energy_distance(autoencoder.encode(held_out)) for autoencoder in (model, free)]
    assert error < 0.5 * held_out.var(0).mean()  # what the mean image gets
    assert distances[0] < 0.5 * distances[1]
    assert figures["validation_loss"] == pytest.approx(float(error) * 360, rel=1e-4)


def test_the_constraint_draws_the_latents_of_reconstructions_near(matched):
    def spread(model):
        x = ellipses(64, seed=1)
        with torch.no_grad():
            z = model.encode(x)
            return float((z - model.encode(model.reconstruct(x))).square().mean() / z.var(0).mean())

    assert spread(trained_on_ellipses(constraint_weight=0.1)[0]) < 0.6 * spread(matched[0])


def test_trains_in_bfloat16():
    config = TrainingConfig(slices_seen=64, batch_size=16, precision="bfloat16", validate_every=0)
    trained = learner(constraint_weight=0.1)
    before = parameters(trained)
    fit(trained, TensorSlices(ellipses(64)), None, config)
    assert {name.split(".")[0] for name in moved(trained, before)} == {"model", "critic"}
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in trained.parameters())


def test_same_seed_same_weights():
    first, again, other = (trained_on_ellipses(160, seed=seed)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["decoder.2.weight"], other["decoder.2.weight"])
