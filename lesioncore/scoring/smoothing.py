"""Smoothing of a residual in space, before it is scored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_TRUNCATE = 4.0
"""The Gaussian kernel ends at this many standard deviations, as SciPy's does."""


def smooth(residual: Tensor, mask: Tensor, voxel_size: tuple[float, float, float] | None, sigma: float) -> Tensor:
    """Smooth a signed residual by a Gaussian in three dimensions.

    Noise of either sign cancels, a lesion larger than the Gaussian stays. The residual counts as 0 outside the brain,
    which lowers it along the brain's rim, where a prior is wrong most often.

    Parameters
    ----------
    residual, mask : Tensor
        ``[N, 1, H, W]``: neighbouring slices of one scan, and its brain (bool).
    voxel_size : tuple of float or None
        Size of a pixel along H and W and the distance of the slices, mm; an infinite one smooths along no such axis.
        Without it nothing is smoothed: slices without geometry may be anyone's.
    sigma : float
        Standard deviation, mm; 0 returns the residual as it is.

    Returns
    -------
    Tensor
        ``[N, 1, H, W]``, 0 outside the brain if anything was smoothed.
    """
    if sigma == 0 or voxel_size is None:
        return residual
    volume = torch.where(mask, residual, 0.0)[:, 0]
    for axis, length in zip((1, 2, 0), voxel_size, strict=True):
        volume = _along(volume, axis, sigma / length)
    return torch.where(mask, volume[:, None], 0.0)


def keep_edges(smoothed: Tensor, own: Tensor) -> Tensor:
    """Bring smoothed deviations no further from 0 than each place's own, and to 0 where that has the other sign.

    Smoothing carries the deviation of a large lesion some millimetres beyond its border, where nothing deviates. What
    is left deviates both at the place itself and around it.

    Parameters
    ----------
    smoothed, own : Tensor
        Signed deviations of one shape, each in units of its own spread.

    Returns
    -------
    Tensor
        Whichever of both is nearer to 0, where they have one sign.
    """
    nearer = torch.where(smoothed.abs() < own.abs(), smoothed, own)
    return torch.where(smoothed * own > 0, nearer, 0.0)


def _along(volume: Tensor, axis: int, sigma: float) -> Tensor:
    """Smooth ``[N, H, W]`` along one axis by `sigma` of its steps; 0 beyond the edges."""
    if sigma == 0:
        return volume
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).to(volume)
    lines = volume.movedim(axis, -1)
    smoothed = F.conv1d(lines.reshape(-1, 1, lines.shape[-1]), kernel.view(1, 1, -1), padding=radius)
    return smoothed.view(lines.shape).movedim(-1, axis)
