"""The native operators on feature maps against torch in float64, on every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from support.backends import EMULATED, Backend
from torch.nn import functional as F

from lesioncore.ops import maps

SLOPE = 0.2
BACKENDS = [
    pytest.param(Backend("cpu", torch.float32), id="cpu-float32"),
    pytest.param(Backend("cpu", torch.float64), id="cpu-float64"),
    EMULATED,
    pytest.param(Backend("cuda", torch.float32), id="cuda-float32", marks=pytest.mark.needs_cuda),
    pytest.param(Backend("cuda", torch.bfloat16), id="cuda-bfloat16", marks=pytest.mark.needs_cuda),
]
TENSOR_CORES = 2e-3  # factors rounded to TF32

small_sizes = st.tuples(st.integers(1, 7), st.integers(1, 50))
growth = st.tuples(st.integers(0, 9), st.integers(0, 53))
eights = st.sampled_from([8, 16, 24, 64])
seeds = st.integers(0, 1000)


@pytest.fixture(scope="module", params=BACKENDS)
def where(request):
    return request.param


def draw(where, shape, seed):
    """Random maps, channels last, on a grid of 1/16 that every type holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-40, 41, shape, generator=generator) / 16
    return values.to(where.device, where.dtype).contiguous(memory_format=torch.channels_last)


def exact(tensor):
    return tensor.detach().cpu().double()


def grown(size, more):
    return tuple(a + b for a, b in zip(size, more, strict=True))


def enlarged(x, size):
    return F.interpolate(x, size=size, mode="bilinear")


def unpacked(signs, shape):
    bits = signs.cpu()[..., None] >> torch.arange(8, dtype=torch.uint8) & 1
    return bits.flatten(3).bool().permute(0, 3, 1, 2).reshape(shape)


def assert_near(found, expected, tolerance):
    assert found.shape == expected.shape
    error = (exact(found) - expected).abs().max().item()
    assert error <= tolerance * (1 + expected.abs().max().item())


