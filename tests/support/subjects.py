"""Small skull-stripped scans in files, and caches of them, for tests of training data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from support.models import head, scan_values

from lesioncore.data.grid import SliceGrid
from lesioncore.models import PriorMetadata
from lesioncore.preprocess.intensity import IntensityScale
from lesioncore.restoration.prepare import prepare
from lesioncore.subjects import FileSubject
from lesioncore.training.cache import SliceCache

SHAPE = (22, 18, 9)
BRAIN = head(SHAPE)
GRID = SliceGrid(4.0, (24, 20))
INTENSITY = IntensityScale.fit(scan_values(BRAIN, seed=9)[BRAIN])
METADATA = PriorMetadata("test", "T2w", GRID, INTENSITY)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


def write(path: Path, data: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


def write_scan(path: Path, seed: int = 0) -> Path:
    return write(path, scan_values(BRAIN, seed).numpy())


def write_subjects(folder: Path, count: int) -> list[FileSubject]:
    """Scans that all differ."""
    return [
        FileSubject(f"sub-{i}", f"sub-{i}", "T2w", write_scan(folder / f"sub-{i}_T2w.nii", seed=i))
        for i in range(count)
    ]


def four_subjects(folder: Path) -> list[FileSubject]:
    """The third has a brain mask and a lesion of 4 x 3 x 3 voxels."""
    subjects = write_subjects(folder, 4)
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[8:12, 7:10, 3:6] = 1
    lesion[0] = 1  # not brain, so not labelled
    mask = write(folder / "mask.nii", BRAIN.numpy().astype(np.uint8))
    subjects[2] = replace(subjects[2], lesion=write(folder / "lesion.nii", lesion), mask=mask)
    return subjects


def build(folder: Path, subjects, **options) -> SliceCache:
    return SliceCache.build(folder, subjects, **{"grid": GRID, "intensity": INTENSITY, **options})


def everything(cache: SliceCache) -> tuple[torch.Tensor, torch.Tensor]:
    return cache.batch(torch.arange(len(cache)))


def same(first: SliceCache, second: SliceCache) -> bool:
    pairs = zip(everything(first), everything(second), strict=True)
    return first.subjects == second.subjects and all(torch.equal(a, b) for a, b in pairs)


def brain_slices(scan: Path) -> torch.Tensor:
    """A scan's slices ``[n, H, W]`` with brain, as ``restore`` would see them."""
    prepared = prepare(scan, METADATA)
    return prepared.slices[prepared.mask.flatten(1).any(1), 0]
