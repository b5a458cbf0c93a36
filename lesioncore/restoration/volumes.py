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
from lesioncore.data.nifti import check_image, load_image
from lesioncore.preprocess.external import is_tool, tool_mask

Volume = str | os.PathLike[str] | SpatialImage | np.ndarray | Tensor


def read_volume(volume: Volume, name: str = "volume") -> tuple[np.ndarray, np.ndarray | None]:
    """Float32 voxels as stored, and the affine of an image.

    Raises
    ------
    ValueError, TypeError
        As :func:`prepare`; `name` is what errors call the volume.
    """
    volume = load_image(volume) if isinstance(volume, (str, os.PathLike)) else volume
    if isinstance(volume, SpatialImage):
        image = check_image(volume, name)
        return image.get_fdata(dtype=np.float32), np.asarray(image.affine, dtype=np.float64)
    if not isinstance(volume, (np.ndarray, Tensor)):
        raise TypeError(
            f"{name}: got {type(volume).__name__}, expected a path, a nibabel image, a NumPy array or a torch tensor"
        )
    array = np.array(to_numpy(volume, name), dtype=np.float32, order="C")
    if array.size == 0:
        raise ValueError(f"{name}: got shape {array.shape}, expected at least one voxel along each axis")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ValueError(f"{name}: {bad} of {array.size} voxels are NaN or infinite; clean the scan first")
    return array, None


def brain_of(mask: Volume, values: np.ndarray, world: np.ndarray, affine: np.ndarray | None) -> npt.NDArray[np.bool_]:
    """The brain of a volume by a mask or a tool (:func:`read_mask`, :func:`lesioncore.preprocess.external.tool_mask`).

    `world` is the volume's voxel-to-world matrix (mm), `affine` the same where it is an image.
    """
    return tool_mask(mask, values, world) if is_tool(mask) else read_mask(mask, values.shape, affine)


def read_mask(
    mask: Volume, shape: tuple[int, ...], affine: np.ndarray | None, *, name: str = "mask"
) -> npt.NDArray[np.bool_]:
    """Read a mask that belongs to a volume; nonzero is in it.

    Parameters
    ----------
    mask : path, nibabel image, ndarray or Tensor
        The mask; fractional values are warned of.
    shape : tuple of int
        Shape of the volume.
    affine : ndarray or None
        The volume's 4 x 4 voxel-to-world matrix (mm), if it is an image.
    name : str
        What errors call the mask.

    Raises
    ------
    ValueError
        If it lies on another grid than the volume.
    TypeError
        If `mask` is of a kind not listed.
    """
    mask = load_image(mask) if isinstance(mask, (str, os.PathLike)) else mask
    if isinstance(mask, (np.ndarray, Tensor)) and mask.dtype in (np.bool_, torch.bool):
        voxels, mask_affine = np.array(to_numpy(mask, name), order="C"), None
    else:
        voxels, mask_affine = read_volume(mask, name)
    if voxels.shape != shape:
        raise ValueError(f"{name}: got shape {voxels.shape}, expected that of the volume, {shape}")
    # A tenth of a millimetre is far below any voxel and far above what headers lose to rounding.
    if affine is not None and mask_affine is not None and not np.allclose(affine, mask_affine, atol=0.1):
        raise ValueError(f"{name}: its affine differs from the volume's; resample it to the volume's grid first")
    if voxels.dtype != np.bool_ and (np.abs(voxels - np.rint(voxels)) > 0.01).any():  # scaled integers are rounded
        warnings.warn(
            f"{name}: has values that are no whole numbers, and every nonzero voxel counts as in it; threshold a map of"
            " probabilities first",
            stacklevel=2,
        )
    return voxels if voxels.dtype == np.bool_ else voxels != 0


def check_several(healthy: Sequence[Any], masks: Sequence[Any] | None) -> None:
    """Raise ``ValueError`` unless `healthy` is a list of scans, with a mask for each if there are any."""
    if isinstance(healthy, (str, os.PathLike)):
        raise ValueError(
            f"healthy: got {str(healthy)!r} alone, expected a list of scans, such as sorted(folder.glob(...))"
        )
    if len(healthy) == 0:
        raise ValueError("healthy: got no scans, expected at least one")
    if isinstance(masks, str):
        raise ValueError(f"masks: got {masks!r} alone, expected one for each scan; give [{masks!r}] * len(healthy)")
    if masks is not None and len(masks) != len(healthy):
        raise ValueError(f"masks: got {len(masks)}, expected one for each of {len(healthy)} scans")


def sources_of(scan: Path | None, mask: str | os.PathLike[str] | None) -> dict[str, Any]:
    """What a scan is read from (JSON-able): names of files and hashes of what they hold, or the mask's tool."""
    facts: dict[str, Any] = {}
    for what, source in (("Source", scan), ("Mask", mask)):
        path = None if source is None or is_tool(source) else Path(source)
        facts |= {what: source, f"{what}SHA256": None}
        if path is not None:
            facts |= {what: path.name, f"{what}SHA256": file_digest(path).hex()}
    return facts
