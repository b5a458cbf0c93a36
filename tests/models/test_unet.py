"""Supervised U-Net: its shape, its loss against the definition, and that it learns."""

from __future__ import annotations

import pytest
import torch
from support.models import tiny_metadata

from lesioncore.data.stack import SliceStack
from lesioncore.detectors import UNetDetector
from lesioncore.metrics import dice
from lesioncore.models import UNet, UNetConfig
from lesioncore.models.networks import DownBlock, UpBlock
from lesioncore.training.learner import Batch, UpdateContext
from lesioncore.training.supervised import SupervisedLearner


def tiny_unet(shape=(20, 18), channels=(4, 6), seed=0, metadata=None):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet(UNetConfig(shape, channels, 3), metadata)


def toy(count, seed, shape=(20, 18)):
    """Noise in an ellipse of brain, with a bright rectangle in every other slice."""
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    brain = ((i - 9.5) / 9).square() + ((j - 8.5) / 8).square() < 1
    x = torch.randn(count, 1, *shape, generator=generator)
    labels = brain.to(torch.uint8).expand(count, 1, *shape).clone()
    for k in range(0, count, 2):
        top, left = torch.randint(4, 11, (2,), generator=generator).tolist()
        x[k, 0, top : top + 5, left : left + 4] += 2.5
        labels[k, 0, top : top + 5, left : left + 4] += brain[top : top + 5, left : left + 4]
    return Batch(torch.where(labels > 0, x, -3.5), labels)


def context(learner, optimizer):
    def minimise(part, loss):
        assert learner.parts()[part] is learner.model
        assert loss.dim() == 0
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return UpdateContext(0, 1.0, torch.randn, torch.rand, minimise)


@pytest.mark.parametrize(
    ("shape", "channels"), [((20, 18), (4, 6)), ((21, 19), (3, 5, 4)), ((15, 33), (2, 3)), ((7, 5), (3,))]
)
def test_logits_have_the_size_of_the_slices(shape, channels):
    model = tiny_unet(shape, channels).eval()
    x = torch.randn(3, 1, *shape)
    logits = model(x)
    assert logits.shape == x.shape
    assert sum(isinstance(m, DownBlock) for m in model.modules()) == len(channels)
    assert sum(isinstance(m, UpBlock) for m in model.modules()) == len(channels)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    with pytest.raises(ValueError, match="expected"):
        model(torch.zeros(1, 1, shape[0] + 1, shape[1]))


def test_skips_reach_every_decoder_block():
    """With the bottleneck silenced, only skip connections can tell slices apart, and the finest tells pixels apart."""
    model = tiny_unet((21, 19), (3, 5, 4)).eval()
    with torch.no_grad():
        model.expand.weight.zero_()
    x = torch.randn(1, 1, 21, 19)
    for block in model.decoder:
        seen = []
        handle = block.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        model(x), model(x + 1.0)
        handle.remove()
        half = seen[0].shape[1] // 2
        assert not torch.allclose(seen[0][:, half:], seen[1][:, half:])
    changed = x.clone()
    changed[..., 10, 9] += 0.5
    difference = (model(changed) - model(x)).abs()[0, 0]
    assert difference[10, 9] > 0


def test_loss_is_the_cross_entropy_of_brain_pixels():
    batch = toy(6, seed=1)
    model = tiny_unet().eval()
    with torch.no_grad():
        probability = model(batch.slices).double().sigmoid()
        for weight in (1.0, 3.0):
            found = SupervisedLearner(model, positive_weight=weight).validate(batch)
            entropy = -torch.where(batch.labels == 2, weight * probability.log(), (1 - probability).log())
            expected = torch.where(batch.labels > 0, entropy, 0.0).flatten(1).sum(1) / (20 * 18)
            assert torch.allclose(found["loss"].double(), expected, rtol=1e-5)
        alone = SupervisedLearner(model).validate(Batch(batch.slices[2:3], batch.labels[2:3]))
        whole = SupervisedLearner(model).validate(batch)
    assert torch.allclose(alone["loss"], whole["loss"][2:3], rtol=1e-5)
    for k in range(6):
        brain = batch.labels[k] > 0
        assert float(whole["dice"][k]) == pytest.approx(dice(probability[k] > 0.5, batch.labels[k] == 2, brain))


def test_background_does_not_count():
    batch = toy(4, seed=1)
    model = tiny_unet().eval()
    nothing = Batch(batch.slices, torch.zeros_like(batch.labels))
    with torch.no_grad():
        found = SupervisedLearner(model).validate(nothing)
    assert not found["loss"].any()
    assert torch.equal(found["dice"], torch.ones(4))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_weight_is_named(weight):
    with pytest.raises(ValueError, match="positive_weight"):
        SupervisedLearner(tiny_unet(), positive_weight=weight)


def test_learns_to_segment():
    learner = SupervisedLearner(tiny_unet(metadata=tiny_metadata()), positive_weight=2.0)
    optimizer = torch.optim.Adam(learner.model.parameters(), lr=1e-2)
    data, held_out = toy(128, seed=2), toy(32, seed=3)
    figures = []
    for update in range(80):
        rows = torch.arange(16) + 16 * (update % 8)
        figures.append(learner.update(Batch(data.slices[rows], data.labels[rows]), context(learner, optimizer)))
    assert all(set(f) == {"loss", "dice"} and not f["loss"].requires_grad for f in figures)
    assert figures[-1]["loss"] < 0.3 * figures[0]["loss"]
    learner.eval()
    with torch.no_grad():
        assert learner.validate(held_out)["dice"].mean() > 0.8
    stack = SliceStack(held_out.slices, held_out.labels > 0, None)
    (score,) = UNetDetector(learner.model, batch_size=5).score_stacks([stack])
    with torch.no_grad():
        expected = torch.where(stack.mask, learner.model(stack.slices).sigmoid(), 0.0)
    assert torch.allclose(score, expected, atol=1e-5)
    assert dice(score > 0.5, held_out.labels == 2) > 0.85
