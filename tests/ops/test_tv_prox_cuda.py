"""The kernels of the CUDA tv_prox_, run on the host: the bits of the CPU operator, whatever tiles they work on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st
from support.emulated import operators

from lesioncore.ops import reference, tv

VARIANTS = [(isotropic, depth_weight) for isotropic in (False, True) for depth_weight in (0.0, 0.7)]


def emulated(v, mask, weight, dual, *, processors=132, **kwargs):
    """Result and number of launches; `dual` is left where the iteration ended, as by the operator."""
    with operators():
        torch.ops.lesioncore.device(processors)
        out = tv.tv_prox_(v, mask, weight, dual, out=torch.full_like(v, float("nan")), **kwargs)
        return out, torch.ops.lesioncore.device(132)


def problem(shape, seed, *, depth_weight, warm):
    """Noise in a mask with empty columns; a warm dual is infeasible in places, and holds junk at far edges."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(shape, generator=generator)
    mask = torch.rand(shape, generator=generator) < 0.7
    mask[..., shape[-1] // 2 :] &= torch.rand((*shape[:2], 1, 1), generator=generator) < 0.5
    dual = tv.dual_like(v, depth_weight)
    if warm:
        sparse = torch.rand(dual.shape, generator=generator) < 0.3
        dual.copy_(torch.where(sparse, 3 * torch.rand(dual.shape, generator=generator) - 1.5, 0))
        dual[0, ..., -1:], dual[1, ..., -1:, :] = float("nan"), float("inf")
        dual[2:, :, -1:] = float("nan")
    return v, mask, dual


def assert_bits_of_the_operator(v, mask, weight, dual, **kwargs):
    settings = {name: value for name, value in kwargs.items() if name != "processors"}
    dual_of_operator = dual.clone()
    expected = tv.tv_prox_(v, mask, weight, dual_of_operator, **settings)
    out, launches = emulated(v, mask, weight, dual, **kwargs)
    assert torch.equal(out, expected)
    assert torch.equal(dual, dual_of_operator)
    return launches


@given(
    shape=st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 21), st.integers(0, 70)),
    seed=st.integers(0, 10_000),
    variant=st.sampled_from(VARIANTS),
    iterations=st.integers(0, 9),
    warm=st.booleans(),
    processors=st.sampled_from([1, 132, 10_000]),
)
def test_any_shape(shape, seed, variant, iterations, warm, processors):
    isotropic, depth_weight = variant
    v, mask, dual = problem(shape, seed, depth_weight=depth_weight, warm=warm)
    weight = torch.tensor([0.5 * n for n in range(shape[0])])  # the first is 0
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic, "iterations": iterations}
    if v.numel() == 0:
        assert emulated(v, mask, weight, dual, **kwargs)[1] == 0
    else:
        assert_bits_of_the_operator(v, mask, weight, dual, processors=processors, **kwargs)


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize(
    ("shape", "iterations", "processors"),
    [
        ((1, 1, 80, 80), 30, 1),  # a slice that is one tile
        ((1, 1, 81, 83), 30, 1),  # a little more than that
        ((2, 1, 150, 131), 13, 4),  # not a multiple of the iterations of a launch
        ((1, 2, 200, 200), 30, 2),
        ((1, 1, 33, 500), 17, 132),
        ((1, 1, 500, 9), 7, 132),
    ],
)
def test_borders_of_tiles(shape, iterations, processors, isotropic):
    v, mask, dual = problem(shape, 1, depth_weight=0.0, warm=True)
    launches = assert_bits_of_the_operator(
        v,
        mask,
        torch.tensor([0.4]),
        dual,
        depth_weight=0.0,
        isotropic=isotropic,
        iterations=iterations,
        processors=processors,
    )
    assert launches <= 1 + (iterations + 3) // 4  # several iterations per launch


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("processors", [1, 132])  # long columns of slices, short ones
def test_borders_of_columns(isotropic, processors):
    v, mask, dual = problem((2, 37, 17, 131), 2, depth_weight=0.7, warm=True)
    kwargs = {"depth_weight": 0.7, "isotropic": isotropic, "processors": processors}
    for iterations in (1, 2, 3, 8):  # the dual ends in each of the three buffers
        assert_bits_of_the_operator(v, mask, torch.tensor([0.4, 1.3]), dual, iterations=iterations, **kwargs)


@pytest.mark.parametrize(("isotropic", "depth_weight"), VARIANTS)
def test_against_the_reference(isotropic, depth_weight):
    v, mask, dual = problem((2, 6, 70, 90), 3, depth_weight=depth_weight, warm=False)
    weight = torch.tensor([0.3, 1.0])
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic, "iterations": 12}
    expected, expected_dual = reference.tv_prox(v.double(), mask, weight.double(), **kwargs)
    out, _ = emulated(v, mask, weight, dual, processors=8, **kwargs)
    torch.testing.assert_close(out.double(), expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(dual.double(), expected_dual, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("isotropic", "depth_weight"), VARIANTS)
def test_background_is_skipped_and_stays_right(isotropic, depth_weight):
    """Whole tiles without mask or dual; a dual alone, without mask, is still iterated."""
    v = torch.randn(1, 20, 210, 205, generator=torch.Generator().manual_seed(4))
    mask = torch.zeros_like(v, dtype=torch.bool)
    mask[:, 3:6, 100:117, 63:66] = True  # across a border of columns
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic, "processors": 4}
    dual = tv.dual_like(v, depth_weight)
    for iterations in (4, 5, 9):  # warm from the last
        assert_bits_of_the_operator(v, mask, torch.tensor([0.5]), dual, iterations=iterations, **kwargs)
    assert dual[:, :, 10:].count_nonzero() == 0
    dual[:, 0, 15, 20, 30] = 1.5
    assert_bits_of_the_operator(v, mask, torch.tensor([0.5]), dual, iterations=6, **kwargs)
    assert dual[:, 0, 15, 20, 30].count_nonzero() > 0


@pytest.mark.parametrize(("isotropic", "depth_weight"), VARIANTS)
def test_weights(isotropic, depth_weight):
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic}
    v, mask, dual = problem((5, 2, 9, 70), 5, depth_weight=depth_weight, warm=True)
    weight = torch.tensor([0.0, 1e-30, 1e30, 0.7, 0.0])
    assert_bits_of_the_operator(v, mask, weight, dual, iterations=6, **kwargs)

    bad = torch.tensor([float("nan"), 0.3, -1.0, 0.7, 0.0])  # no error on the device: it would have to be asked
    out, _ = emulated(v, mask, bad, dual, iterations=6, **kwargs)
    for stack in (0, 2):
        assert torch.equal(out[stack].isnan(), mask[stack])
        assert dual[:, stack].count_nonzero() == 0
    assert out[[1, 3, 4]].isfinite().all()
    assert not out[~mask].any()


@pytest.mark.parametrize(("isotropic", "depth_weight"), VARIANTS)
def test_nan_in_the_mask_is_not_hidden(isotropic, depth_weight):
    v, mask, dual = problem((1, 3, 12, 35), 6, depth_weight=depth_weight, warm=False)
    mask[0, 1, 5, 5] = True
    v[0, 1, 5, 5] = float("nan")
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic, "iterations": 3}
    expected = tv.tv_prox_(v, mask, torch.ones(1), dual.clone(), **kwargs)
    out, _ = emulated(v, mask, torch.ones(1), dual, **kwargs)
    assert out[0, 1, 5, 5].isnan()
    assert torch.equal(out.isnan(), expected.isnan())
