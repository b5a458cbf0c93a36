"""Cleaning of detected masks by the usual erosion, median filter and removal of small components."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lesioncore.metrics.base import Bools, Counts, require_scipy
from lesioncore.metrics.lesions import number_components


def clean_mask(
    detected: Bools, brain: Bools, voxel_size: Sequence[float], *, erosion: float, median: float, min_volume: float
) -> Bools:
    """Clean one volume's detection; arguments as for :class:`lesioncore.PostProcessing` and its ``clean``."""
    cleaned = detected & brain
    if not cleaned.any():
        return cleaned
    (box,) = require_scipy("ndimage").find_objects(brain.astype(np.uint8))
    inside, mask = brain[box], cleaned[box]
    if erosion > 0:
        ball = _ball(erosion, voxel_size, inside.shape)
        inside = _count(inside, ball) == np.count_nonzero(ball)
        mask = mask & inside
    if median > 0:
        ball = _ball(median, voxel_size, inside.shape)
        mask = inside & (2 * _count(mask, ball) > _count(inside, ball))
    if min_volume > 0:
        # The ratio is rounded, since a header's voxel size is not exact.
        voxels = math.ceil(round(min_volume / math.prod(voxel_size), 6))
        mask = number_components(mask, voxels, connectivity=3) > 0
    cleaned[box] = mask
    return cleaned


def _ball(radius: float, voxel_size: Sequence[float], shape: Sequence[int]) -> Bools:
    """Structuring element of the voxels at most `radius` (mm) from the middle one.

    It extends no further along an axis than the length of `shape`, beyond which it would meet no voxel of the volume.
    """
    reach = radius * (1 + 1e-6)  # tolerates a header's inexact voxel size
    counts = [min(int(reach / size), length) for size, length in zip(voxel_size, shape, strict=True)]
    steps = [np.arange(-count, count + 1) * size for count, size in zip(counts, voxel_size, strict=True)]
    return sum(axis**2 for axis in np.meshgrid(*steps, indexing="ij", sparse=True)) <= reach**2


def _count(region: Bools, ball: Bools) -> Counts:
    """Number of the region's voxels in the ball around each voxel."""
    counts = require_scipy("signal").fftconvolve(region.astype(np.float64), ball.astype(np.float64), mode="same")
    return np.rint(counts).astype(np.int64)
