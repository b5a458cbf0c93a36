"""The priors' training objective: what one update minimises, and the noise that the encoder sees through."""

from __future__ import annotations

import pytest
import torch
from support.models import ellipses

from lesioncore import GMVAE, VAE, GMVAEConfig, VAEConfig
from lesioncore.training.corruption import Corruption, corrupt
from lesioncore.training.elbo import ElboLearner
from lesioncore.training.learner import Batch, UpdateContext

SHAPE = (20, 18)


def draws(seed, count):
    generator = torch.Generator().manual_seed(seed)
    return (
        lambda *shape: torch.rand(count, *shape, generator=generator),
        lambda *shape: torch.randn(count, *shape, generator=generator),
    )


def loss_of(learner, batch, seed=0, warmup=1.0):
    """The loss that an update would minimise, and its figures."""
    found = []
    uniform, normal = draws(seed, len(batch.slices))
    context = UpdateContext(0, warmup, normal, uniform, lambda part, loss: found.append((part, loss)))
    figures = learner.train().update(batch, context)
    ((part, loss),) = found
    assert part == "model"
    return loss, figures


def model(kind="vae", **options):
    torch.manual_seed(0)
    if kind == "vae":
        return VAE(VAEConfig(SHAPE, (4, 6), 3, **options))
    return GMVAE(GMVAEConfig(SHAPE, (4, 6), 3, components=3, w_channels=2, hidden_channels=5))


def batch(count=6, seed=0):
    slices = ellipses(count, seed=seed, shape=SHAPE)
    labels = torch.zeros(slices.shape, dtype=torch.uint8)
    labels[..., 3:-3, 3:-3] = 1
    return Batch(torch.where(labels > 0, slices, -3.5), labels)


@pytest.mark.parametrize("kind", ["vae", "gmvae"])
def test_the_loss_is_the_negative_elbo_of_the_same_noise(kind):
    learner, data = ElboLearner(model(kind)), batch()
    loss, figures = loss_of(learner, data)
    noise = draws(0, 6)[1](*learner.model.noise_shape)
    elbo = learner.model.train().elbo(data.slices, noise)
    assert float(loss.detach()) * SHAPE[0] * SHAPE[1] == pytest.approx(-float(elbo.detach().mean()), rel=1e-5)
    assert float(figures["elbo"]) == pytest.approx(float(elbo.detach().mean()), rel=1e-5)
    assert all(not value.requires_grad and value.dim() == 0 for value in figures.values())


def test_weights_of_the_costs():
    data, pixels = batch(), SHAPE[0] * SHAPE[1]
    plain, figures = loss_of(ElboLearner(model()), data)
    heavy, _ = loss_of(ElboLearner(model(), kl_weight=3.0), data)
    warm, _ = loss_of(ElboLearner(model(), kl_weight=3.0), data, warmup=0.5)
    plain, heavy, warm = plain.detach(), heavy.detach(), warm.detach()
    assert float(heavy - plain) * pixels == pytest.approx(2 * float(figures["kl"]), rel=1e-3)
    assert float(warm - plain) * pixels == pytest.approx(0.5 * float(figures["kl"]), rel=1e-3)


def test_free_bits_stop_the_push_on_k_alone():
    data = batch()
    losses = {}
    for floor in (0.0, 100.0):
        learner = ElboLearner(model("gmvae"), k_floor=floor)
        loss, figures = loss_of(learner, data)
        losses[floor] = float(loss.detach()) * SHAPE[0] * SHAPE[1]
    assert losses[100.0] - losses[0.0] == pytest.approx(100.0 - float(figures["kl_k"]), rel=1e-4)


def test_a_learned_variance_is_trained():
    learner = ElboLearner(model(learned_variance=True))
    loss, _ = loss_of(learner, batch())
    loss.backward()
    assert learner.model.output.weight.grad[1].abs().sum() > 0
    plain, _ = loss_of(ElboLearner(model()), batch())
    assert float(loss.detach()) != pytest.approx(float(plain.detach()), rel=1e-3)


def test_the_encoder_alone_sees_the_corruption():
    data = batch()
    learner = ElboLearner(model(), corruption=Corruption(2.0, 5.0))
    seen, targets = [], []
    learner.model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    likelihood = learner.model.log_likelihood
    learner.model.log_likelihood = lambda x, *a, **k: (targets.append(x.clone()), likelihood(x, *a, **k))[1]
    loss_of(learner, data)
    learner.eval().validate(data)
    assert torch.equal(targets[0], data.slices)
    assert not torch.equal(seen[0], data.slices)
    assert torch.equal(seen[0][data.labels == 0], data.slices[data.labels == 0])
    assert torch.equal(seen[1], data.slices)  # held-out slices are judged as they are


def test_corruption_is_coarse_and_of_the_strength_asked_for():
    count = 400
    slices, labels = torch.zeros(count, 1, 60, 50), torch.ones(count, 1, 60, 50, dtype=torch.uint8)
    noise = corrupt(slices, labels, Corruption(2.0, 10.0), *draws(1, count))
    spread = noise.flatten(1).std(1)
    # Interpolation between nodes takes some of their spread, a half or less.
    assert 0.5 < float(spread.max()) / 2.0 < 1.6
    assert float(spread.min()) < 0.1
    assert float((noise.mean((1, 2, 3))).mean().abs()) < 0.1
    step = (noise[..., 1:, :] - noise[..., :-1, :]).square().mean().sqrt() / noise.square().mean().sqrt()
    assert float(step) < 0.3
    alone = corrupt(slices[:3], labels[:3], Corruption(), *draws(1, 3))
    assert torch.equal(alone, slices[:3])


def test_corruption_of_a_slice_does_not_depend_on_the_batch():
    data = batch(4)
    uniform, normal = draws(0, 4)
    u, n = uniform(1, 1, 1), normal(1, 5, 5)
    whole = corrupt(data.slices, data.labels, Corruption(1.0, 4.5), lambda *s: u, lambda *s: n)
    part = corrupt(data.slices[1:2], data.labels[1:2], Corruption(1.0, 4.5), lambda *s: u[1:2], lambda *s: n[1:2])
    assert torch.equal(whole[1:2], part)


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"strength": float("nan")}, {"spacing": 0.5}])
def test_bad_options_are_named(wrong):
    with pytest.raises(ValueError, match="strength, spacing"):
        Corruption(**wrong)
    with pytest.raises(ValueError, match="kl_weight"):
        ElboLearner(model(), kl_weight=-1.0)
