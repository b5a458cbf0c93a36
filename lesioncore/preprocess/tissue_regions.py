"""Tissue regions of the template: places that stay fluid, grey or white matter after affine registration."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lesioncore.preprocess.template import VOXEL_SIZE, brain_template, nearest_labels

TISSUES = ("fluid", "grey matter", "white matter")
"""Tissues of the regions."""

_BOX = 40.0  # mm, of a parcel; one is centred on the template's origin
_FEWEST_VOXELS = 60  # of a parcel
_FLUID, _GREY, _WHITE = 0.7, 0.7, 0.9  # least probability
_DEEP = 10.0  # mm below the surface, of fluid: even the tightest brain masks hold it


@lru_cache(maxsize=1)
def tissue_regions() -> npt.NDArray[np.int16]:
    """Label the template's voxels by tissue and place.

    Returns
    -------
    ndarray
        ``[X, Y, Z]`` on the grid of `brain_template`, read-only. 0 where affine registration does not tell the tissue;
        else `1 + 3 * box + tissue`, with `tissue` an index into `TISSUES` and `box` one of the boxes of 40 mm that the
        brain is cut into. Fluid is that of the ventricles and, as deep as these, of fissures; white matter
        is what is surrounded by white matter.
    """
    template = brain_template()
    labels = np.zeros(template.brain.shape, np.int16)
    fluid = template.grey + template.white < 1 - _FLUID
    labels[fluid & _eroded(template.brain, round(_DEEP / VOXEL_SIZE))] = 1
    labels[(template.grey > _GREY) & _eroded(template.brain, 1)] = 2
    labels[_eroded(template.white > _WHITE, 1)] = 3
    boxes = np.zeros((), np.int16)
    for axis in range(3):
        position = template.affine[axis, 3] + template.affine[axis, axis] * np.arange(labels.shape[axis])
        place = np.floor(position / _BOX + 0.5).astype(np.int16)
        place = (place - place.min()).reshape([-1 if other == axis else 1 for other in range(3)])
        boxes = boxes * np.int16(place.max() + 1) + place
    labels = np.where(labels > 0, labels + np.int16(len(TISSUES)) * boxes, np.int16(0))
    few = np.bincount(labels.ravel()) < _FEWEST_VOXELS
    labels[few[labels]] = 0
    labels.flags.writeable = False
    return labels


def tissue_regions_at(points: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """Look up regions at any places, such as those of a scan's own voxels once its registration is known.

    Parameters
    ----------
    points : ndarray
        ``[N, 3]``, template (MNI) millimetres.

    Returns
    -------
    ndarray
        ``[N]``, the nearest voxel's label in `tissue_regions`; 0 outside.
    """
    return nearest_labels(tissue_regions(), points)


def _eroded(mask: npt.NDArray[np.bool_], times: int) -> npt.NDArray[np.bool_]:
    """Remove the voxels that have a face on the mask's outside, `times` times."""
    for _ in range(times):
        padded = np.pad(mask, 1)
        inner = mask.copy()
        for axis in range(3):
            for start in (0, 2):
                around = [slice(1, -1)] * 3
                around[axis] = slice(start, start + mask.shape[axis])
                inner &= padded[tuple(around)]
        mask = inner
    return mask
