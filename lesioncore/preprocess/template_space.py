"""Volumes of a registered scan on the template's axes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.data.affine_grid import AffineGridPlan
from lesioncore.data.grid import SliceGrid, as_volume

SPACE = "MNI152NLin2009aSym"
"""What BIDS calls the space of the ICBM152 nonlinear symmetric 2009a template."""

_FIELD_OF_VIEW = (193, 229)  # mm, left to right and back to front: the template's own


def template_grid(voxel_size: float) -> SliceGrid:
    """The template's slices at a voxel size (mm)."""
    width, depth = _FIELD_OF_VIEW
    # An odd number of voxels from left to right has one in the midplane: at 2 mm all lie on the packaged template's.
    return SliceGrid(voxel_size, (2 * int(width / voxel_size / 2) + 1, int(depth / voxel_size)))


def template_plan(
    shape: tuple[int, ...], voxel_to_template: npt.NDArray[np.float64], voxel_size: float
) -> AffineGridPlan:
    """The way of a scan's volumes to the template's axes, whose affine is its ``grid_to_template``.

    Parameters
    ----------
    shape : tuple of int
        ``[X, Y, Z]``, the scan's.
    voxel_to_template : ndarray
        ``[4, 4]``, from its voxel indices to the template's mm.
    voxel_size : float
        Of the volumes in the template's space, mm.
    """
    return AffineGridPlan.of(template_grid(voxel_size), (shape[0], shape[1], shape[2]), voxel_to_template)


def to_template_grid(
    plan: AffineGridPlan, values: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Bring a volume to the template's axes, 0 outside the brain."""
    return as_volume(plan.to_grid(torch.from_numpy(values), 0.0, mask=torch.from_numpy(brain))).numpy()


def mask_to_template_grid(plan: AffineGridPlan, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Bring a mask to the template's axes: voxels of which more than half lies in it."""
    return as_volume(plan.mask_to_grid(torch.from_numpy(mask))).numpy()
