"""Reading of volumes and masks: paths, images, arrays and tensors."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from lesioncore.data.arrays import to_numpy
from lesioncore.data.files import file_digest
from lesioncore.data.geometry import SAME_GRID, corner_distance
from lesioncore.data.names import contrast_of, several
from lesioncore.data.nifti import check_image, load_image, open_image, voxels_of
from lesioncore.preprocess.external import is_tool, tool_mask
from lesioncore.preprocess.pipeline import volume_ml

_LEAST_BRAIN, _LEAST_SHARE = 100.0, 0.03
"""Volume in ml and share of the scan's box that a brain mask has one of: a slab of a few slices has little volume."""

Volume = str | os.PathLike[str] | SpatialImage | np.ndarray | Tensor


def read_volume(volume: Volume, name: str = "volume", *, masked: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the float32 voxels of a scan in storage order, and the affine (mm) if it is an image.

    NaN of a volume are kept: :func:`lesioncore.preprocess.pipeline.preprocess` takes them for background. So are
    infinite voxels, as NaN, where there is a brain mask, which may leave them out.

    Parameters
    ----------
    volume : path, nibabel image, ndarray or Tensor
        The volume.
    name : str
        Name of the volume in errors.
    masked : bool
        Whether a brain mask is given beside it.

    Raises
    ------
    ValueError
        If the image cannot be used, an array has no voxels, all are NaN, or, without a mask, some are infinite or
        slices have NaN.
    TypeError
        If `volume` is of a kind not listed.

    Warns
    -----
    UserWarning
        If voxels are NaN or infinite.
    """
    values, affine = _read(volume, name, allow_infinite=masked)
    infinite = np.isinf(values)
    kind = "NaN or infinite" if infinite.any() else "NaN"
    values = np.where(infinite, np.float32(np.nan), values) if infinite.any() else values
    missing = int(np.count_nonzero(np.isnan(values)))
    if missing == values.size:
        raise ValueError(f"{name}: got nothing but {kind}, expected intensities")
    if missing and values.ndim == 4 and not masked:
        raise ValueError(
            f"{name}: got {missing} NaN in slices, expected none; set them to the background's z-score, or give a mask"
            " that leaves them out"
        )
    if missing:
        file = volume.get_filename() if isinstance(volume, SpatialImage) else None
        warnings.warn(f"{file or name}: {missing} voxels are {kind} and count as background", stacklevel=2)
    return values, affine


def _read(volume: Volume, name: str, allow_infinite: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
    volume = load_image(volume, allow_infinite=allow_infinite) if isinstance(volume, (str, os.PathLike)) else volume
    if isinstance(volume, SpatialImage):
        image = check_image(volume, volume.get_filename() or name, allow_infinite=allow_infinite)
        return voxels_of(image), np.asarray(image.affine, dtype=np.float64)
    if not isinstance(volume, (np.ndarray, Tensor)):
        raise TypeError(
            f"{name}: got {type(volume).__name__}, expected a path, a nibabel image, a NumPy array or a torch tensor"
        )
    array = np.array(to_numpy(volume, name), dtype=np.float32, order="C")
    if array.size == 0:
        raise ValueError(f"{name}: got shape {array.shape}, expected at least one voxel along each axis")
    bad = 0 if allow_infinite else int(np.count_nonzero(np.isinf(array)))
    if bad:
        raise ValueError(
            f"{name}: {bad} of {array.size} voxels are infinite; clean the scan first, or give a brain mask that leaves"
            " them out"
        )
    return array, None


def brain_of(mask: Volume, values: np.ndarray, world: np.ndarray, affine: np.ndarray | None) -> npt.NDArray[np.bool_]:
    """Brain of a volume by a mask (:func:`read_mask`) or a tool (:func:`lesioncore.preprocess.external.tool_mask`).

    `values` are the volume's voxels, `world` is its voxel-to-world matrix (mm), and `affine` the same matrix if it is
    known.

    Raises
    ------
    ValueError
        As :func:`read_mask`, or if the mask is far too small for a brain, as one of lesions is.
    """
    if is_tool(mask):
        return tool_mask(mask, np.nan_to_num(values), world)
    brain = read_mask(mask, values.shape, affine)
    _check_brain(brain, world)
    return brain


def check_brain_mask(mask: Path, scan: Path) -> None:
    """Check the file of a brain mask beside its scan, whose voxels are not read; errors are those of :func:`brain_of`.

    A scan that cannot be opened is left to whoever reads it.
    """
    try:
        image = open_image(scan)
    except (OSError, ValueError):
        return
    shape, affine = (*image.shape, 1)[:3], np.asarray(image.affine, dtype=np.float64)
    _check_brain(read_mask(mask, shape, affine), affine)


def _check_brain(brain: npt.NDArray[np.bool_], world: np.ndarray) -> None:
    """Raise ``ValueError`` if a mask is empty, or far too small for the brain, also that of a few slices."""
    if not brain.any():
        raise ValueError("mask: no voxel is brain; check that it belongs to this scan")
    if (size := volume_ml(brain, world)) < _LEAST_BRAIN and brain.mean() < _LEAST_SHARE:
        raise ValueError(
            f"mask: got {size:.3g} ml, {100 * brain.mean():.2g} % of the scan, expected the whole brain; is it a mask"
            " of lesions? Give the brain's, or none to have the brain found"
        )


def read_mask(
    mask: Volume, shape: tuple[int, ...], affine: np.ndarray | None, *, name: str = "mask"
) -> npt.NDArray[np.bool_]:
    """Read the mask of a volume; voxels that are not 0 are in it.

    What is at most a hundredth of 1, or of the largest value where that is smaller, counts as 0.

    Parameters
    ----------
    mask : path, nibabel image, ndarray or Tensor
        The mask.
    shape : tuple of int
        Shape of the volume.
    affine : ndarray or None
        The volume's 4 x 4 voxel-to-world matrix (mm), if it is known.
    name : str
        Name of the mask in errors.

    Raises
    ------
    ValueError
        If it lies on another grid than the volume, or has NaN.
    TypeError
        If `mask` is of a kind not listed.

    Warns
    -----
    UserWarning
        If the mask has values that are not whole numbers.
    """
    mask = load_image(mask) if isinstance(mask, (str, os.PathLike)) else mask
    if isinstance(mask, (np.ndarray, Tensor)) and mask.dtype in (np.bool_, torch.bool):
        voxels, mask_affine = np.array(to_numpy(mask, name), order="C"), None
    else:
        voxels, mask_affine = _read(mask, name)
        if np.isnan(voxels).any():
            raise ValueError(
                f"{name}: got {np.count_nonzero(np.isnan(voxels))} NaN voxels, expected none; set them to 0"
            )
    if voxels.shape != shape:
        raise ValueError(f"{name}: got shape {voxels.shape}, expected that of the volume, {shape}")
    if affine is not None and mask_affine is not None:
        apart = corner_distance(mask_affine, affine, shape)
        if apart > SAME_GRID:
            raise ValueError(
                f"{name}: its affine differs from the volume's, by which a corner of it lies {apart:.2g} voxels away,"
                f" expected at most {SAME_GRID:g}; resample it to the volume's grid first"
            )
    if voxels.dtype == np.bool_:
        return voxels
    # The tolerance allows for the rounding of scaled integers.
    if (np.abs(voxels - np.rint(voxels)) > 0.01).any():
        warnings.warn(
            f"{name}: has values that are no whole numbers, and every nonzero voxel counts as in it; threshold a map of"
            " probabilities first",
            stacklevel=2,
        )
    size = np.abs(voxels)
    # Scaling and resampling leave traces of numbers where the background was 0.
    return size > 0.01 * min(1.0, float(size.max()))


def check_several(healthy: Sequence[Any], masks: Sequence[Any] | None) -> None:
    """Raise ``ValueError`` unless `healthy` lists scans, of one contrast by names, and `masks` is None or as long."""
    if isinstance(healthy, (str, os.PathLike)):
        raise ValueError(
            f"healthy: got {str(healthy)!r} alone, expected a list of scans, such as sorted(folder.glob(...))"
        )
    if len(healthy) == 0:
        raise ValueError("healthy: got no scans, expected at least one")
    mixed = several(contrast_of(Path(scan)) for scan in healthy if isinstance(scan, (str, os.PathLike)))
    if mixed:
        raise ValueError(
            f"healthy: got scans of {mixed} by their names, expected one contrast; give those of one alone"
        )
    if isinstance(masks, str):
        raise ValueError(f"masks: got {masks!r} alone, expected one for each scan; give [{masks!r}] * len(healthy)")
    if masks is not None and len(masks) != len(healthy):
        raise ValueError(f"masks: got {len(masks)}, expected one for each of {len(healthy)} scans")


def sources_of(scan: Path | None, mask: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Names and SHA-256 hashes of a scan's and its mask's files, or the name of the mask's tool (JSON-able)."""
    facts: dict[str, Any] = {}
    for role, source in (("Source", scan), ("Mask", mask)):
        path = None if source is None or is_tool(source) else Path(source)
        facts |= {role: source, f"{role}SHA256": None}
        if path is not None:
            facts |= {role: path.name, f"{role}SHA256": file_digest(path).hex()}
    return facts
