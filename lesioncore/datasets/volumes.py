"""Masks from label maps, scans from Analyze pairs, and whether they share a grid."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.spatialimages import SpatialImage

from lesioncore.data.geometry import SAME_GRID, corner_distance
from lesioncore.data.nifti import load_image, open_image, save_image


def write_mask(sources: Sequence[Path], labels: Sequence[int], known: Sequence[int], target: Path) -> int:
    """Write a mask as uint8 on the grid of its sources.

    Parameters
    ----------
    sources : sequence of Path
        Masks or label maps on one grid; the mask is the union.
    labels : sequence of int
        Labels that are in the mask; where there are none, voxels above one half are.
    known : sequence of int
        Labels that a map may have, beside 0; any values where empty.
    target : Path
        File to write.

    Returns
    -------
    int
        Number of voxels in the mask.

    Raises
    ------
    ValueError
        If a source is damaged, has a label that is not known, or another grid than the first.
    """
    images = [load_image(source) for source in sources]
    inside = np.zeros(images[0].shape, dtype=bool)
    for source, image in zip(sources, images, strict=True):
        if not _same(images[0], image):
            raise ValueError(f"{source}: lies on another grid than {sources[0].name}, expected masks of one scan")
        values = image.get_fdata(dtype=np.float32)
        if known:
            exact, values = values, np.rint(values)  # scaled integers are rounded
            strange = ~np.isin(values, (0, *known)) | (np.abs(exact - values) > 0.01)
            if strange.any():
                raise ValueError(
                    f"{source}: got the label {exact[strange][0]:g}, expected {', '.join(map(str, (0, *known)))}; it"
                    " may be of another release, or not a label map"
                )
        inside |= np.isin(values, labels) if labels else values > 0.5
    save_image(inside, images[0].affine, target, header=images[0].header, dtype=np.uint8)
    return int(np.count_nonzero(inside))


def write_from_analyze(header: Path, axes: str, target: Path) -> None:
    """Write an Analyze pair as NIfTI; voxels keep their order and values.

    Parameters
    ----------
    header : Path
        The ``.hdr`` file.
    axes : str
        Where the voxel indices lead, such as ``ASL``; the origin is the middle of the volume.
    target : Path
        File to write.

    Raises
    ------
    ValueError
        If the pair is damaged or no volume.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is an Analyze file without orientation")  # `axes` gives it
        image = load_image(header)
    signs = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3] = 0
    for axis, letter in enumerate(axes):
        row, sign = signs[letter]
        affine[row, axis] = sign * float(image.header.get_zooms()[axis])
    affine[:3, 3] = -affine[:3, :3] @ np.asarray(image.shape[:3]) / 2
    values = image.get_fdata(dtype=np.float32)
    whole = bool(np.array_equal(values, np.rint(values))) and np.abs(values).max() < 2**15
    save_image(values, affine, target, dtype=np.int16 if whole else np.float32)


def same_grid(first: Path, second: Path) -> bool:
    """Whether two images lie on one grid, by their headers.

    Raises
    ------
    ValueError
        If one of them is no image.
    """
    return _same(open_image(first), open_image(second))


def _same(first: SpatialImage, second: SpatialImage) -> bool:
    shape = first.shape[:3]
    return shape == second.shape[:3] and corner_distance(second.affine, first.affine, shape) <= SAME_GRID
