"""Both kinds of intensity scale, and a scan's map onto either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lesioncore.preprocess.intensity import IntensityMap, IntensityScale
from lesioncore.preprocess.tissue_regions import tissue_regions_at
from lesioncore.preprocess.tissue_scale import TissueScale

Scale: TypeAlias = IntensityScale | TissueScale
"""Landmarks of the whole brain, or tissues at places that a registration to the template knows."""


def scale_from_dict(data: Mapping[str, Any]) -> Scale:
    """Read what `to_dict` of either kind gives; ``ValueError`` if it is neither."""
    return TissueScale.from_dict(data) if "densities" in data else IntensityScale.from_dict(data)


def match_scale(
    scale: Scale, volume: Tensor, brain: Tensor, voxel_to_template: npt.NDArray[np.float64] | None
) -> IntensityMap:
    """Make the map that brings a scan's intensities to a scale.

    Parameters
    ----------
    scale : IntensityScale or TissueScale
        The scale.
    volume, brain : Tensor
        ``[X, Y, Z]``: the scan, and its brain (bool).
    voxel_to_template : ndarray or None
        ``[4, 4]``, from voxel indices to the template's mm.

    Raises
    ------
    ValueError
        If the scale wants a registered scan and this is none, or as the scale's own `match`.
    """
    values = volume[brain]
    if isinstance(scale, IntensityScale):
        return scale.match(values)
    return scale.match(values, regions_of(brain, voxel_to_template))


def regions_of(brain: Tensor, voxel_to_template: npt.NDArray[np.float64] | None) -> npt.NDArray[np.int16]:
    """Region of each voxel of a brain ``[X, Y, Z]``, flat (:func:`~lesioncore.preprocess.tissue_regions_at`)."""
    if voxel_to_template is None:
        raise ValueError(
            "preprocess: the prior's intensity scale is one of tissues at known places, which a scan has after the step"
            " 'register' alone; preprocess as the prior was trained"
        )
    places = brain.nonzero().numpy() @ voxel_to_template[:3, :3].T + voxel_to_template[:3, 3]
    return tissue_regions_at(places)
