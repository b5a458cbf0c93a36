"""Small scans and masks on disk for tests of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from support.models import head, scan_values

SHAPE = (22, 18, 11)
AFFINE = np.array([[4.0, 0, 0, -40], [0, 4, 0, -36], [0, 0, 4, -20], [0, 0, 0, 1]])
BRAIN = head(SHAPE).numpy()


def write(path: Path, data: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


def scan(path: Path, seed: int = 0) -> Path:
    return write(path, scan_values(head(SHAPE), seed).numpy())


def brain(path: Path) -> Path:
    return write(path, BRAIN.astype(np.uint8))


def json_of(capsys) -> dict:
    return json.loads(capsys.readouterr().out)
