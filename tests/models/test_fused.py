"""Fused residual blocks: the same function and input gradient as the blocks that they replace."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given, strategies as st
from support.emulated import operators
from support.models import tiny_vae
from torch import nn

from lesioncore.engine.precision import multiplying_in
from lesioncore.models import convolution
from lesioncore.models.networks import DownBlock, UpBlock
from lesioncore.models.residual import compute_in, inference_copy


def random_block(kind, channels, size, *, seed=0, norm=True):
    torch.manual_seed(seed)
    if kind == "down":
        block = DownBlock(*channels, 0.2, norm=norm)
    else:
        block = UpBlock(*channels, tuple(2 * n + 1 + n % 2 for n in size), 0.2)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return nn.Sequential(block.eval())


def value_and_gradient(module, x, cotangent):
    x = x.detach().requires_grad_(True)
    out = module(x)
    return out, torch.autograd.grad(out, x, cotangent.to(out.dtype))[0]


def assert_same(block, x, *, tolerance):
    exact_block = deepcopy(block).double()
    cotangent = torch.randn_like(exact_block(x.double()))
    exact = value_and_gradient(exact_block, x.double(), cotangent)
    found = value_and_gradient(inference_copy(block.to(x.dtype)), x, cotangent)
    for a, b in zip(exact, found, strict=True):
        assert b.dtype == x.dtype
        assert (a - b).norm() <= tolerance * a.norm()


@given(
    kind=st.sampled_from(["down", "up"]),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(3, 17), st.integers(3, 17)),
    batch=st.integers(1, 3),
    norm=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_block(kind, channels, size, batch, norm, seed):
    block = random_block(kind, channels, size, seed=seed, norm=norm)
    x = torch.randn(batch, channels[0], *size)
    assert_same(block, x, tolerance=1e-4)
    assert_same(block, x.double(), tolerance=1e-12)


@pytest.mark.parametrize("kind", ["down", "up"])
def test_without_onednn(kind, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert_same(random_block(kind, (3, 5), (9, 8)), torch.randn(2, 3, 9, 8), tolerance=1e-5)


@pytest.mark.parametrize("kind", ["down", "up"])
def test_one_block_for_several_batch_sizes_and_layouts(kind):
    """oneDNN's weights are reordered for the first shape and serve the others."""
    block = random_block(kind, (8, 16), (12, 11))
    ready = inference_copy(block)
    for batch in (4, 1, 7):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(batch, 8, 12, 11).to(memory_format=layout)
            assert torch.allclose(ready(x), block(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["down", "up"])
@pytest.mark.parametrize("channels", [(1, 16), (16, 16), (16, 32), (8, 24), (3, 5), (8, 1), (1, 1)])
@pytest.mark.parametrize("precision", ["tf32", "float32"])
def test_with_own_operators(kind, channels, precision, monkeypatch):
    """As on CUDA devices: bits instead of activations, own convolutions of few channels."""
    monkeypatch.setattr(convolution, "_has_native", lambda x: True)
    block = random_block(kind, channels, (9, 8))
    x = torch.randn(2, channels[0], 9, 8)
    with multiplying_in(precision, torch.device("cuda")):  # says which convolutions; CPUs round nothing
        assert_same(block, x, tolerance=1e-4)
        assert_same(block, x.double(), tolerance=1e-12)


CUDA_PRECISIONS = [("float32", (1e-4, 1e-3)), ("tf32", (2e-3, 3e-2)), ("bfloat16", (2e-2, 0.2))]
cuda_blocks = pytest.mark.parametrize("channels", [(1, 16), (16, 16), (16, 32), (32, 16), (8, 24), (3, 5), (8, 1)])


def check_on(device, kind, channels, size, precision, tolerances):
    """Values and gradients; rounding turns some signs, and with each all of a gradient's value there."""
    block = random_block(kind, channels, size)
    x, (ready, slow) = torch.randn(2, channels[0], *size), (inference_copy(block).to(device), deepcopy(block).double())
    if precision == "bfloat16":
        compute_in(ready, torch.bfloat16)
    cotangent = torch.randn_like(slow(x.double()))
    exact = value_and_gradient(slow, x.double(), cotangent)
    with multiplying_in(precision, torch.device("cuda")):  # by itself torch lets convolutions round to TF32
        found = value_and_gradient(ready, x.to(device), cotangent.to(device))
    for a, b, tolerance in zip(exact, found, tolerances, strict=True):
        assert (a - b.cpu()).norm() <= tolerance * a.norm()


@pytest.mark.parametrize("kind", ["down", "up"])
@cuda_blocks
@pytest.mark.parametrize(("precision", "tolerances"), CUDA_PRECISIONS[:2])
def test_with_emulated_operators(kind, channels, precision, tolerances, monkeypatch):
    monkeypatch.setattr(convolution, "_has_native", lambda x: True)
    with operators():
        check_on("cpu", kind, channels, (15, 12), precision, tolerances)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("kind", ["down", "up"])
@cuda_blocks
@pytest.mark.parametrize(("precision", "tolerances"), CUDA_PRECISIONS)
def test_on_cuda(kind, channels, precision, tolerances):
    check_on("cuda", kind, channels, (49, 41), precision, tolerances)


def test_metadata_is_left_alone():
    class InUse:
        def __deepcopy__(self, memo):
            raise RuntimeError("dictionary changed size during iteration")

    model = tiny_vae()
    model.metadata = InUse()
    assert model.for_inference().metadata is None
    assert isinstance(model.metadata, InUse)