def signed(shape, seed):
    """Signs drawn at random, and the factors that an activation's gradient makes of them."""
    count, channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 256, (count, height, width, channels // 8), generator=generator, dtype=torch.uint8)
    return signs, 1.0 - (1.0 - SLOPE) * (~unpacked(signs, shape)).double()


@given(
    size=small_sizes, more=growth, channels=eights, skip=st.sampled_from(["no", "same", "small"]), bias=st.booleans()
)
def test_activate(where, size, more, channels, skip, bias):
    large = grown(size, more)
    x = draw(where, (2, channels, *large), 0)
    added = {"no": None, "same": draw(where, x.shape, 1), "small": draw(where, (2, channels, *size), 1)}[skip]
    shift = draw(where, (1, channels, 1, 1), 2) if bias else None
    expected = exact(x) + (0 if shift is None else exact(shift))
    if added is not None:
        expected = expected + enlarged(exact(added), large)
    signs = maps.activate_(x, bias=None if shift is None else shift.flatten(), skip=added, negative_slope=SLOPE)
    assert_near(x, F.leaky_relu(expected, SLOPE), where.tolerance)
    clear = expected.abs() > 1e-3  # rounding decides about the others
    assert torch.equal(unpacked(signs, x.shape)[clear], (expected > 0)[clear])


@given(size=small_sizes, channels=eights, seed=seeds)
def test_activation_gradient(where, size, channels, seed):
    gradient = draw(where, (2, channels, *size), seed)
    signs, factors = signed(gradient.shape, seed)
    found = maps.activation_gradient(gradient, signs.to(where.device), negative_slope=SLOPE)
    assert_near(found, exact(gradient) * factors, where.tolerance)


@given(size=small_sizes, more=growth, channels=st.sampled_from([1, 3, 8, 16]), seed=seeds)
def test_enlarge(where, size, more, channels, seed):
    x, large = draw(where, (2, channels, *size), seed), grown(size, more)
    assert_near(maps.enlarge(x, large), enlarged(exact(x), large), where.tolerance)


@given(
    size=small_sizes,
    more=growth,
    channels=st.sampled_from([1, 3, 8, 16]),
    signs=st.booleans(),
    out_signs=st.booleans(),
    seed=seeds,
)
def test_enlarge_adjoint(where, size, more, channels, signs, out_signs, seed):
    large = grown(size, more)
    gradient = draw(where, (2, channels, *large), seed)
    given_signs, factors = signed(gradient.shape, seed) if signs and channels % 8 == 0 else (None, 1.0)
    small_signs, small_factors = (
        signed((2, channels, *size), seed + 1) if out_signs and channels % 8 == 0 else (None, 1.0)
    )
    leaf = torch.zeros(2, channels, *size, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(enlarged(leaf, large), leaf, exact(gradient) * factors)
    found = maps.enlarge_adjoint(
        gradient,
        size,
        signs=None if given_signs is None else given_signs.to(where.device),
        out_signs=None if small_signs is None else small_signs.to(where.device),
        negative_slope=SLOPE,
    )
    assert_near(found, expected * small_factors, where.tolerance)


def check_convolve(
    where, inputs, outputs, size, more=(0, 0), *, stride=1, skip="no", bias=True, signs=False, activate=False, seed=0
):
    """A convolution against torch; where `more` is not nothing the map is enlarged first."""
    large = grown(size, more)
    x = draw(where, (2, inputs, *size), seed)
    weight = draw(where, (outputs, inputs, 3, 3), seed + 1)
    shift = draw(where, (1, outputs, 1, 1), seed + 2).flatten() if bias else None
    given_signs, factors = signed(x.shape, seed) if signs else (None, 1.0)
    source = enlarged(exact(x) * factors, large)
    expected = F.conv2d(
        source, exact(weight), None if shift is None else exact(shift), stride=stride, padding=2 - stride
    )
    added = None
    if skip != "no":
        added = draw(where, (2, outputs, *(expected.shape[2:] if skip == "same" else size)), 3)
        expected = expected + enlarged(exact(added), expected.shape[2:])
    found, out_signs = maps.convolve(
        x,
        weight,
        bias=shift,
        skip=added,
        size=None if large == size else large,
        stride=stride,
        signs=None if given_signs is None else given_signs.to(where.device),
        negative_slope=SLOPE,
        activate=activate,
    )
    rounds = min(inputs, outputs) > 1 and where.runs_cuda_kernels  # on tensor cores; the grid's values are kept
    tolerance = max(where.tolerance, TENSOR_CORES if rounds and (signs or large != size) else 0.0)
    if not activate:
        assert out_signs is None
        assert_near(found, expected, tolerance)
        return
    assert_near(found, F.leaky_relu(expected, SLOPE), tolerance)
    clear = expected.abs() > tolerance * (1 + expected.abs().max())
    assert torch.equal(unpacked(out_signs, found.shape)[clear], (expected > 0)[clear])


@given(size=st.tuples(st.integers(1, 20), st.integers(1, 90)), outputs=st.sampled_from([8, 16, 64]), bias=st.booleans())
def test_convolve_from_one_channel(where, size, outputs, bias):
    for activate in (False, True):
        check_convolve(where, 1, outputs, size, bias=bias, activate=activate)


@given(size=st.tuples(st.integers(1, 60), st.integers(1, 70)), inputs=st.sampled_from([8, 16, 64]), bias=st.booleans())
def test_convolve_to_one_channel(where, size, inputs, bias):
    for signs in (False, True):
        check_convolve(where, inputs, 1, size, bias=bias, signs=signs)


@given(
    outputs=st.sampled_from([16, 32]),
    size=st.tuples(st.integers(1, 24), st.integers(1, 60)),
    more=growth,
    enlarge=st.booleans(),
    skip=st.sampled_from(["no", "same", "small"]),
    bias=st.booleans(),
    activate=st.booleans(),
    signs=st.booleans(),
    seed=seeds,
)
def test_convolve_sixteen_channels(where, outputs, size, more, enlarge, skip, bias, activate, signs, seed):
    more = grown(size, more) if enlarge else (0, 0)  # to twice the size or more
    signs = signs and not enlarge
    check_convolve(where, 16, outputs, size, more, skip=skip, bias=bias, activate=activate, signs=signs, seed=seed)


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 120)),
    bias=st.booleans(),
    activate=st.booleans(),
    signs=st.booleans(),
    seed=seeds,
)
@settings(max_examples=20)
def test_convolve_thirty_two_channels_to_sixteen(where, size, bias, activate, signs, seed):
    check_convolve(where, 32, 16, size, bias=bias, activate=activate, signs=signs, seed=seed)


@given(
    signs=st.booleans(),
    size=st.tuples(st.integers(1, 110), st.integers(1, 120)),
    outputs=st.sampled_from([16, 32]),
    seed=seeds,
)
@settings(max_examples=20)
def test_convolve_a_gradient(where, signs, size, outputs, seed):
    check_convolve(where, 16, outputs, size, skip="same", bias=False, signs=signs, seed=seed)


