"""Small patients and healthy people in files, for tests of evaluations."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from support.scans import AFFINE, BRAIN, SHAPE, VALUES

from lesioncore.subjects import FileSubject, find_subjects

HEAD = BRAIN.numpy()
FLIPPED = AFFINE @ np.diag([-1.0, 1, 1, 1])
FLIPPED[:3, 3] += AFFINE[:3, 0] * (SHAPE[0] - 1)
CENTRES = ([(8, 6, 5), (14, 11, 6)], [(12, 9, 4)], [(10, 9, 6)], [(13, 8, 5)])
"""Of the lesions of each patient; the first one has two."""


def scan(seed: int) -> np.ndarray:
    """Intensities of a head; all differ."""
    rng = np.random.default_rng(seed)
    return (VALUES.numpy() + 30 * HEAD * rng.normal(size=SHAPE)).astype(np.float32).clip(0)


def lesion(number: int) -> np.ndarray:
    """Balls, smaller for each next patient."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    balls = [((places - centre) ** 2).sum(-1) <= 7 - number for centre in CENTRES[number]]
    return np.logical_or.reduce(balls)


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def write_healthy(folder: Path, seeds: range) -> Path:
    for seed in seeds:
        write(folder / f"sub-h{seed}_T2w.nii", scan(seed))
    return folder


def write_patients(folder: Path, count: int = 4) -> Path:
    """BIDS folder with masks in derivatives; the second scan is stored from right to left."""
    for number in range(count):
        name, truth = f"sub-p{number}", lesion(number)
        data, affine = scan(50 + number) + np.float32(150) * truth, AFFINE
        if number == 1:
            data, truth, affine = data[::-1], truth[::-1], FLIPPED
        write(folder / name / "anat" / f"{name}_T2w.nii", data, affine)
        masks = folder / "derivatives" / "manual" / name / "anat"
        write(masks / f"{name}_label-lesion_mask.nii", truth.astype(np.uint8), affine)
    return folder


def subjects_of(folder: Path) -> list[FileSubject]:
    return find_subjects([folder])


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)
