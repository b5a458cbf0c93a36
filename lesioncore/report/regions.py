"""Names of places in the template's space, by the packaged atlas (``atlas/README.md``)."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt

from lesioncore.preprocess.template import nearest_labels

Side = Literal["left", "right", "both"]

_ONE_SIDE = (
    0.9  # share of a body's voxels that must lie on one side; the midline of a registered brain errs by 1 or 2 mm
)


@dataclass(frozen=True)
class Region:
    """A region of the atlas.

    Attributes
    ----------
    number : int
        Its number in the atlas, from 1 on.
    name : str
        Such as "frontal lobe, white matter", without a side.
    paired : bool
        Whether there is one on each side; the third ventricle is not.
    """

    number: int
    name: str
    paired: bool

    def on(self, side: Side | None) -> str:
        """The name with a side, for paired regions: "left thalamus", "thalamus, both sides"."""
        if not self.paired or side is None:
            return self.name
        return f"{self.name}, both sides" if side == "both" else f"{side} {self.name}"


@dataclass(frozen=True, eq=False)
class RegionAtlas:
    """Regions on the grid of :func:`lesioncore.preprocess.template.brain_template`.

    Attributes
    ----------
    numbers : ndarray
        ``[X, Y, Z]`` uint8, the same on both sides; 0 more than 6 mm beyond the brain.
    regions : tuple of Region
        By number, the first for 1.
    affine : ndarray
        ``[4, 4]``, voxel indices to MNI millimetres.
    """

    numbers: npt.NDArray[np.uint8]
    regions: tuple[Region, ...]
    affine: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Location:
    """Where a body lies.

    Attributes
    ----------
    region : str or None
        The region, with its side, that most of the voxels are in; None where all lie beyond the atlas.
    share : float
        Share of the voxels that are in it, 0 to 1.
    side : {"left", "right", "both"}
        Where nine tenths of all voxels lie, whatever their region.
    """

    region: str | None
    share: float
    side: Side

    def __str__(self) -> str:
        return "outside the atlas" if self.region is None else f"{self.region}, {100 * self.share:.0f} %"


@lru_cache(maxsize=1)
def region_atlas() -> RegionAtlas:
    """Read the packaged atlas (a few milliseconds, then cached); its arrays cannot be written to."""
    folder = resources.files("lesioncore.report") / "atlas"
    image = nib.nifti1.Nifti1Image.from_bytes(gzip.decompress((folder / "dseg.nii.gz").read_bytes()))
    rows = [row.split("\t") for row in (folder / "dseg.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    atlas = RegionAtlas(
        numbers=np.asarray(image.dataobj),
        regions=tuple(Region(int(number), name, int(sides) == 2) for number, name, sides in rows),
        affine=np.asarray(image.affine, dtype=np.float64),
    )
    for array in (atlas.numbers, atlas.affine):
        array.flags.writeable = False
    return atlas


def region_numbers(points: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Look up places.

    Parameters
    ----------
    points : ndarray
        ``[N, 3]``, template (MNI) millimetres.

    Returns
    -------
    ndarray
        ``[N]`` uint8, the nearest voxel's number; 0 beyond the atlas.

    Raises
    ------
    ValueError
        If the shape is another, or a number is not finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points: got shape {points.shape}, expected [N, 3]; give x, y, z of each in template mm")
    if not np.isfinite(points).all():
        raise ValueError("points: got numbers that are not finite, expected template mm; check the registration")
    return nearest_labels(region_atlas().numbers, points)


def region_at(point: Sequence[float] | npt.NDArray[np.floating]) -> str | None:
    """Name the region at a place.

    Parameters
    ----------
    point : sequence of float
        x, y, z in template (MNI) millimetres.

    Returns
    -------
    str or None
        Such as "left thalamus"; without a side on the midline and for what is one for both; None beyond the atlas.

    Raises
    ------
    ValueError
        As :func:`region_numbers`.
    """
    (number,) = region_numbers(np.asarray(point, dtype=np.float64)[None])
    side: Side | None = None if point[0] == 0 else "left" if point[0] < 0 else "right"
    return None if number == 0 else region_atlas().regions[number - 1].on(side)


def locate(points: npt.NDArray[np.floating]) -> Location:
    """Say where a body lies: the region of most of its voxels.

    Parameters
    ----------
    points : ndarray
        ``[N, 3]``, its voxels' places in template (MNI) millimetres.

    Raises
    ------
    ValueError
        If there is no point; and as :func:`region_numbers`.
    """
    numbers = region_numbers(points)
    if len(numbers) == 0:
        raise ValueError("points: got none, expected at least one; leave out empty bodies")
    counts = np.bincount(numbers, minlength=2)
    most = 1 + int(np.argmax(counts[1:]))
    if counts[most] == 0:
        return Location(None, 0.0, _side(points))
    region = region_atlas().regions[most - 1].on(_side(points[numbers == most]))
    return Location(region, float(counts[most] / len(numbers)), _side(points))


def _side(points: npt.NDArray[np.floating]) -> Side:
    """The side of nine tenths of the points; those on the midline are on neither."""
    least = _ONE_SIDE * len(points)
    if np.count_nonzero(points[:, 0] < 0) >= least:
        return "left"
    return "right" if np.count_nonzero(points[:, 0] > 0) >= least else "both"
