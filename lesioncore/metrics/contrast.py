"""Contrast of a lesion with the healthy tissue around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.metrics.base import UndefinedMetricError, as_bool, require_scipy, shared_mask


def lesion_contrast(
    values: Array, truth: Array, mask: Array, voxel_size: Sequence[float], *, distance: float = 10.0
) -> float:
    """Mean of a lesion minus that of its healthy surroundings, in standard deviations of the healthy brain.

    Parameters
    ----------
    values, truth, mask : numpy.ndarray or torch.Tensor
        Intensities of a scan, its lesion and its brain (bool or 0/1), of the same shape.
    voxel_size : sequence of float
        Millimetres along each axis.
    distance : float
        Surroundings are the brain outside the lesion within so many millimetres of it.

    Returns
    -------
    float
        Positive for a lesion that is brighter than what is around it.

    Raises
    ------
    ValueError
        If shapes or values are not those expected.
    UndefinedMetricError
        If the lesion or its surroundings have no voxel, or the healthy brain has no spread.
    ImportError
        If scipy is missing.
    """
    intensities, lesion = to_numpy(values, "values").astype(np.float64), as_bool(truth, "truth")
    brain = shared_mask(mask, values=intensities, truth=lesion)
    lesion, healthy = lesion & brain, brain & ~lesion
    if not lesion.any():
        raise UndefinedMetricError("the contrast needs lesion voxels, got none")
    # Distances are computed in the box that the surroundings lie in.
    box = tuple(
        slice(max(0, int(places.min()) - margin), int(places.max()) + margin + 1)
        for places, margin in zip(lesion.nonzero(), (int(distance / size) for size in voxel_size), strict=True)
    )
    near = require_scipy("ndimage").distance_transform_edt(~lesion[box], sampling=voxel_size) <= distance
    around = healthy[box] & near
    spread = float(intensities[healthy].std()) if healthy.any() else 0.0
    if not around.any() or spread == 0:
        raise UndefinedMetricError("the contrast needs healthy brain around the lesion that is not all of one value")
    return float(intensities[lesion].mean() - intensities[box][around].mean()) / spread
