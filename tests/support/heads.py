"""A simulated head: a phantom's brain in a skull and a scalp, for the tests of preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lesioncore.phantom import simulate

VOXEL = 2.0
_PAD = 10


@dataclass(frozen=True, eq=False)
class SimulatedHead:
    """A scan with its skull, the same without, its brain with the CSF around it, and the affine of all."""

    head: npt.NDArray[np.float32]
    stripped: npt.NDArray[np.float32]
    brain: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]


@cache
def simulated_head(contrast: str) -> SimulatedHead:
    phantom = simulate(0, split="test", contrast=contrast, voxel_size=VOXEL)
    stripped, brain = np.pad(phantom.image, _PAD).astype(np.float32), np.pad(phantom.brain_mask, _PAD)
    affine = phantom.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, _PAD)
    away = VOXEL * ndimage.distance_transform_edt(~brain)
    rng = np.random.default_rng(0)
    tissue = np.median(stripped[brain])
    noise = rng.standard_normal(brain.shape)
    scalp = {"T1w": 1.3, "T2w": 0.8}[contrast] * tissue * (1 + 0.15 * noise)
    head = np.where(brain, stripped, np.where(away <= 7, 0.1 * tissue * np.abs(noise), 0.0))
    head = np.where((away > 7) & (away < 14), scalp, head)
    head += 0.02 * tissue * np.abs(rng.standard_normal(brain.shape))
    return SimulatedHead(head.astype(np.float32), stripped, brain, affine)


def dice(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())