@given(
    size=st.tuples(st.integers(3, 110), st.integers(3, 230)),
    skip=st.sampled_from(["no", "same"]),
    activate=st.booleans(),
    seed=seeds,
)
@settings(max_examples=20)
def test_convolve_by_twos(where, size, skip, activate, seed):
    check_convolve(where, 16, 16, size, stride=2, skip=skip, activate=activate, seed=seed)


@given(size=st.tuples(st.integers(3, 110), st.integers(3, 230)), seed=seeds)
@settings(max_examples=20)
def test_convolve_down_adjoint(where, size, seed):
    weight = draw(where, (16, 16, 3, 3), seed)
    leaf = torch.zeros(2, 16, *size, dtype=torch.float64, requires_grad=True)
    out = F.conv2d(leaf, exact(weight), stride=2)
    gradient = draw(where, out.shape, seed + 1)
    (expected,) = torch.autograd.grad(out, leaf, exact(gradient))
    assert_near(maps.convolve_down_adjoint(gradient, weight, size), expected, where.tolerance)


@pytest.mark.parametrize("size", [(2, 2), (2, 9), (7, 1)])
def test_convolve_down_adjoint_of_an_empty_gradient(where, size):
    """Maps smaller than the kernel have no outputs, so that nothing depends on them."""
    gradient = draw(where, (2, 16, *(max(0, (length - 3) // 2 + 1) for length in size)), 0)
    found = maps.convolve_down_adjoint(gradient, draw(where, (16, 16, 3, 3), 1), size)
    assert found.shape == (2, 16, *size)
    assert not found.any()


def test_convolve_any_channels_on_the_cpu():
    where = Backend("cpu", torch.float64)
    for inputs, outputs in ((3, 5), (8, 24)):
        check_convolve(where, inputs, outputs, (5, 6), (3, 4), skip="small")
        check_convolve(where, inputs, outputs, (5, 6), stride=2, skip="same")


def test_empty_maps(where):
    x = draw(where, (0, 16, 5, 6), 0)
    assert maps.activate_(x, negative_slope=SLOPE).shape == (0, 5, 6, 2)
    assert maps.enlarge(x, (9, 9)).shape == (0, 16, 9, 9)
    assert maps.enlarge_adjoint(x, (2, 3)).shape == (0, 16, 2, 3)
    out, signs = maps.convolve(x, draw(where, (16, 16, 3, 3), 1), activate=True)
    assert out.shape == (0, 16, 5, 6)
    assert signs.shape == (0, 5, 6, 2)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_slices_on_cuda(dtype):
    """Sizes of the paper's network, more tiles than a device has processors, and the same bits in every run."""
    where = Backend("cuda", dtype)
    check_convolve(where, 16, 16, (99, 99), (101, 101), skip="small", activate=True)
    check_convolve(where, 16, 32, (99, 99), activate=True)
    check_convolve(where, 16, 16, (200, 200), signs=True, bias=False)
    check_convolve(where, 16, 16, (200, 200), stride=2, skip="same", activate=True)
    gradient = torch.randn(40, 16, 200, 200, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
    first, second = (maps.enlarge_adjoint(gradient, (99, 99)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "op", ["activate_", "activation_gradient", "enlarge", "enlarge_adjoint", "convolve", "convolve_down_adjoint"]
)
def test_operators_pass_opcheck(op):
    where = Backend("cpu", torch.float32)
    x = draw(where, (2, 16, 4, 5), 0).permute(0, 2, 3, 1).contiguous()
    signs = torch.zeros(2, 4, 5, 2, dtype=torch.uint8)
    small = draw(where, (2, 16, 2, 3), 1).permute(0, 2, 3, 1).contiguous()
    arguments = {
        "activate_": (x, None, small, SLOPE, signs),
        "activation_gradient": (x, signs, SLOPE, torch.empty_like(x)),
        "enlarge": (small, torch.empty_like(x)),
        "enlarge_adjoint": (x, signs, None, SLOPE, torch.empty_like(small)),
        "convolve": (small, None, torch.ones(16, 3, 3, 16), None, None, 1, SLOPE, torch.empty_like(x), signs),
        "convolve_down_adjoint": (small, torch.ones(16, 3, 3, 16), x.new_empty(2, 5, 7, 16)),
    }[op]
    torch.library.opcheck(getattr(torch.ops.lesioncore, op).default, arguments)
