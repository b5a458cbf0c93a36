"""Checks of where an image's header says that its voxels lie, and of whether two images share a grid."""

from __future__ import annotations

import os
import warnings
from itertools import product

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from lesioncore.data.arrays import NumpyArray

SAME_GRID = 0.25
"""Distance, in voxels, within which the corners of two images have to lie for both to be on one grid: far more than
headers lose to rounding, and too little for any voxel to be taken for its neighbour."""

# NIfTI xyzt_units: the low three bits are the unit of space (0 unknown, 1 metre, 2 millimetre, 3 micrometre).
_SPACE_UNIT_BITS = 0x07
_UNITS_OTHER_THAN_MM = {1: "metres", 3: "micrometres"}
_SAME_SIZE = 0.01


def corner_distance(first: NumpyArray, second: NumpyArray, shape: tuple[int, ...]) -> float:
    """Largest distance between the places of one corner of a volume by two affines, in voxels of the second.

    Parameters
    ----------
    first, second : numpy.ndarray
        `[4, 4]`, voxel indices to mm, invertible.
    shape : tuple of int
        Shape of the volume, `[X, Y, Z]`.
    """
    corners = np.array([[*corner, 1.0] for corner in product(*((0, length - 1) for length in shape))])
    apart = (corners @ (first - second).T)[:, :3] @ np.linalg.inv(second[:3, :3]).T
    return float(np.linalg.norm(apart, axis=1).max())


def check_affine(affine: NumpyArray, name: str) -> None:
    """Raise `ValueError` unless a matrix is a finite affine `[4, 4]` that can be inverted."""
    if affine.shape != (4, 4) or not np.all(np.isfinite(affine)) or not np.array_equal(affine[3], [0, 0, 0, 1]):
        raise ValueError(f"{name}: got {affine.tolist()}, expected a finite [4, 4] affine with last row 0 0 0 1")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of the axes' directions is the volume they span: 1 when orthogonal, 0 when they share a plane.
    if np.any(lengths == 0) or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise ValueError(
            f"{name}: got {affine[:3].tolist()}, expected one that can be inverted: an axis is zero or lies in the "
            f"plane of the others; repair the header's qform or sform"
        )


def check_header(image: SpatialImage, name: str) -> None:
    """Check that a header has one affine in millimetres.

    Raises
    ------
    ValueError
        If the affine cannot be inverted, or has another unit than the millimetre.

    Warns
    -----
    UserWarning
        If the orientation is a guess, or a NIfTI header has two that differ in voxel sizes or in what is left.
    """
    if image.affine is None:
        raise ValueError(f"{name}: got no affine, expected one that maps voxels to mm")
    check_affine(np.asarray(image.affine, dtype=np.float64), f"{name}: affine")
    header = image.header
    if isinstance(header, nib.Nifti1Header):
        unit = _UNITS_OTHER_THAN_MM.get(int(header["xyzt_units"]) & _SPACE_UNIT_BITS)
        if unit is not None:
            raise ValueError(f"{name}: got an affine in {unit} (xyzt_units), expected mm; scale the affine by hand")
    for doubt in _doubts(image):
        warnings.warn(f"{name} {doubt}", stacklevel=2)  # one place: Python shows a file that is checked again once


def check_stored_sizes(image: SpatialImage, name: str) -> None:
    """Raise `ValueError` if a NIfTI file's affine rests on a voxel size of 0, which nibabel reads as 1 mm."""
    if not isinstance(image.header, nib.Nifti1Header) or int(image.header["sform_code"]) > 0:
        return
    holder = image.file_map.get("header", image.file_map["image"])  # of a pair, the header is a file of its own
    with holder.get_prepare_fileobj("rb") as file:
        stored = type(image.header).from_fileobj(file, check=False)
    sizes = stored["pixdim"][1 : 1 + min(3, len(image.shape))]
    if np.any(sizes == 0):
        raise ValueError(
            f"{name}: got the voxel sizes {', '.join(f'{size:g}' for size in sizes)} mm (pixdim) and no sform, expected"
            f" positive ones; write the true sizes into the header"
        )


def _doubts(image: SpatialImage) -> list[str]:
    """What leaves doubt of where an image's voxels lie, as predicates of sentences."""
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        matrix = image.file_map.get("mat")  # the file beside an Analyze pair in which SPM keeps the affine
        if not isinstance(image, nib.AnalyzeImage) or (matrix and os.path.exists(matrix.filename or "")):
            return []
        return [
            "is an Analyze file without orientation: its axes are taken as right to left, back to front and bottom to"
            " top, as in SPM; convert it to NIfTI if they do not"
        ]
    codes = int(header["sform_code"]), int(header["qform_code"])
    if codes == (0, 0):
        return [
            "has neither qform nor sform, so its orientation is unknown: its third axis is taken as inferior to"
            " superior. Results are wrong if it is not"
        ]
    if codes[0] == 0:
        return []
    doubts = []
    sform = header.get_sform()
    sizes, stored = np.linalg.norm(sform[:3, :3], axis=0), np.array(header.get_zooms()[:3])
    if len(stored) == 3 and np.any(np.abs(sizes / stored - 1) > _SAME_SIZE):
        first, second = (" x ".join(f"{size:.4g}" for size in which) for which in (sizes, stored))
        doubts.append(
            f"has voxels of {first} mm by its sform, but of {second} mm by its pixdim: those of the sform are taken."
            " Volumes and detections are wrong if it is the other way"
        )
    mirrored = header["pixdim"][0] < 0
    if codes[1] and (np.linalg.det(sform[:3, :3]) < 0) != mirrored:
        doubts.append(
            "has left and right exchanged between its sform and its qform: those of the sform are taken; repair the one"
            " that is wrong"
        )
    return doubts
