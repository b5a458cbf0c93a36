"""The float64 oracle against definitions: autograd, the transpose, closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from lesioncore.ops import reference


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    depth_weight=st.sampled_from([0.0, 0.4, 2.0]),
    seed=st.integers(0, 1000),
)
def test_adjoint_is_the_transpose_of_differences(shape, depth_weight, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(shape, dtype=torch.float64, generator=generator)
    k = reference.differences(z, depth_weight)
    p = torch.randn(k.shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close((k * p).sum(), (z * reference.adjoint(p, depth_weight)).sum())


def test_differences_by_hand():
    z = torch.tensor([[1.0, 4.0], [2.0, 9.0]], dtype=torch.float64).reshape(1, 1, 2, 2)
    along_width, along_height = reference.differences(z)
    assert along_width.flatten().tolist() == [3.0, 0.0, 7.0, 0.0]
    assert along_height.flatten().tolist() == [1.0, 5.0, 0.0, 0.0]


def test_tv_by_hand_and_per_stack():
    x = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    x[0, 0, 0, 0] = 3.0
    nothing = torch.zeros_like(x)
    assert reference.tv_value(x, nothing).tolist() == [6.0, 0.0]
    assert reference.tv_value(x, nothing, depth_weight=0.5).tolist() == [7.5, 0.0]
    isotropic = reference.tv_value(x, nothing, depth_weight=0.5, isotropic=True, eps=0.0)
    torch.testing.assert_close(isotropic[0].item(), (9 + 9 + 2.25) ** 0.5)


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("depth_weight", [0.0, 0.6])
def test_gradient_is_the_derivative_of_the_value(isotropic, depth_weight):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    y = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator)
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic}
    (expected,) = torch.autograd.grad(reference.tv_value(x, y, **kwargs).sum(), x)
    torch.testing.assert_close(reference.tv_gradient(x.detach(), y, **kwargs), expected)


def test_subgradient_of_a_flat_region_is_zero():
    x = torch.full((1, 1, 4, 4), 2.0, dtype=torch.float64)
    assert reference.tv_gradient(x, torch.zeros_like(x)).abs().max() == 0


def test_restore_step_by_hand():
    x = torch.tensor([1.0, 5.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    y = torch.zeros_like(x)
    gradient = torch.tensor([10.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    mask = torch.tensor([True, True]).reshape(1, 1, 1, 2)
    # dTV/dx = (-1, +1); total = (10 + 2, 1 - 2) = (12, -1), clipped at 4 to (4, -1)
    result = reference.restore_step(x, y, gradient, mask, 0.5, 2.0, clip=4.0)
    assert result.flatten().tolist() == [3.0, 4.5]
    mask[..., 1] = False
    assert reference.restore_step(x, y, gradient, mask, 0.5, 2.0, clip=4.0).flatten().tolist() == [3.0, 5.0]


def test_prox_of_two_pixels_in_closed_form():
    # argmin 1/2 (a - 5)^2 + 1/2 (b - 1)^2 + w |a - b|: both move by w towards each other, at most to their mean.
    v = torch.tensor([5.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    mask = torch.ones_like(v, dtype=torch.bool)
    for isotropic in (False, True):
        moved, _ = reference.tv_prox(v, mask, 1.5, isotropic=isotropic)
        torch.testing.assert_close(moved.flatten(), torch.tensor([3.5, 2.5], dtype=torch.float64))
        merged, _ = reference.tv_prox(v, mask, 9.0, isotropic=isotropic)
        torch.testing.assert_close(merged.flatten(), torch.tensor([3.0, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("depth_weight", [0.0, 0.7])
def test_duality_gap_bounds_the_objective(isotropic, depth_weight):
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=generator)
    mask = torch.rand(v.shape, generator=generator) > 0.3
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic}

    def objective(d: torch.Tensor) -> torch.Tensor:
        tv = reference.tv_value(d, torch.zeros_like(d), eps=0.0, **kwargs)
        return torch.where(mask, (d - v).square() / 2, 0).sum(dim=(1, 2, 3)) + 0.8 * tv

    best, best_dual = reference.tv_prox(v, mask, 0.8, iterations=2000, **kwargs)
    assert reference.duality_gap(v, mask, 0.8, best_dual, **kwargs).abs().max() < 1e-6
    for iterations in (0, 1, 5, 20):
        d, dual = reference.tv_prox(v, mask, 0.8, iterations=iterations, **kwargs)
        gap = reference.duality_gap(v, mask, 0.8, dual, **kwargs)
        assert (objective(d) - objective(best) <= gap + 1e-9).all()
