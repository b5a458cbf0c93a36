"""The operators of `lesioncore.ops.tv` in plain torch: any dtype and device, slow, to be read beside the paper.

These are the oracle of the tests and benchmarks. Volumes are ``[N, D, H, W]`` as everywhere; a dual field is
``[C, N, D, H, W]``, one component per axis of difference.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def differences(z: Tensor, depth_weight: float = 0.0) -> Tensor:
    """K z: forward differences along width, height and (if slices are coupled) depth; zero at each far edge.

    Parameters
    ----------
    z : Tensor, [N, D, H, W]
    depth_weight : float
        Factor of the difference between slices; 0 leaves it out.

    Returns
    -------
    Tensor, [C, N, D, H, W]
        C = 3 if ``depth_weight > 0`` and ``D > 1``, else 2.
    """

    def along(axis: int) -> Tensor:
        return torch.diff(z, dim=axis, append=z.narrow(axis, max(z.shape[axis] - 1, 0), min(z.shape[axis], 1)))

    parts = [along(3), along(2)]
    if depth_weight > 0 and z.shape[1] > 1:
        parts.append(depth_weight * along(1))
    return torch.stack(parts)


def adjoint(p: Tensor, depth_weight: float = 0.0) -> Tensor:
    """K^T p, the transpose of `differences`: ``<K z, p> = <z, adjoint(p)>`` for all z and p.

    Parameters
    ----------
    p : Tensor, [C, N, D, H, W]
    depth_weight : float
        As in `differences`.

    Returns
    -------
    Tensor, [N, D, H, W]
    """
    result = torch.zeros_like(p[0])
    for component, axis, weight in zip(p, (3, 2, 1), (1.0, 1.0, depth_weight), strict=False):
        inner = max(component.shape[axis] - 1, 0)  # no difference ends beyond the far edge
        flow = weight * component.narrow(axis, 0, inner)
        result.narrow(axis, 0, inner).sub_(flow)
        result.narrow(axis, component.shape[axis] - inner, inner).add_(flow)
    return result


def _magnitude(k: Tensor, isotropic: bool, eps: float) -> Tensor:
    return (k.square().sum(0) + eps**2).sqrt() if isotropic else k.abs().sum(0)


def tv_value(x: Tensor, y: Tensor, *, depth_weight: float = 0.0, isotropic: bool = False, eps: float = 1e-3) -> Tensor:
    """TV(x - y) of each stack, [N] (method: Chen et al., MedIA 2020, Eq. 3)."""
    return _magnitude(differences(x - y, depth_weight), isotropic, eps).sum(dim=(1, 2, 3))


def tv_gradient(
    x: Tensor, y: Tensor, *, depth_weight: float = 0.0, isotropic: bool = False, eps: float = 1e-3
) -> Tensor:
    """Gradient of TV(x - y) with respect to x, [N, D, H, W]; sign(0) = 0 (method: Chen et al., MedIA 2020, Eq. 6)."""
    k = differences(x - y, depth_weight)
    return adjoint(k / _magnitude(k, True, eps) if isotropic else k.sign(), depth_weight)


def restore_step(
    x: Tensor,
    y: Tensor,
    elbo_gradient: Tensor,
    mask: Tensor,
    step_size: Tensor | float,
    tv_weight: Tensor | float,
    *,
    clip: float = math.inf,
    depth_weight: float = 0.0,
    isotropic: bool = False,
    eps: float = 1e-3,
) -> Tensor:
    """``x + step_size * mask * clamp(elbo_gradient - tv_weight * dTV(x - y)/dx, +-clip)`` as a new volume.

    `tv_weight` is one number or one per stack (method: Chen et al., MedIA 2020, Eq. 5-6).
    """
    gradient_of_tv = tv_gradient(x, y, depth_weight=depth_weight, isotropic=isotropic, eps=eps)
    total = elbo_gradient - _per_stack(tv_weight, x) * gradient_of_tv
    return torch.where(mask, x + torch.as_tensor(step_size) * total.clamp(-clip, clip), x)


def tv_prox(
    v: Tensor,
    mask: Tensor,
    weight: Tensor | float,
    *,
    dual: Tensor | None = None,
    depth_weight: float = 0.0,
    isotropic: bool = False,
    iterations: int = 1000,
) -> tuple[Tensor, Tensor]:
    """Proximal operator of TV by fast gradient projection on the dual.

    ``argmin_D 1/2 |D - v|^2 + weight[n] * TV(D)`` subject to ``D = 0`` outside the mask.

    Parameters
    ----------
    v : Tensor, [N, D, H, W]
    mask : Tensor of bool, [N, D, H, W]
    weight : Tensor [N], or one number, >= 0
    dual : Tensor, [C, N, D, H, W], optional
        Start; zero by default. What it holds at far edges, where no difference exists, is ignored.
    depth_weight, isotropic
        As in `differences`; isotropic TV without eps.
    iterations : int

    Returns
    -------
    D : Tensor, [N, D, H, W]
    dual : Tensor, [C, N, D, H, W]

    Notes
    -----
    Beck & Teboulle, IEEE TIP 18 (2009), algorithm FGP.
    """
    k_of_zero = differences(torch.zeros_like(v), depth_weight)
    w = _per_stack(weight, v)
    lipschitz = 4 * (2 + depth_weight**2 * (len(k_of_zero) == 3))  # of K K^T
    step = torch.where(w > 0, 1 / (lipschitz * w.clamp_min(1e-300 if v.dtype == torch.float64 else 1e-30)), 0)

    def primal(p: Tensor) -> Tensor:
        return torch.where(mask, v - w * adjoint(p, depth_weight), 0)

    p = k_of_zero if dual is None else _without_far_edges(dual)
    p = torch.where(w > 0, p, 0)
    before, t, momentum = p, 1.0, 0.0
    for _ in range(iterations):
        q = p + momentum * (p - before)
        before, p = p, _project(q + step * differences(primal(q), depth_weight), isotropic)
        following_t = (1 + math.sqrt(1 + 4 * t * t)) / 2
        momentum, t = (t - 1) / following_t, following_t
    return primal(p), p


def duality_gap(
    v: Tensor,
    mask: Tensor,
    weight: Tensor | float,
    dual: Tensor,
    *,
    depth_weight: float = 0.0,
    isotropic: bool = False,
) -> Tensor:
    """Primal minus dual objective at ``D(dual)``, [N]: an upper bound of how far its objective is above the minimum.

    With u = mask * v and a = weight * mask * K^T p the dual objective is ``1/2 |u|^2 - 1/2 |u - a|^2``. `dual` must be
    feasible (each component in [-1, 1], or each pixel in the unit ball).
    """
    u = torch.where(mask, v, 0)
    a = torch.where(mask, _per_stack(weight, v) * adjoint(dual, depth_weight), 0)
    d = u - a
    tv = _magnitude(differences(d, depth_weight), isotropic, 0.0)
    terms = a.square() / 2 + _per_stack(weight, v) * tv - (u.square() - d.square()) / 2
    return terms.sum(dim=(1, 2, 3))


def _without_far_edges(p: Tensor) -> Tensor:
    cleared = p.clone()
    for component, axis in zip(cleared, (3, 2, 1), strict=False):
        component.narrow(axis, max(component.shape[axis] - 1, 0), min(component.shape[axis], 1)).zero_()
    return cleared


def _project(p: Tensor, isotropic: bool) -> Tensor:
    return p / p.square().sum(0).sqrt().clamp_min(1) if isotropic else p.clamp(-1, 1)


def _per_stack(value: Tensor | float, volume: Tensor) -> Tensor:
    """One number, or one per stack, as something that multiplies [N, D, H, W]."""
    return torch.as_tensor(value, dtype=volume.dtype, device=volume.device).reshape(-1, 1, 1, 1)
