"""Hausdorff distance between the surfaces of a detection and of the lesions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lesioncore.data.arrays import Array
from lesioncore.metrics.base import Bools, UndefinedMetricError, masked_labels, require_scipy


def hausdorff(
    prediction: Array,
    truth: Array,
    voxel_size: Sequence[float],
    *,
    percentile: float = 95,
    mask: Array | None = None,
) -> float:
    """Hausdorff distance between the surfaces of a detection and of the lesions, or a percentile of it.

    A surface is the voxels of a region with a face at its outside; what lies beyond the array is outside. From each of
    them the distance to the nearest of the other surface is measured between centres. The result is the larger of the
    two directed percentiles (interpolated linearly), as in MONAI. MedPy pools both directions before it takes the
    percentile, and so lets a large surface that is well placed hide a small one that is not.

    Parameters
    ----------
    prediction, truth : numpy.ndarray or torch.Tensor
        Bool or 0/1, of the same shape with spatial axes alone: `[D, H, W]`, or `[H, W]` for a single slice.
    voxel_size : sequence of float
        Millimetres along each axis.
    percentile : float
        In [0, 100]; 100 for the Hausdorff distance itself.
    mask : numpy.ndarray or torch.Tensor, optional
        Same shape, bool or 0/1: both regions are cut to it.

    Returns
    -------
    float
        Millimetres; 0 where there is neither a lesion nor a detection.

    Raises
    ------
    ValueError
        If shapes or values are not those expected.
    UndefinedMetricError
        If there is a lesion or a detection but not both: no distance says how wrong that is. Leave such subjects out
        (NaN in `bootstrap_mean`) and report their number.
    ImportError
        If scipy is missing.
    """
    detected, lesions = masked_labels(prediction, truth, mask)
    spacing = [float(size) for size in voxel_size]
    if len(spacing) != detected.ndim or not all(0 < size < math.inf for size in spacing):
        raise ValueError(
            f"voxel_size: got {spacing}, expected {detected.ndim} positive lengths for the shape {detected.shape}"
        )
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile: got {percentile}, expected a number in [0, 100]")
    if not detected.any() and not lesions.any():
        return 0.0
    if not detected.any() or not lesions.any():
        raise UndefinedMetricError(
            f"the Hausdorff distance needs detected and lesion voxels, got {np.count_nonzero(detected)} and "
            f"{np.count_nonzero(lesions)}"
        )
    ndimage = require_scipy("ndimage")
    (box,) = ndimage.find_objects((detected | lesions).astype(np.uint8))
    first, second = (region[box] & ~ndimage.binary_erosion(region[box]) for region in (detected, lesions))

    def directed(start: Bools, end: Bools) -> float:
        return float(np.percentile(ndimage.distance_transform_edt(~end, spacing)[start], percentile))

    return max(directed(first, second), directed(second, first))
