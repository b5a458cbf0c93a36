"""Healthy phantoms as training and calibration data: simulated, and brought to a prior's grid like any scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from lesioncore.data.grid import SliceGrid
from lesioncore.phantom import simulate
from lesioncore.preprocess import IntensityScale
from lesioncore.priors import PriorMetadata
from lesioncore.scan import SliceStack, prepare


def reference_scale(contrast: str, voxel_size: float) -> IntensityScale:
    """Intensities of the reference subject, the first of the training split (paper section 3.1)."""
    reference = simulate(0, split="train", contrast=contrast, voxel_size=voxel_size)
    return IntensityScale.fit(reference.image[reference.brain_mask])


def healthy_stacks(
    subjects: Sequence[int],
    *,
    split: str,
    contrast: str,
    grid: SliceGrid,
    intensity: IntensityScale,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> list[SliceStack]:
    """Simulate healthy subjects and prepare them for a prior, in parallel processes.

    Parameters
    ----------
    subjects : sequence of int
        Subject numbers within `split`.
    split : {"train", "validation", "test", "demo"}
        Population that they belong to; no two splits share a subject.
    contrast : {"T1w", "T2w"}
        Image contrast.
    grid, intensity
        The prior's.
    workers : int
        Processes.
    progress : callable, optional
        Called as ``progress(done, all)``.
    """
    metadata = PriorMetadata("phantom", contrast, grid, intensity)
    make = partial(_stack, split=split, contrast=contrast, metadata=metadata)
    stacks = []
    # Spawned, not forked: a fork after torch has started its threads can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for stack in pool.map(make, subjects, chunksize=2):
            stacks.append(stack)
            if progress is not None:
                progress(len(stacks), len(subjects))
    return stacks


def brain_slices(stacks: Sequence[SliceStack], least: float = 0.02) -> Tensor:
    """Slices ``[N, 1, H, W]`` of which at least the share `least` is brain."""
    return torch.cat([s.slices[s.mask.float().mean((1, 2, 3)) >= least] for s in stacks])


def _stack(subject: int, *, split: str, contrast: str, metadata: PriorMetadata) -> SliceStack:
    assert metadata.grid is not None
    torch.set_num_threads(1)
    # Processes share the cores already: BLAS threads of their own would wait for each other most of the time.
    with threadpool_limits(1):
        phantom = simulate(subject, split=split, contrast=contrast, voxel_size=metadata.grid.voxel_size)
        scan = prepare(phantom.image, metadata, mask=phantom.brain_mask, affine=phantom.affine)
    return SliceStack(scan.slices, scan.mask, scan.voxel_size)
