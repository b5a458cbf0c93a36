"""Native operators on feature maps ``[N, C, H, W]`` whose channels lie last in memory; none is differentiable.

They are what surrounds a network's convolutions, and 3 x 3 convolutions of few channels. Signs, ``[N, H, W, C / 8]`` of
uint8, say which values a leaky-ReLU found positive: bit ``c % 8`` of byte ``c // 8`` belongs to channel c.

Maps are float32, on the CPU also float64, on CUDA also bfloat16; what belongs together has one type and one device.
The arguments are checked in C++ (csrc/maps/map_checks.h); what does not fit raises a RuntimeError that names the
argument, as the operator has it: maps and kernels with the channels as their last axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lesioncore.ops.library import register_fakes

register_fakes(["activate_", "activation_gradient", "enlarge", "enlarge_adjoint", "convolve", "convolve_down_adjoint"])


def activate_(x: Tensor, *, bias: Tensor | None = None, skip: Tensor | None = None, negative_slope: float) -> Tensor:
    """``x = leaky_relu(x + bias + enlarged(skip))`` in place; returns the signs.

    Parameters
    ----------
    x : Tensor, [N, C, H, W]
        Changed in place; C is a multiple of 8.
    bias : Tensor, [C], optional
    skip : Tensor, [N, C, h, w], optional
        Bilinearly enlarged to `x` where it is smaller.
    negative_slope : float
        Not negative.

    Returns
    -------
    Tensor of uint8, [N, H, W, C / 8]
    """
    signs = _signs_for(x)
    torch.ops.lesioncore.activate_(_last(x), bias, _last_or_none(skip), negative_slope, signs)
    return signs


def activation_gradient(gradient: Tensor, signs: Tensor, *, negative_slope: float) -> Tensor:
    """Gradient before a leaky-ReLU, from that behind it (both ``[N, C, H, W]``) and its signs."""
    out = _map(gradient, gradient.shape[1], gradient.shape[2:])
    torch.ops.lesioncore.activation_gradient(_last(gradient), signs, negative_slope, _last(out))
    return out


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``torch.nn.functional.interpolate(x, size, mode="bilinear")``: ``[N, C, h, w]`` to ``[N, C, *size]``.

    `size` may not be smaller than that of `x`.
    """
    out = _map(x, x.shape[1], size)
    torch.ops.lesioncore.enlarge(_last(x), _last(out))
    return out


def enlarge_adjoint(
    gradient: Tensor,
    size: tuple[int, int],
    *,
    signs: Tensor | None = None,
    out_signs: Tensor | None = None,
    negative_slope: float = 1.0,
) -> Tensor:
    """Gradient of a map of `size` from that of the enlarged one, ``[N, C, H, W]`` to ``[N, C, *size]``.

    With `signs` the given gradient is taken through the leaky-ReLU behind the enlarged map first, with `out_signs` the
    result through that before the small one. Gathered, so that every run gives the same bits.
    """
    out = _map(gradient, gradient.shape[1], size)
    torch.ops.lesioncore.enlarge_adjoint(_last(gradient), signs, out_signs, negative_slope, _last(out))
    return out


def convolve(
    x: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    skip: Tensor | None = None,
    size: tuple[int, int] | None = None,
    stride: int = 1,
    signs: Tensor | None = None,
    negative_slope: float = 1.0,
    activate: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``conv(x) + bias + enlarged(skip)`` with a 3 x 3 kernel, in one pass over memory.

    Parameters
    ----------
    x : Tensor, [N, I, H, W]
        The map.
    weight : Tensor, [O, I, 3, 3]
        The kernel, channels last in memory.
    bias : Tensor, [O], optional
    skip : Tensor, [N, O, h, w], optional
        Added, bilinearly enlarged where it is smaller than the result.
    size : tuple of int, optional
        Enlarge `x` bilinearly to this first; for stride 1.
    stride : {1, 2}
        1 with a border of zeros; 2 without, which makes (size - 1) / 2 pixels of each axis.
    signs : Tensor of uint8, [N, H, W, I / 8], optional
        Take `x` through the gradient of a leaky-ReLU with these signs first; not together with `size`.
    negative_slope : float
        Of that leaky-ReLU and of the one behind.
    activate : bool
        Put a leaky-ReLU behind; O must be a multiple of 8.

    Returns
    -------
    out : Tensor, [N, O, H, W]
    signs : Tensor of uint8 or None
        Those of `out` if there is an activation.

    Notes
    -----
    On CUDA: from one channel (to 8, 16, 32, ... 1024) or to one (from a multiple of 8 up to 256), in float32 and with
    nothing to enlarge or to add; on tensor cores, where float32 factors are rounded to TF32, from 16 channels to 16 or
    32, at stride 2 to 16, and from 32 to 16 with nothing to enlarge or to add. What is enlarged must at least double
    there. Others are an error.
    """
    if stride == 2:
        size = max(0, (x.shape[2] - 1) // 2), max(0, (x.shape[3] - 1) // 2)
    out = _map(x, weight.shape[0], x.shape[2:] if size is None else size)
    out_signs = _signs_for(out) if activate else None
    torch.ops.lesioncore.convolve(
        _last(x), signs, _last(weight), bias, _last_or_none(skip), stride, negative_slope, _last(out), out_signs
    )
    return out, out_signs


def convolve_down_adjoint(gradient: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Gradient of the input of a stride-2 :func:`convolve`: ``[N, O, h, w]`` to ``[N, I, *size]``.

    `weight` is that convolution's, ``[O, I, 3, 3]``. On CUDA 16 channels on both sides, on tensor cores.
    """
    out = _map(gradient, weight.shape[1], size)
    torch.ops.lesioncore.convolve_down_adjoint(_last(gradient), _last(weight), _last(out))
    return out


def _map(like: Tensor, channels: int, size: tuple[int, ...]) -> Tensor:
    return like.new_empty((len(like), *size, channels)).permute(0, 3, 1, 2)


def _signs_for(x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    return x.new_empty((count, height, width, channels // 8), dtype=torch.uint8)


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _last_or_none(x: Tensor | None) -> Tensor | None:
    return None if x is None else _last(x)
