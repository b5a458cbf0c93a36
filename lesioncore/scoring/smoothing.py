"""Smoothing of residuals in space, before they are scored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_TRUNCATE = 4.0
"""Radius of the Gaussian kernel in standard deviations, as in SciPy."""


def smooth(residual: Tensor, mask: Tensor, voxel_size: tuple[float, float, float] | None, sigma: float) -> Tensor:
    """Smooth a signed residual by a Gaussian in three dimensions.

    Noise of either sign cancels, while a lesion larger than the Gaussian remains. The residual counts as 0 outside the
    brain, which lowers it along the brain's rim, where a prior is wrong most often.

    Parameters
    ----------
    residual, mask : Tensor
        ``[N, 1, H, W]``: neighbouring slices of one scan, and its brain (bool).
    voxel_size : tuple of float or None
        Size of a pixel along H and W and the distance of the slices, mm; an axis with an infinite size is not smoothed.
        With None nothing is smoothed, since slices without geometry may come from different scans.
    sigma : float
        Standard deviation, mm; 0 returns the residual as it is.

    Returns
    -------
    Tensor
        ``[N, 1, H, W]``; 0 outside the brain, unless the residual is returned as it is.
    """
    if sigma == 0 or voxel_size is None:
        return residual
    volume = torch.where(mask, residual, 0.0)[:, 0]
    for axis, length in zip((1, 2, 0), voxel_size, strict=True):
        volume = _along(volume, axis, sigma / length)
    return torch.where(mask, volume[:, None], 0.0)


def keep_edges(smoothed: Tensor, unsmoothed: Tensor) -> Tensor:
    """Bound smoothed deviations by the unsmoothed ones, pixel by pixel.

    Smoothing carries the deviation of a large lesion some millimetres beyond its border, where nothing deviates. A
    bounded deviation is large only where both the pixel itself and its surroundings deviate.

    Parameters
    ----------
    smoothed, unsmoothed : Tensor
        Signed deviations of the same shape, each in units of its own spread.

    Returns
    -------
    Tensor
        Of the two deviations the one nearer to 0 where their signs agree, else 0.
    """
    nearer = torch.where(smoothed.abs() < unsmoothed.abs(), smoothed, unsmoothed)
    return torch.where(smoothed * unsmoothed > 0, nearer, 0.0)


def _along(volume: Tensor, axis: int, sigma: float) -> Tensor:
    """Smooth ``[N, H, W]`` along one axis with a standard deviation of `sigma` pixels; beyond the edges lies 0."""
    if sigma == 0:
        return volume
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).to(volume)
    lines = volume.movedim(axis, -1)
    smoothed = F.conv1d(lines.reshape(-1, 1, lines.shape[-1]), kernel.view(1, 1, -1), padding=radius)
    return smoothed.view(lines.shape).movedim(-1, axis)
