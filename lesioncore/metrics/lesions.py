"""Lesion-wise counts by connected components: lesions that are found, and detections that are lesions.

A true lesion is found if the detection covers a share of at least `overlap` of its volume, and one voxel at least; a
detected component is true if a share of at least `overlap` of its own volume lies in lesions, and one voxel at least.
With the default of a tenth these are the rule and the threshold of MSSEG (Commowick et al., Scientific Reports 8:13650,
2018) and MSSEG-2, which also swap the roles for the precision and remove small components from both sides first. Their
further rule against a detection that spreads far beyond the lesion is left out: such a detection already fails the
second half of the rule above. ISLES'22 counts any shared voxel (`overlap=0`), which a scattered map of false positives
meets by chance; its 26 neighbours are the default here. Neither asks for a one-to-one match: a detection may find
several lesions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lesioncore.data.arrays import Array
from lesioncore.metrics.base import Bools, Counts, Floats, UndefinedMetricError, masked_labels, require_scipy


@dataclass(frozen=True)
class LesionCounts:
    """Counts of lesions and of detected components. The sum of two is the count of both together.

    Attributes
    ----------
    found, missed : int
        True lesions.
    true_detections, false_detections : int
        Detected components.
    """

    found: int
    missed: int
    true_detections: int
    false_detections: int

    def __add__(self, other: LesionCounts) -> LesionCounts:
        return LesionCounts(
            self.found + other.found,
            self.missed + other.missed,
            self.true_detections + other.true_detections,
            self.false_detections + other.false_detections,
        )

    @property
    def recall(self) -> float:
        """Share of the lesions that are found; an `UndefinedMetricError` without lesions."""
        if self.found + self.missed == 0:
            raise UndefinedMetricError("the recall needs lesions, got none")
        return self.found / (self.found + self.missed)

    @property
    def precision(self) -> float:
        """Share of the detected components that are lesions; an `UndefinedMetricError` without detections."""
        if self.true_detections + self.false_detections == 0:
            raise UndefinedMetricError("the precision needs detected components, got none")
        return self.true_detections / (self.true_detections + self.false_detections)

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision, always defined as `dice` is.

        1 where there is neither a lesion nor a detection, and 0 where there is one without the other.
        """
        if self == LesionCounts(0, 0, 0, 0):
            return 1.0
        if self.found == 0 or self.true_detections == 0:
            return 0.0
        return 2 * self.recall * self.precision / (self.recall + self.precision)


class LesionRow(NamedTuple):
    """One true lesion: its volume in ml, the share of it that is detected, and whether that makes it found."""

    volume: float
    covered: float
    found: bool


def lesion_counts(
    prediction: Array,
    truth: Array,
    mask: Array | None = None,
    *,
    overlap: float = 0.1,
    min_voxels: int = 1,
    connectivity: int = 3,
) -> LesionCounts:
    """Count the lesions that a detection finds, and the detected components that are lesions.

    Parameters
    ----------
    prediction, truth : numpy.ndarray or torch.Tensor
        Bool or 0/1, of one subject and the same shape: `[D, H, W]`, slices `[D, 1, H, W]`, or `[H, W]`.
    mask : numpy.ndarray or torch.Tensor, optional
        Same shape, bool or 0/1: both regions are cut to it before their components are sought.
    overlap : float
        Share in [0, 1] of a lesion's volume that must be detected, and of a component's that must be lesion; 0 for any
        shared voxel.
    min_voxels : int
        Smaller components, of the detection and of the truth, are removed first.
    connectivity : int
        Along how many axes neighbours may differ at once: 1, 2 or 3, for 6, 18 or 26 neighbours.

    Returns
    -------
    LesionCounts
        The module's docstring states the rule and where it comes from.

    Raises
    ------
    ValueError
        If shapes or values are not those expected.
    ImportError
        If scipy is missing.
    """
    lesions, detections = _match(prediction, truth, mask, overlap, min_voxels, connectivity)
    found, true = int(np.count_nonzero(lesions.hit)), int(np.count_nonzero(detections.hit))
    return LesionCounts(found, lesions.hit.size - found, true, detections.hit.size - true)


def lesion_table(
    prediction: Array,
    truth: Array,
    voxel_volume: float,
    mask: Array | None = None,
    *,
    overlap: float = 0.1,
    min_voxels: int = 1,
    connectivity: int = 3,
) -> list[LesionRow]:
    """List the true lesions with their size, to show how detection depends on it.

    Parameters
    ----------
    prediction, truth, mask, overlap, min_voxels, connectivity
        As in `lesion_counts`.
    voxel_volume : float
        Cubic millimetres.

    Returns
    -------
    list of LesionRow
        One per lesion, in the order of their first voxels.

    Raises
    ------
    ValueError
        If shapes or values are not those expected.
    ImportError
        If scipy is missing.
    """
    if not 0 < voxel_volume < math.inf:
        raise ValueError(f"voxel_volume: got {voxel_volume}, expected a positive number of cubic millimetres")
    lesions, _ = _match(prediction, truth, mask, overlap, min_voxels, connectivity)
    volumes = lesions.voxels * (voxel_volume / 1000)
    return [
        LesionRow(*row) for row in zip(volumes.tolist(), lesions.covered.tolist(), lesions.hit.tolist(), strict=True)
    ]


class _Components(NamedTuple):
    """Components of one side, `[components]`: their voxels, the share within the other side, whether it suffices."""

    voxels: Counts
    covered: Floats
    hit: Bools


def _match(
    prediction: Array, truth: Array, mask: Array | None, overlap: float, min_voxels: int, connectivity: int
) -> tuple[_Components, _Components]:
    """Components of the truth and of the detection."""
    if not 0 <= overlap <= 1:
        raise ValueError(f"overlap: got {overlap}, expected a share in [0, 1]")
    if min_voxels < 1:
        raise ValueError(f"min_voxels: got {min_voxels}, expected at least 1")
    if connectivity not in (1, 2, 3):
        raise ValueError(f"connectivity: got {connectivity}, expected 1, 2 or 3, for 6, 18 or 26 neighbours")
    detected, lesions = masked_labels(prediction, truth, mask)
    detections, lesion_numbers = (number_components(side, min_voxels, connectivity) for side in (detected, lesions))
    return _compare(lesion_numbers, detections > 0, overlap), _compare(detections, lesion_numbers > 0, overlap)


def number_components(region: Bools, min_voxels: int, connectivity: int) -> Counts:
    """Number a region's components from 1, in the order of their first voxels; 0 for those that are too small.

    `min_voxels` and `connectivity` are as in `lesion_counts`.
    """
    ndimage = require_scipy("ndimage")
    numbers, _ = ndimage.label(region, ndimage.generate_binary_structure(region.ndim, connectivity))
    kept = np.bincount(numbers.reshape(-1), minlength=1) >= min_voxels
    kept[0] = False
    return (np.cumsum(kept) * kept)[numbers]


def _compare(numbers: Counts, other: Bools, overlap: float) -> _Components:
    voxels = np.bincount(numbers.reshape(-1), minlength=1)[1:]
    covered = np.bincount(numbers[other], minlength=voxels.size + 1)[1:] / voxels
    return _Components(voxels, covered, (covered > 0) & (covered >= overlap))
