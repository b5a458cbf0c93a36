"""Small skull-stripped scans in files, for tests of training data."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from lesioncore.training.subjects import FileSubject
from models import head, scan_values

from lesioncore.data.grid import SliceGrid
from lesioncore.preprocess import IntensityScale

SHAPE = (22, 18, 9)
BRAIN = head(SHAPE)
GRID = SliceGrid(4.0, (24, 20))
INTENSITY = IntensityScale.fit(scan_values(BRAIN, seed=9)[BRAIN])
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
