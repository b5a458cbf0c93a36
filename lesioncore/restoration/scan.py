"""Transformation of a scan to a prior's slices and back: geometry, mask and intensities."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from lesioncore.data.affine_grid import AffineGridPlan
from lesioncore.data.grid import GridPlan, as_volume
from lesioncore.data.nifti import make_image
from lesioncore.data.orientation import Orientation
from lesioncore.data.stack import SliceStack
from lesioncore.preprocess.intensity import IntensityMap
from lesioncore.preprocess.pipeline import (
    StepRecord,
)
from lesioncore.preprocess.scale import regions_of
from lesioncore.restoration.detail import bounded_detail, changed_share
from lesioncore.restoration.volumes import sources_of
from lesioncore.torch_modes import own_modes

BACKGROUND = -3.5
"""Z-score outside the brain (paper section 3.1)."""


@dataclass(kw_only=True)
class Scan(SliceStack):
    """A scan prepared for a prior, with the transformation back to its input; made by :func:`prepare`.

    Attributes
    ----------
    source : image, ndarray or Tensor
        Image or array that it was prepared from.
    path : Path or None
        File of the source, if it was read from one.
    affine : ndarray or None
        4 x 4 voxel-to-world matrix (mm) of the source; None for slices without geometry.
    steps : tuple of StepRecord
        Record of each step of the preprocessing.
    remarks : tuple of str
        What is implausible about it, a phrase for each (:func:`lesioncore.restoration.plausibility.doubts`).
    sources : dict
        Names and hashes of the files of scan and mask (JSON-able).
    ras_observed, ras_values : Tensor
        ``[X, Y, Z]`` in RAS+ order, or slices: the source's values, and these without their bias field.
    ras_brain : Tensor
        The brain (bool) on the same grid.
    ras_bias : Tensor or None
        The bias field; None where it was not corrected.
    orientation : Orientation or None
        Way from the source's storage order to RAS+; None for slices.
    grid_plan : GridPlan, AffineGridPlan or None
        Way to the prior's slices; None where they are the scan's own.
    intensity_map : IntensityMap or None
        Way to the prior's z-scores; None where the values are z-scores.
    """

    source: Any
    path: Path | None = None
    affine: np.ndarray | None = None
    steps: tuple[StepRecord, ...] = ()
    remarks: tuple[str, ...] = ()
    sources: dict[str, Any] = field(default_factory=lambda: sources_of(None, None))
    ras_observed: Tensor
    ras_values: Tensor
    ras_brain: Tensor
    orientation: Orientation | None = None
    grid_plan: GridPlan | AffineGridPlan | None = None
    intensity_map: IntensityMap | None = None
    ras_bias: Tensor | None = None

    @property
    def to_template(self) -> np.ndarray | None:
        """4 x 4 from the source's world to the template's (mm); None for a scan that is not registered."""
        if not isinstance(self.grid_plan, AffineGridPlan) or self.orientation is None:
            return None
        grid_to_world = self.orientation.ras_affine @ self.grid_plan.grid_to_voxel
        return self.grid_plan.grid_to_template @ np.linalg.inv(grid_to_world)

    def in_brain(self, slices: Tensor) -> np.ndarray:
        """Values of a residual ``[N, 1, H, W]`` at the brain's voxels on the input's grid, flat."""
        return self.residual(slices)[self.brain()]

    def tissues(self) -> tuple[Tensor, np.ndarray]:
        """Intensities (z-scores) of the brain on the prior's grid and their regions, for ``TissueScale.likelihood``.

        Raises
        ------
        ValueError
            If the scan is not registered.
        """
        places = self.grid_plan.grid_to_template if isinstance(self.grid_plan, AffineGridPlan) else None
        mask = as_volume(self.mask)
        return as_volume(self.slices)[mask], regions_of(mask, places)

    def residual(self, slices: Tensor) -> np.ndarray:
        """Bring a residual ``[N, 1, H, W]`` (z-scores) to the input's grid and storage order; 0 outside the brain."""
        return self._store(self._on_input_grid(slices))

    @own_modes()
    def restored(self, slices: Tensor, spread: float) -> np.ndarray:
        """Input without a residual, on its own grid, in its own units and within its range.

        Where nothing changed, and outside the brain, it is the input. Elsewhere it is the restored image on the prior's
        grid with the input's finer detail, which is bounded where the change is large
        (:func:`lesioncore.restoration.detail.bounded_detail`), and with the input's bias field.

        Parameters
        ----------
        slices : Tensor
            The residual on the prior's grid, ``[N, 1, H, W]``, z-scores.
        spread : float
            Its spread, z-scores.
        """
        scores = self.ras_values if self.intensity_map is None else self.intensity_map(self.ras_values)
        residual = self._on_input_grid(slices)
        healthy = scores - residual
        changed = residual != 0
        if self.grid_plan is not None:
            detail = scores - self._on_input_grid(self.slices)
            share = self._on_input_grid(changed_share(torch.where(self.mask, slices.cpu(), 0), spread))
            healthy += bounded_detail(detail, share, self.ras_brain) - detail
            changed |= share > 0
        observed = self.ras_observed
        if self.intensity_map is not None:
            healthy = self.intensity_map.inverse(healthy)
            if self.ras_bias is not None:
                healthy *= self.ras_bias
            healthy = healthy.clamp(observed.min(), observed.max())  # z-scores, which have no map, have no range
        return self._store(torch.where(changed, healthy, observed))

    def label_on_slices(self, label: np.ndarray) -> Tensor:
        """Resample a bool label from the input's grid to the prior's, ``[N, 1, H, W]``: pixels more than half in it."""
        if self.orientation is None:
            return torch.from_numpy(label)
        volume = torch.from_numpy(self.orientation.to_ras(label))
        if self.grid_plan is None:
            return volume.permute(2, 0, 1).unsqueeze(1)
        return self.grid_plan.mask_to_grid(volume)

    def brain(self) -> np.ndarray:
        """Brain mask (bool) on the input's grid."""
        return self._store(self.ras_brain)

    def like_input(self, array: np.ndarray) -> Any:
        """Copy `array` into the input's kind: an image for paths and images, otherwise an array or a tensor."""
        if isinstance(self.source, SpatialImage):
            return make_image(array, self.source.affine, header=self.source.header)
        if isinstance(self.source, Tensor):
            return torch.from_numpy(array.copy()).to(self.source.device)
        return array.copy()

    @own_modes()
    def _on_input_grid(self, slices: Tensor) -> Tensor:
        slices = slices.detach().cpu()
        if self.grid_plan is None:
            volume = slices if self.ras_values.dim() == 4 else slices[:, 0].permute(1, 2, 0)
        else:
            volume = self.grid_plan.from_grid(slices, self.mask)
        return torch.where(self.ras_brain, volume, torch.zeros((), dtype=volume.dtype))

    def _store(self, volume: Tensor) -> np.ndarray:
        array = volume.contiguous().numpy()
        return array if self.orientation is None else self.orientation.from_ras(array)
