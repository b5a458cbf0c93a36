"""AnoGAN and f-AnoGAN: the latent search, which update moves which network, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from support.models import ellipses, tiny_metadata
from support.updates import moved, one_update, parameters
from torch import nn

from lesioncore import load_model, save_model
from lesioncore.models import AnoGAN, AnoGANConfig, LatentSearch
from lesioncore.training import TensorSlices, TrainingConfig, fit
from lesioncore.training.adversarial import gradient_penalty
from lesioncore.training.anogan import AnoGANLearner
from lesioncore.training.learner import Batch

KINDS = pytest.mark.parametrize("encoder", [False, True], ids=["search", "encoder"])
QUICK = LatentSearch(steps=20, step_size=0.1)


def tiny_gan(encoder=False, latent="dense", shape=(20, 18), channels=(4, 6), seed=0):
    """Random networks whose batch statistics are not the trivial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AnoGAN(AnoGANConfig(shape, channels, 3, latent=latent, encoder=encoder))
        with torch.no_grad():
            for _ in range(20):
                model.generator(torch.randn(16, *model.config.latent_shape))
                if model.encoder is not None:
                    model.encoder(torch.randn(16, 1, *shape))
    return model.eval()


def target(model, count=5, seed=1):
    """Latents, and the slices that the model makes of them."""
    shape = (count, *model.config.latent_shape)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        return z, model.generator(z)


@pytest.mark.parametrize("latent", ["spatial", "dense"])
@pytest.mark.parametrize(("shape", "channels"), [((20, 18), (4, 6)), ((21, 19), (3, 5, 4)), ((7, 5), (3,))])
def test_slices_have_their_size(latent, shape, channels):
    model = tiny_gan(True, latent, shape, channels)
    x = torch.randn(2, 1, *shape)
    assert model.generator(torch.randn(2, *model.config.latent_shape)).shape == x.shape
    assert model.critic(x).shape == (2,)
    assert model.critic.features(x).shape == (2, channels[-1], *model.config.sizes[-1])
    assert torch.equal(model.reconstruct(x), model.generator(model.encoder(x)))
    assert tiny_gan(False, latent, shape, channels).reconstruct(x, search=QUICK).shape == x.shape


@KINDS
@pytest.mark.parametrize("size", [128, 200, 256])
def test_paper_sizes(size, encoder):
    with torch.device("meta"):
        model = AnoGAN(AnoGANConfig((size, size), encoder=encoder)).eval()
        z = torch.empty(1, *model.config.latent_shape)
        assert z.shape == (1, 128, 1, 1)
        assert model.generator(z).shape == (1, 1, size, size)
        assert model.critic(torch.empty(1, 1, size, size)).shape == (1,)
        if encoder:
            assert model.encoder(torch.empty(1, 1, size, size)).shape == z.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps, restarts: got -1, 1"),
        ({"restarts": 0}, "steps, restarts: got 500, 0"),
        ({"step_size": 0.0}, "step_size: got 0.0, expected a positive"),
        ({"step_size": float("nan")}, "step_size: got nan, expected a positive"),
        ({"feature_weight": 1.5}, r"feature_weight: got 1.5, expected a number in \[0, 1\]"),
    ],
)
def test_wrong_search_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LatentSearch(**options)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"expected \[N, 1, 20, 18\]"):
        tiny_gan().reconstruct(torch.zeros(1, 1, 18, 20))
    for wrong in ({"critic_steps": 0}, {"penalty_weight": -1.0}, {"feature_weight": float("inf")}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))}: got .*, expected"):
            AnoGANLearner(tiny_gan(), **wrong)


def test_search_loss_is_its_definition():
    model = tiny_gan().double()
    z, generated = target(model)
    x = torch.randn(generated.shape, dtype=torch.float64)
    with torch.no_grad():
        residual = (x - generated).abs().sum((1, 2, 3))
        features = (model.critic.blocks(x) - model.critic.blocks(generated)).abs().sum((1, 2, 3))
        for weight in (0.0, 0.1, 1.0):
            expected = (1 - weight) * residual + weight * features
            assert torch.allclose(model.search_loss(x, z, feature_weight=weight), expected, rtol=1e-12)


def test_gradient_of_the_search_loss_against_finite_differences():
    model = tiny_gan(shape=(9, 7), channels=(3,)).double()
    z, _ = target(model, 2)
    x = torch.randn(2, 1, 9, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: model.search_loss(x, z), z.requires_grad_(True))


