"""The volumes that a figure shows, in one orientation and cropped to the brain, and the choice of its slices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.data.nifti import voxels_of
from lesioncore.data.orientation import Orientation
from lesioncore.metrics.limits import LIMITS
from lesioncore.restoration.result import Restoration
from lesioncore.restoration.volumes import read_mask

_MARGIN = 4.0
"""Margin around the brain, mm."""


@dataclass(frozen=True, eq=False)
class FigureVolumes:
    """Volumes that the panels show, ``[X, Y, Z]`` in RAS+ order, cropped to the brain in the transversal plane.

    Attributes
    ----------
    scan, restored : ndarray
        Float32, in the scan's units.
    residual : ndarray
        Float32, z-scores.
    brain : ndarray
        Bool.
    masks : dict of float to ndarray
        Detections (bool) at each false-positive rate; none without thresholds.
    truth : ndarray or None
        True lesion (bool), if it is known.
    voxel_size : tuple of float
        Voxel size, mm.
    heights : ndarray
        z coordinate of each slice's centre, mm.
    voxel_ml : float
        Volume of a voxel, ml.
    """

    scan: npt.NDArray[np.float32]
    restored: npt.NDArray[np.float32]
    residual: npt.NDArray[np.float32]
    brain: npt.NDArray[np.bool_]
    masks: dict[float, npt.NDArray[np.bool_]]
    truth: npt.NDArray[np.bool_] | None
    voxel_size: tuple[float, float, float]
    heights: npt.NDArray[np.float64]
    voxel_ml: float

    @classmethod
    def of(cls, result: Restoration, truth: Array | str | os.PathLike[str] | None = None) -> FigureVolumes:
        """Volumes of a restoration.

        Raises
        ------
        ValueError
            If the result is of slices without geometry, or `truth` has another shape than the input.
        """
        scan = result.scan
        if scan.affine is None:
            raise ValueError("result: slices [N, 1, H, W] have no geometry to draw; restore a volume")
        observed = np.asarray(_voxels(scan.source), dtype=np.float32)
        masks = {}
        if result.record.calibration is not None:
            masks = {limit: _voxels(result.mask(limit)) != 0 for limit in LIMITS}
        residual = scan.residual(result.slice_residual)
        known = scan.affine if isinstance(scan.source, SpatialImage) else None
        return cls.from_arrays(
            scan.affine,
            scan=observed,
            restored=_voxels(result.restored),
            residual=residual,
            brain=scan.brain(),
            masks=masks,
            truth=None if truth is None else read_mask(truth, observed.shape, known, name="truth"),
        )

    @classmethod
    def from_arrays(
        cls,
        affine: npt.NDArray[np.float64],
        *,
        scan: npt.NDArray[np.float32],
        restored: npt.NDArray[np.float32],
        residual: npt.NDArray[np.float32],
        brain: npt.NDArray[np.bool_],
        masks: Mapping[float, npt.NDArray[np.bool_]],
        truth: npt.NDArray[np.bool_] | None = None,
    ) -> FigureVolumes:
        """Volumes of arrays on one grid, in any storage order; `affine` brings its voxel indices to mm."""
        orientation = Orientation.from_affine(affine, scan.shape)
        inside = orientation.to_ras(brain)
        crop = []
        for axis in (0, 1):
            filled = np.flatnonzero(inside.any(axis=(1 - axis, 2)))
            margin = round(_MARGIN / orientation.voxel_size[axis])
            crop.append(slice(max(0, int(filled[0]) - margin), int(filled[-1]) + 1 + margin))
        window = (*crop, slice(None))
        # Heights are taken at the slices' centres, since in an oblique scan they vary over a slice.
        centre = [(length - 1) / 2 for length in orientation.ras_shape[:2]]
        heights = [(orientation.ras_affine @ [*centre, z, 1.0])[2] for z in range(orientation.ras_shape[2])]
        return cls(
            scan=orientation.to_ras(scan)[window],
            restored=orientation.to_ras(restored)[window],
            residual=orientation.to_ras(residual)[window],
            brain=inside[window],
            masks={limit: orientation.to_ras(mask)[window] for limit, mask in masks.items()},
            truth=None if truth is None else orientation.to_ras(truth)[window],
            voxel_size=orientation.voxel_size,
            heights=np.array(heights),
            voxel_ml=abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0,
        )

    def spread_slices(self, count: int, through: Sequence[float] = ()) -> list[int]:
        """Indices of slices spread evenly over the brain, of which the nearest move to places of interest.

        Slices with less than a quarter of the brain's largest cross-section are left out.

        Parameters
        ----------
        count : int
            Number of slices; fewer where the brain has fewer.
        through : sequence of float
            Heights (mm) that a slice is moved to, the most important first; the truth's largest cross-section comes
            before them.
        """
        area = self.brain.sum(axis=(0, 1))
        large = np.flatnonzero(area >= 0.25 * area.max())
        count = min(count, len(large))
        positions = large[0] + (np.arange(count) + 0.5) / count * (large[-1] - large[0])
        chosen = [int(z) for z in np.round(positions)]
        wanted = [int(np.abs(self.heights - height).argmin()) for height in through]
        if self.truth is not None and self.truth.any():
            wanted.insert(0, int(self.truth.sum(axis=(0, 1)).argmax()))
        free = set(range(count))
        for z in dict.fromkeys(wanted):
            if free:
                nearest = min(sorted(free), key=lambda column: abs(chosen[column] - z))
                chosen[nearest] = z
                free.remove(nearest)
        return sorted(set(chosen))

    def neighbouring_slices(self, count: int) -> list[int]:
        """Indices of neighbouring slices around the largest cross-section of the truth, or of the brain without any."""
        shown = self.brain if self.truth is None or not self.truth.any() else self.truth
        depth = self.brain.shape[2]
        count = min(count, depth)
        first = int(shown.sum(axis=(0, 1)).argmax()) - count // 2
        first = min(max(first, 0), depth - count)
        return list(range(first, first + count))


def _voxels(image: SpatialImage | Array) -> npt.NDArray[Any]:
    return voxels_of(image) if isinstance(image, SpatialImage) else to_numpy(image, "result")
