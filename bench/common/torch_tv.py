"""Total variation of slices in plain PyTorch: value, gradient, the restoration step and the prox.

These are the opponents of the native operators, differences written out by hand in two ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

EPS, CLIP, ITERATIONS = 1e-3, 50.0, 30
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Form:
    """K and K^T written in torch; which way is faster depends on who runs it."""

    differences: Callable[[Tensor], tuple[Tensor, Tensor]]
    adjoint: Callable[[Tensor, Tensor], Tensor]


def sliced_differences(z: Tensor) -> tuple[Tensor, Tensor]:
    dx, dy = torch.zeros_like(z), torch.zeros_like(z)
    dx[..., :-1] = z[..., 1:] - z[..., :-1]
    dy[..., :-1, :] = z[..., 1:, :] - z[..., :-1, :]
    return dx, dy


def sliced_adjoint(fx: Tensor, fy: Tensor) -> Tensor:
    result = -fx - fy
    result[..., 1:] += fx[..., :-1]
    result[..., 1:, :] += fy[..., :-1, :]
    return result


def padded_differences(z: Tensor) -> tuple[Tensor, Tensor]:
    return pad(z[..., 1:] - z[..., :-1], (0, 1)), pad(z[..., 1:, :] - z[..., :-1, :], (0, 0, 0, 1))


def padded_adjoint(fx: Tensor, fy: Tensor) -> Tensor:
    return pad(fx[..., :-1], (1, 0)) - fx + pad(fy[..., :-1, :], (0, 0, 1, 0)) - fy


SLICED, PADDED = Form(sliced_differences, sliced_adjoint), Form(padded_differences, padded_adjoint)


def torch_gradient(x: Tensor, y: Tensor, isotropic: bool, form: Form) -> Tensor:
    dx, dy = form.differences(x - y)
    if isotropic:
        inverse = torch.rsqrt(dx * dx + dy * dy + EPS**2)
        return form.adjoint(dx * inverse, dy * inverse)
    return form.adjoint(dx.sign(), dy.sign())


def torch_value(x: Tensor, y: Tensor, isotropic: bool, form: Form) -> Tensor:
    dx, dy = form.differences(x - y)
    terms = torch.sqrt(dx * dx + dy * dy + EPS**2) if isotropic else dx.abs() + dy.abs()
    return terms.sum(dim=(1, 2, 3), dtype=torch.float64).float()


def autograd_gradient(x: Tensor, y: Tensor, isotropic: bool) -> Tensor:
    x = x.detach().requires_grad_()
    dx, dy = padded_differences(x - y)
    terms = torch.sqrt(dx * dx + dy * dy + EPS**2) if isotropic else dx.abs() + dy.abs()
    return torch.autograd.grad(terms.sum(), x)[0]


def update(
    x: Tensor, gradient_of_tv: Tensor, elbo_gradient: Tensor, mask: Tensor, step_size: Tensor, tv_weight: Tensor
) -> Tensor:
    total = (elbo_gradient - tv_weight.reshape(-1, 1, 1, 1) * gradient_of_tv).clamp(-CLIP, CLIP)
    return x + step_size * mask * total


def torch_step(x: Tensor, y: Tensor, *rest: Tensor, isotropic: bool, form: Form) -> Tensor:
    return update(x, torch_gradient(x, y, isotropic, form), *rest)


def autograd_step(x: Tensor, y: Tensor, *rest: Tensor, isotropic: bool) -> Tensor:
    return update(x, autograd_gradient(x, y, isotropic), *rest)


def prox_iteration(
    v: Tensor, mask: Tensor, w: Tensor, p: Pair, before: Pair, momentum: Tensor, isotropic: bool, form: Form
) -> Pair:
    qx, qy = (now + momentum * (now - then) for now, then in zip(p, before, strict=True))
    kx, ky = form.differences(torch.where(mask, v - w * form.adjoint(qx, qy), 0))
    tx, ty = qx + kx / (8 * w), qy + ky / (8 * w)
    if isotropic:
        norm = torch.sqrt(tx * tx + ty * ty).clamp_min(1)
        return tx / norm, ty / norm
    return tx.clamp(-1, 1), ty.clamp(-1, 1)


def torch_prox(v: Tensor, mask: Tensor, w: Tensor, iteration: Callable[..., Pair]) -> Tensor:
    p, t, momentum = (torch.zeros_like(v), torch.zeros_like(v)), 1.0, 0.0
    before = (torch.zeros_like(v), torch.zeros_like(v))
    for _ in range(ITERATIONS):
        # The momentum travels as a tensor, so that torch.compile does not compile again for each of its values.
        p, before = iteration(v, mask, w, p, before, torch.tensor(momentum, device=v.device)), p
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        momentum, t = (t - 1) / following, following
    return torch.where(mask, v - w * SLICED.adjoint(*p), 0)