def test_background_costs_nothing():
    model = tiny_gan().double()
    z, x = target(model)
    mask = torch.zeros(x.shape, dtype=torch.bool)
    mask[:, :, 4:15, 4:13] = True
    x = torch.where(mask, x, -3.5)
    with torch.no_grad():
        assert (model.search_loss(x, z, mask) == 0).all()
        assert (model.search_loss(x, z) > 100).all()


def test_search_lowers_its_loss():
    model = tiny_gan().double()
    _, x = target(model)
    losses = [model.search(x, None, replace(QUICK, steps=steps))[1] for steps in (0, 5, 40, 300)]
    assert all((later <= earlier).all() for earlier, later in pairwise(losses))
    assert (losses[-1] < 0.3 * losses[0]).all()
    start, several = (model.search(x, None, replace(QUICK, restarts=n)) for n in (1, 4))
    assert (several[1] <= start[1]).all()
    assert (several[1] < start[1]).any()


def test_search_returns_the_latent_of_its_loss():
    model = tiny_gan().double()
    _, x = target(model)
    mask = torch.rand(x.shape) < 0.5
    z, loss = model.search(x, mask, QUICK)
    with torch.no_grad():
        assert torch.allclose(model.search_loss(x, z, mask), loss, rtol=1e-9)
        assert torch.equal(model.reconstruct(x, mask, QUICK), model.generator(z))


def test_search_repeats_and_does_not_depend_on_the_batch():
    model = tiny_gan().double()
    x = torch.randn(5, 1, 20, 18, dtype=torch.float64)
    mask = torch.rand(x.shape) < 0.7
    state = torch.random.get_rng_state()
    whole = model.search(x, mask, QUICK)[0]
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(model.search(x, mask, QUICK)[0], whole)
    pieces = torch.cat([model.search(x[i : i + 1], mask[i : i + 1], QUICK)[0] for i in range(5)])
    assert torch.allclose(pieces, whole, rtol=1e-8, atol=1e-8)
    assert not torch.equal(model.search(x, mask, replace(QUICK, seed=1))[0], whole)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_search_works_where_gradients_are_off(mode):
    model = tiny_gan().double()
    _, x = target(model)
    expected = model.search(x, None, QUICK)[0]
    with mode():
        assert torch.equal(model.search(x + 0, None, QUICK)[0], expected)
        assert model.reconstruct(x + 0, torch.ones(x.shape, dtype=torch.bool), QUICK).shape == x.shape
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@KINDS
def test_folded_model_is_the_same_model(encoder):
    model = tiny_gan(encoder).double()
    z, x = target(model)
    inference = model.for_inference()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in inference.modules())
    assert not any(p.requires_grad for p in inference.parameters())
    with torch.no_grad():
        assert torch.allclose(inference.generator(z), x, rtol=1e-9, atol=1e-9)
        assert torch.allclose(inference.critic(x), model.critic(x), rtol=1e-9, atol=1e-9)
        if encoder:
            assert torch.allclose(inference.reconstruct(x), model.reconstruct(x), rtol=1e-9, atol=1e-9)


@KINDS
def test_round_trip(tmp_path, encoder):
    model = tiny_gan(encoder)
    model.metadata = replace(tiny_metadata(), grid=None)
    loaded = load_model(save_model(model, tmp_path / "gan", card=""))
    assert loaded.config == model.config
    x = torch.randn(2, 1, 20, 18)
    with torch.no_grad():
        assert torch.equal(loaded.reconstruct(x, search=QUICK), model.reconstruct(x, search=QUICK))


def test_the_critic_ties_no_slice_to_its_batch():
    critic = tiny_gan().critic.double().train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in critic.modules())
    x = torch.randn(5, 1, 20, 18, dtype=torch.float64)
    assert torch.allclose(critic(x), torch.cat([critic(part) for part in x.split(1)]), rtol=1e-12)


