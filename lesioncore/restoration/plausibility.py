"""What speaks against a scan being a brain as its header places it: sizes, axes, volume, grey values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lesioncore.data.grid import SliceGrid
from lesioncore.data.orientation import Orientation
from lesioncore.preprocess.pipeline import LARGEST_BRAIN, SMALLEST_BRAIN, volume_ml
from lesioncore.preprocess.pose import CoarseBrain, coarse_template, turn_between, upright

_SMALLEST_VOXEL = 1 / 40  # of the prior's voxel size
_SMALLEST_EXTENT, _LARGEST_EXTENT = 1 / 8, 4  # of the prior's field of view: the longest of a brain
_FEWEST_GREY_VALUES = 32
_FEWEST_STEPS = 512  # of float32 from the dark to the bright tissue: an offset that leaves fewer coarsens the contrast
_SAMPLE = 10_000  # voxels that are looked at first
# Of the pairs of neighbours, label maps of 140 regions have .6 to .78 of one value, 8-bit scans at most .15, and scans
# that were enlarged without interpolation .54 and more. Of the others, .83 in label maps and at most .25 in such scans
# are far apart among the values that there are, since labels do not change by degrees.
_MOST_EQUAL, _FAR, _MOST_FAR = 0.4, 0.1, 0.5
_ADULT_FIELD = 150.0  # mm, of slices that hold an adult's brain: a prior of smaller ones is of other brains
_LARGEST_TILT = 4.0  # degrees, of a scan that is not registered
_LARGEST_TURN = 60.0  # degrees, by which no head lies otherwise than its header says
_LARGEST_SHEAR = 3.0  # degrees
_LARGEST_SPACING = 10.0  # mm
_CUT = 0.1  # of a brain's largest cross-section on an outer face of the scan: it goes on beyond


def check_size(orientation: Orientation, brain: npt.NDArray[np.bool_], grid: SliceGrid, name: str) -> None:
    """Refuse a scan that is far too small or large for a prior's grid, as one in metres or micrometres is.

    Parameters
    ----------
    orientation : Orientation
        Of the scan.
    brain : ndarray
        Bool, in RAS+ order.
    grid : SliceGrid
        The prior's grid.
    name : str
        What errors call the scan.

    Raises
    ------
    ValueError
        If a voxel's edge is less than a 40th of the grid's, or the brain's longest less than an eighth of the grid's
        field of view or more than four times as long.
    """
    sizes = orientation.voxel_size
    lengths = [
        size * np.ptp(np.flatnonzero(brain.any(axis=others))) + size
        for size, others in zip(sizes, ((1, 2), (0, 2), (0, 1)), strict=True)
    ]
    small = min(sizes) < _SMALLEST_VOXEL * grid.voxel_size
    shares = max(lengths) / max(grid.field_of_view)
    if small or not _SMALLEST_EXTENT <= shares <= _LARGEST_EXTENT:
        raise ValueError(
            f"{name}: got voxels of {_product(sizes)} mm and a brain of {_product(lengths)} mm, expected one that fills"
            f" slices of {_product(grid.field_of_view)} mm; check that the affine is in mm"
        )


def check_grey_values(volume: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_], name: str) -> None:
    """Refuse a brain of a few grey values or of labels, or whose contrast is lost beside its offset in float32.

    Parameters
    ----------
    volume, brain : ndarray
        Intensities and brain mask of a volume or of slices.
    name : str
        What errors call the scan.

    Raises
    ------
    ValueError
        If there are fewer than 32 different ones, or float32 has fewer than 512 steps between their first and their
        last percentile; or if most neighbours share a value and most others differ by more than a tenth of the values,
        as in label maps.
    """
    values = volume[brain]
    sample = values[:: 1 + len(values) // _SAMPLE]
    dark, bright = np.percentile(sample, (1, 99))
    if 0 < bright - dark < _FEWEST_STEPS * np.spacing(np.abs(sample).max()):
        raise ValueError(
            f"{name}: got {dark:.9g} to {bright:.9g} in the brain, whose contrast is lost beside the offset in float32;"
            " subtract the offset"
        )
    if len(np.unique(sample)) < _FEWEST_GREY_VALUES and len(found := np.unique(values)) < _FEWEST_GREY_VALUES:
        raise ValueError(
            f"{name}: got {len(found)} different values in the brain, {found[0]:g} to {found[-1]:g}, expected at least"
            f" {_FEWEST_GREY_VALUES}, as scans have; give no label map or mask"
        )
    if _has_labels(volume, brain):
        raise ValueError(
            f"{name}: got areas of one value in the brain beside others of far ones, expected grey values that change"
            " by degrees; give no label map"
        )


def _has_labels(volume: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_]) -> bool:
    """Whether the values of neighbours within the brain are those of a label map."""
    pairs = [
        (volume[first][both], volume[second][both])
        for first, second in _neighbours(volume.ndim)
        for both in [brain[first] & brain[second]]
    ]
    count, equal = sum(len(ones) for ones, _ in pairs), sum(np.count_nonzero(ones == others) for ones, others in pairs)
    if equal <= _MOST_EQUAL * count:
        return False
    levels = np.unique(volume[brain])
    apart = [np.abs(np.searchsorted(levels, ones) - np.searchsorted(levels, others)) for ones, others in pairs]
    return bool(sum(np.count_nonzero(ranks > _FAR * len(levels)) for ranks in apart) > _MOST_FAR * (count - equal))


def _neighbours(axes: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Views of all voxels but the last along an axis, and of all but the first, for each axis."""
    for axis in range(axes):
        around = (slice(None),) * axis
        yield (*around, slice(None, -1)), (*around, slice(1, None))


