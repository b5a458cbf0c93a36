"""Small scans that the tests of detectors share."""

from __future__ import annotations

import numpy as np
import torch
from support.models import head, scan_values, tiny_metadata

import lesioncore as lc

SHAPE = (22, 18, 11)
BRAIN = head(SHAPE)
VALUES = scan_values(BRAIN)
HEALTHY = [scan_values(BRAIN, seed=s) for s in range(1, 5)]
AFFINE = np.array([[4.0, 0, 0, -40], [0, 4, 0, -36], [0, 0, 4, -20], [0, 0, 0, 1]])
FINE_AFFINE = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
METADATA = tiny_metadata()
FAST = lc.RestoreConfig(solver=lc.ProxSolver(steps=3, inner_iterations=10), tv_weight=1.0)


def voxels(thing):
    return thing.get_fdata() if hasattr(thing, "get_fdata") else np.asarray(thing)


def finer(values: torch.Tensor) -> torch.Tensor:
    """Each voxel as eight, for `FINE_AFFINE`."""
    return values.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