def test_penalty_of_slices_in_a_generators_memory_format():
    """Even sizes, few channels, channels last: where a strided 1 x 1 convolution's gradient overran its memory."""
    critic = tiny_gan(shape=(50, 50), channels=(8, 8)).critic.to(memory_format=torch.channels_last)
    x, fake = torch.randn(2, 8, 1, 50, 50)
    place = torch.rand(8, 1, 1, 1)

    def gradients(real, fake, place):
        return torch.autograd.grad(gradient_penalty(critic, real, fake, place).sum(), critic.blocks[0].skip.weight)

    strides = (2500, 1, 50, 1)
    computed = gradients(x.as_strided(x.shape, strides), fake.as_strided(x.shape, strides), place)
    critic.double()
    expected = gradients(x.double(), fake.double(), place.double())
    for a, b in zip(computed, expected, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


@KINDS
def test_each_step_moves_its_own_part_alone(encoder):
    x = ellipses(8)
    for part in AnoGANLearner(tiny_gan(encoder)).parts():
        trained = AnoGANLearner(tiny_gan(encoder))
        before = parameters(trained)
        figures = one_update(trained, x, step=[part])
        own = f"model.{part}."
        changed = moved(trained, before)
        assert all(name.startswith(own) for name in changed)
        assert changed >= {name for name, value in before.items() if name.startswith(own) and value.dim() > 1}
        assert set(figures) == {"gap", "penalty"} | ({"error", "feature_error"} if encoder else set())
        assert all(value.dim() == 0 and not value.requires_grad for value in figures.values())


def test_encoder_leaves_the_generators_statistics_alone():
    x = ellipses(8)
    with_encoder, without = AnoGANLearner(tiny_gan(True)), AnoGANLearner(tiny_gan(True))
    without.model.encoder = None
    for learner in (with_encoder, without):
        one_update(learner, x)
    for name, value in without.model.generator.state_dict().items():
        assert torch.equal(value, with_encoder.model.generator.state_dict()[name]), name
    assert with_encoder.model.generator.training


@KINDS
def test_validation_does_not_depend_on_the_batch(encoder):
    learner = AnoGANLearner(tiny_gan(encoder)).eval().double()
    x = ellipses(7).double()
    labels = torch.ones(x.shape, dtype=torch.uint8)
    with torch.no_grad():
        whole = learner.validate(Batch(x, labels))
        pieces = [learner.validate(Batch(x[i : i + 1], labels[i : i + 1])) for i in range(7)]
        assert set(whole) == {"loss", "gap"}
        for name, value in whole.items():
            assert value.shape == (7,)
            assert torch.allclose(value, torch.cat([piece[name] for piece in pieces]), rtol=1e-10, atol=1e-10)
        if encoder:
            error = (learner.model.reconstruct(x) - x).square().sum((1, 2, 3))
            assert torch.allclose(whole["loss"], error, rtol=1e-12)
        else:
            assert torch.equal(whole["loss"], whole["gap"])


def trained_on_ellipses(slices_seen=2000, seed=0, encoder=True):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner = AnoGANLearner(AnoGAN(AnoGANConfig((20, 18), (8, 12), 4, encoder=encoder)))
    config = TrainingConfig(slices_seen=slices_seen, batch_size=16, learning_rate=5e-3, seed=seed, validate_every=0)
    fit(learner, TensorSlices(ellipses(256)), TensorSlices(ellipses(64, seed=1)), config)
    return learner.model


def test_learns_slices_and_finds_those_that_it_has_not_seen():
    model = trained_on_ellipses()
    held_out = ellipses(64, seed=1)
    with torch.no_grad():
        z = torch.randn(64, *model.config.latent_shape, generator=torch.Generator().manual_seed(0))
        drawn = model.generator(z)
        encoded = (held_out - model.reconstruct(held_out)).square().mean()
        model.encoder = None
        searched = (held_out - model.reconstruct(held_out, search=replace(QUICK, steps=60))).square().mean()
    mean_image = held_out.var(0).mean()
    assert encoded < 0.6 * mean_image
    assert searched < 0.8 * mean_image
    assert 0.5 < drawn.std(0).mean() / held_out.std(0).mean() < 1.5


def test_trains_in_bfloat16():
    config = TrainingConfig(slices_seen=64, batch_size=16, precision="bfloat16", validate_every=0)
    trained = AnoGANLearner(tiny_gan(True))
    before = parameters(trained)
    fit(trained, TensorSlices(ellipses(64)), None, config)
    assert {name.split(".")[1] for name in moved(trained, before)} == {"generator", "critic", "encoder"}
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in trained.parameters())


@KINDS
def test_same_seed_same_weights(encoder):
    first, again, other = (trained_on_ellipses(96, seed, encoder).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["generator.2.weight"], other["generator.2.weight"])


def test_the_last_weights_are_kept():
    learner = AnoGANLearner(tiny_gan(True))
    config = TrainingConfig(slices_seen=128, batch_size=16, validate_every=32)
    outcome = fit(learner, TensorSlices(ellipses(64)), TensorSlices(ellipses(16, seed=1)), config)
    assert outcome.best_update == outcome.updates == 8