def doubts(
    values: npt.NDArray[np.float32],
    brain: npt.NDArray[np.bool_],
    orientation: Orientation,
    grid: SliceGrid,
    to_template: npt.NDArray[np.float64] | None,
) -> list[str]:
    """What is implausible about a scan, though it may be right.

    Parameters
    ----------
    values, brain : ndarray
        The scan and its brain, in RAS+ order.
    orientation : Orientation
        Its orientation.
    grid : SliceGrid
        The prior's grid.
    to_template : ndarray or None
        ``[4, 4]``, from its world to the template's, if its slices are the template's; None if they lie along its own
        axes.

    Returns
    -------
    list of str
        Phrases that join to a sentence; empty where nothing is.
    """
    found = []
    millilitres = volume_ml(brain, orientation.ras_affine)
    of_adults = min(grid.field_of_view) >= _ADULT_FIELD
    usual = SMALLEST_BRAIN <= millilitres <= LARGEST_BRAIN
    if of_adults and not usual and (millilitres > LARGEST_BRAIN or not _cut(brain)):
        found.append(f"its brain has {millilitres:.0f} ml, an adult's {SMALLEST_BRAIN:g} to {LARGEST_BRAIN:g}")
    if max(orientation.voxel_size) > _LARGEST_SPACING:
        found.append(f"its voxels are {max(orientation.voxel_size):g} mm apart, and what lies between them is not seen")
    if to_template is not None:
        turn = turn_between(to_template, np.eye(4))
        if turn > _LARGEST_TURN:
            found.append(f"its head lies turned by {turn:.0f} degrees from where its header says, with left and right")
        return found
    axes = orientation.ras_affine[:3, :3] / orientation.voxel_size
    tilt = turn_between(np.pad(axes, (0, 1)), np.eye(4))
    if tilt > _LARGEST_TILT:
        found.append(f"its axes are turned by {tilt:.0f} degrees, which only the step 'register' takes into account")
    cosines = axes.T @ axes - np.eye(3)
    shear = float(np.rad2deg(np.arcsin(np.abs(cosines).max())))
    if shear > _LARGEST_SHEAR:
        found.append(f"its axes are {shear:.0f} degrees off right angles, which only the step 'register' evens out")
    if of_adults and usual and not upright(CoarseBrain.of(values, orientation.ras_affine, brain), coarse_template()):
        found.append("its brain looks as if axes were reversed or exchanged in its header, such as front and back")
    return found


def _cut(brain: npt.NDArray[np.bool_]) -> bool:
    """Whether a brain goes on beyond an outer face of the scan."""
    for axis in range(3):
        areas = np.count_nonzero(brain, axis=tuple(other for other in range(3) if other != axis))
        if max(areas[0], areas[-1]) > _CUT * areas.max():
            return True
    return False


def _product(lengths: Sequence[float | np.floating]) -> str:
    return " x ".join(f"{length:.3g}" for length in lengths)
