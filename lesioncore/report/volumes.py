"""Scan and score as small images for the viewer in a page."""

from __future__ import annotations

import base64
import gzip
import math
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import numpy.typing as npt

from lesioncore.data.orientation import Orientation
from lesioncore.report.saved import SavedResult

_MARGIN = 10.0  # mm around the brain
_LARGEST = 6_000_000  # voxels; finer scans are averaged, so that a page stays below 10 MB
_LEVELS = 255


@dataclass(frozen=True)
class ViewerImage:
    """An image for the viewer.

    Attributes
    ----------
    base64 : str
        A compressed NIfTI file of uint8 with slope and intercept.
    low, high : float
        The values of its lowest and its highest level.
    """

    base64: str
    low: float
    high: float


def viewer_images(saved: SavedResult, maximum: float) -> tuple[ViewerImage, ViewerImage]:
    """Scan and score around the brain, in 256 levels.

    Parameters
    ----------
    saved : SavedResult
        A saved restoration.
    maximum : float
        Score of the highest level; what lies above counts as it.

    Returns
    -------
    scan, score : ViewerImage
        On one grid in RAS+ order, that of the scan where it has at most 6 million voxels around the brain; elsewhere
        means of 2 or more voxels along each axis.
    """
    orientation = Orientation.from_affine(saved.affine, saved.scan.shape)
    brain = orientation.to_ras(saved.brain)
    box, affine = _box(brain, orientation.ras_affine, orientation.voxel_size)
    scan, score = (orientation.to_ras(values)[box] for values in (saved.scan, saved.score))
    factor = math.ceil((scan.size / _LARGEST) ** (1 / 3))
    scan, score = _mean(scan, factor), _mean(score, factor)
    affine = affine @ np.diag([factor, factor, factor, 1.0])
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (factor - 1) / (2 * factor))
    inside = saved.scan[saved.brain]
    low, high = float(min(saved.scan.min(), inside.min())), float(np.percentile(inside, 99.9))
    return _encode(scan, affine, low, high), _encode(score, affine, 0.0, maximum)


def _box(
    brain: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64], voxel_size: tuple[float, float, float]
) -> tuple[tuple[slice, ...], npt.NDArray[np.float64]]:
    """The brain's bounding box with a margin, and the voxel-to-world matrix of what it cuts out."""
    box = []
    for axis in range(3):
        filled = np.flatnonzero(brain.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = round(_MARGIN / voxel_size[axis])
        box.append(slice(max(0, int(filled[0]) - margin), min(brain.shape[axis], int(filled[-1]) + 1 + margin)))
    cut = affine.copy()
    cut[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return tuple(box), cut


def _mean(values: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """Means of cubes; what is left over at the far ends is dropped."""
    if factor == 1:
        return values
    x, y, z = (length // factor for length in values.shape)
    cubes = values[: x * factor, : y * factor, : z * factor].reshape(x, factor, y, factor, z, factor)
    means: npt.NDArray[np.float32] = cubes.mean(axis=(1, 3, 5))
    return means


def _encode(values: npt.NDArray[np.float32], affine: npt.NDArray[np.float64], low: float, high: float) -> ViewerImage:
    slope = (high - low) / _LEVELS or 1.0
    levels = np.clip(np.rint((values - low) / slope), 0, _LEVELS).astype(np.uint8)
    image = nib.nifti1.Nifti1Image(levels, affine)
    image.header.set_slope_inter(slope, low)
    image.header.set_xyzt_units("mm")
    # No time of writing, so that the same results give the same page.
    packed = gzip.compress(image.to_bytes(), 6, mtime=0)
    return ViewerImage(base64.b64encode(packed).decode("ascii"), low, low + slope * _LEVELS)
