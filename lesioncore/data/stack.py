"""The slices of one volume on a prior's grid."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass
class SliceStack:
    """Slices of one volume on a prior's grid.

    Attributes
    ----------
    slices, mask : Tensor
        ``[N, 1, H, W]`` z-scores, and the brain there (bool).
    voxel_size : tuple of float or None
        Size (mm) of the pixels (left-right, posterior-anterior) and the slices' spacing; None when unknown.
    bend : float or None
        How far the scan's intensities had to be bent to fit the prior's reference
        (:attr:`lesioncore.preprocess.intensity.IntensityMap.bend`); None when unknown.
    registered : bool
        The slices are those of the template (:meth:`lesioncore.data.affine_grid.AffineGridPlan.of`), so that a pixel is
        the same place of everyone's brain.
    """

    slices: Tensor
    mask: Tensor
    voxel_size: tuple[float, float, float] | None
    bend: float | None = field(default=None, kw_only=True)
    registered: bool = field(default=False, kw_only=True)

    @property
    def brain_rows(self) -> Tensor:
        """Whether each slice has brain, bool ``[N]``."""
        # NumPy stops at a slice's first pixel of brain, torch reads all.
        return torch.from_numpy(self.mask.flatten(1).numpy().any(1))

    @property
    def extent(self) -> tuple[float, float, float] | None:
        """Lengths of the brain from left to right, back to front and bottom to top, mm; None when unknown.

        Half a per cent of it beyond either end does not count, so that stray voxels of a mask do not.
        """
        if self.voxel_size is None or not self.brain_rows.any():
            return None
        lengths = []
        for axis, size in zip((1, 2, 0), self.voxel_size, strict=True):
            share = self.mask[:, 0].movedim(axis, 0).flatten(1).sum(1).cumsum(0) / self.mask.sum()
            lengths.append(int(((share > 0.005) & (share < 0.995)).sum() + 1) * size)
        return lengths[0], lengths[1], lengths[2]

    def in_brain(self, slices: Tensor) -> np.ndarray:
        """Values of a residual ``[N, 1, H, W]`` at the mask's pixels, flat."""
        return slices[self.mask].numpy()
