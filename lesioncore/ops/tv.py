"""Native operators of total variation: thin typed calls.

Every volume is contiguous ``[N, D, H, W]``: N independent stacks of D slices. ``D = 1`` (or ``depth_weight = 0``) is
the paper's 2-D total variation per slice; otherwise slices are coupled, ``depth_weight`` times their difference.

The arguments are checked in C++ (csrc/tv/tv_checks.h); what does not fit raises a RuntimeError that names the argument.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lesioncore.ops.library import register_fakes

register_fakes(["tv_gradient", "tv_value", "restore_step_", "tv_prox_"])


def tv_gradient(
    x: Tensor,
    y: Tensor,
    *,
    depth_weight: float = 0.0,
    isotropic: bool = False,
    eps: float = 1e-3,
    out: Tensor | None = None,
) -> Tensor:
    """Gradient of TV(x - y) with respect to x.

    Anisotropic: ``sum |dx| + |dy| + depth_weight * |dz|``, the subgradient with ``sign(0) = 0``. Isotropic:
    ``sum sqrt(dx^2 + dy^2 + (depth_weight * dz)^2 + eps^2)``. Forward differences of ``x - y``, zero at the far edge of
    each axis.

    Parameters
    ----------
    x, y : Tensor, [N, D, H, W]
        Restored and observed volume (z-scores), contiguous, float32 (float64 too on the CPU).
    depth_weight : float
        Weight of the difference between slices, >= 0; 0 treats every slice on its own.
    isotropic : bool
        Isotropic instead of anisotropic TV.
    eps : float
        Rounds the isotropic TV off where it has no gradient (z-score units), > 0.
    out : Tensor, [N, D, H, W], optional
        Receives the result; must not share memory with `x` or `y`.

    Returns
    -------
    Tensor, [N, D, H, W]
        `out`.

    Raises
    ------
    RuntimeError
        An argument has the wrong shape, dtype, device, layout or value; the message names it.

    Notes
    -----
    method: Chen et al., MedIA 2020, Eq. 3-6.
    """
    out = torch.empty_like(x) if out is None else out
    torch.ops.lesioncore.tv_gradient(x, y, depth_weight, isotropic, eps, out)
    return out


def tv_value(
    x: Tensor,
    y: Tensor,
    *,
    depth_weight: float = 0.0,
    isotropic: bool = False,
    eps: float = 1e-3,
    out: Tensor | None = None,
) -> Tensor:
    """TV(x - y) of each stack, summed in float64 in a fixed order (same bits whatever the number of threads).

    Parameters
    ----------
    x, y, depth_weight, isotropic, eps
        As in `tv_gradient`; here ``eps = 0`` is allowed.
    out : Tensor, [N], optional
        Receives the result.

    Returns
    -------
    Tensor, [N]
        `out`, in the dtype of `x`.

    Raises
    ------
    RuntimeError
        An argument has the wrong shape, dtype, device, layout or value; the message names it.

    Notes
    -----
    method: Chen et al., MedIA 2020, Eq. 3.
    """
    out = x.new_empty(x.shape[:1]) if out is None else out
    torch.ops.lesioncore.tv_value(x, y, depth_weight, isotropic, eps, out)
    return out


def restore_step_(
    x: Tensor,
    y: Tensor,
    elbo_gradient: Tensor,
    mask: Tensor,
    step_size: Tensor,
    tv_weight: Tensor,
    *,
    out: Tensor | None = None,
    clip: float = math.inf,
    depth_weight: float = 0.0,
    isotropic: bool = False,
    eps: float = 1e-3,
) -> Tensor:
    """One step: ``x += step_size * mask * clamp(elbo_gradient - tv_weight * dTV(x - y)/dx, +-clip)``.

    One pass over memory. Pixels outside the mask keep their bits, whatever `elbo_gradient` holds there.

    Parameters
    ----------
    x : Tensor, [N, D, H, W]
        Restored volume, updated in place unless `out` is given.
    y, elbo_gradient : Tensor, [N, D, H, W]
        Observed volume, and the gradient of the ELBO (nats per z-score) at `x`.
    mask : Tensor of bool, [N, D, H, W]
        Where `x` is updated.
    step_size : Tensor, one element
        On the device and in the dtype of `x`, so that a captured CUDA graph can serve every step.
    tv_weight : Tensor, [N] or one element
        Weight of the data term (lambda); the larger, the closer the result stays to `y` up to piecewise constants.
    out : Tensor, [N, D, H, W], optional
        Receives the updated volume, and `x` is left alone. CUDA loops swap two volumes this way; without `out` the
        CUDA kernel goes through a temporary and a copy.
    clip : float
        Bound of each element of the gradient, >= 0; inf for none.
    depth_weight, isotropic, eps
        As in `tv_gradient`.

    Returns
    -------
    Tensor, [N, D, H, W]
        `out` if given, else `x`.

    Raises
    ------
    RuntimeError
        An argument has the wrong shape, dtype, device, layout or value, or shares memory with what is written.

    Notes
    -----
    method: Chen et al., MedIA 2020, Eq. 5-6.
    """
    torch.ops.lesioncore.restore_step_(
        x, y, elbo_gradient, mask, step_size, tv_weight, out, clip, depth_weight, isotropic, eps
    )
    return x if out is None else out


def dual_like(v: Tensor, depth_weight: float = 0.0) -> Tensor:
    """Zero dual field for `tv_prox_`: ``[C, N, D, H, W]``, C = 3 if slices are coupled (``D > 1``), else 2."""
    coupled = depth_weight > 0 and v.dim() == 4 and v.shape[1] > 1
    return v.new_zeros((3 if coupled else 2, *v.shape))


def tv_prox_(
    v: Tensor,
    mask: Tensor,
    weight: Tensor,
    dual: Tensor,
    *,
    out: Tensor | None = None,
    depth_weight: float = 0.0,
    isotropic: bool = False,
    iterations: int = 30,
) -> Tensor:
    """Proximal operator of TV: ``argmin_D 1/2 |D - v|^2 + weight[n] * TV(D)`` subject to ``D = 0`` outside the mask.

    Accelerated projected gradient on the dual. Call it again with the same `dual` to start where it stopped; the
    momentum begins anew. The isotropic TV here is the exact one, without eps.

    Parameters
    ----------
    v : Tensor, [N, D, H, W]
        Point to be denoised (z-scores).
    mask : Tensor of bool, [N, D, H, W]
        Where the result may differ from 0.
    weight : Tensor, [N] or one element
        Weight of TV, >= 0; the larger, the flatter the result. 0 gives ``mask * v`` and a dual of zero. (A negative
        or NaN weight is an error on the CPU, and NaN in the mask on CUDA, where looking would cost a synchronisation.)
    dual : Tensor, [C, N, D, H, W]
        Start of the dual iteration (`dual_like` for a cold start), and on return where it ended.
    out : Tensor, [N, D, H, W], optional
        Receives the result.
    depth_weight, isotropic
        As in `tv_gradient`.
    iterations : int
        Dual iterations, >= 0. With 0, `out` is the primal point of `dual` as given.

    Returns
    -------
    Tensor, [N, D, H, W]
        `out`.

    Raises
    ------
    RuntimeError
        An argument has the wrong shape, dtype, device, layout or value, or shares memory with what is written.

    Notes
    -----
    Beck & Teboulle, IEEE TIP 18 (2009), fast gradient projection.
    """
    out = torch.empty_like(v) if out is None else out
    torch.ops.lesioncore.tv_prox_(v, mask, weight, dual, out, depth_weight, isotropic, iterations)
    return out
