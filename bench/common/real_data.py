"""Real scans for benchmarks: healthy heads by scanner, patients, and real lesion shapes implanted into healthy heads.

The data lie in a folder of their own, which LESIONCORE_REAL_DATA names, and are no part of the project. What is
expected there:

- ``ixi/``: IXI T1w heads (BIDS); every tenth person is left out of all training here and is the one that is judged;
- ``ixi-t2/``: IXI T2w heads; ``heads/``: single heads ``*_T1w``, ``*_T2w``, ``*_FLAIR`` of other scanners;
- ``openms/``: patients with multiple sclerosis in three contrasts, stripped, with ``derivatives/consensus``;
- ``stroke-shapes/``: lesion masks on a 1 mm grid of MNI space.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lesioncore.data.grid import SliceGrid
from lesioncore.data.nifti import load_image, make_image
from lesioncore.preprocess.pipeline import PreprocessedScan, Step, preprocess
from lesioncore.subjects import FileSubject, Loaded, Subject

BRIGHT = {"T1w": False, "T2w": True, "FLAIR": True}
"""Whether strokes are brighter than tissue, by contrast (T1w: chronic ones)."""

SMALLEST, LARGEST = 2.0, 150.0
"""Volumes of implanted lesions, ml."""


def real_data() -> Path:
    """The folder of the real scans."""
    folder = os.environ.get("LESIONCORE_REAL_DATA")
    if not folder:
        raise SystemExit("LESIONCORE_REAL_DATA: not set; name the folder of the real scans")
    return Path(folder)


@dataclass(frozen=True)
class ImplantSubject(Subject):
    """A healthy head with a real stroke's shape implanted where that stroke was.

    Attributes
    ----------
    scan : Path
        The head.
    shapes : tuple of Path
        Lesion masks in MNI space; the first of the seeded order that fits is taken.
    seed : int
        Of shape, intensity and texture.
    """

    modality: str
    scan: Path
    shapes: tuple[Path, ...]
    seed: int

    def key(self) -> str:
        names = [self.scan.name, self.seed, *(path.name for path in self.shapes)]
        return hashlib.sha256(repr(names).encode() + self.scan.read_bytes()).hexdigest()

    def load(self, grid: SliceGrid) -> Loaded:
        image = load_image(self.scan)
        values = image.get_fdata(dtype=np.float32)
        affine = np.asarray(image.affine, dtype=np.float64)
        found = prepared(self.scan)
        rng = np.random.default_rng(self.seed)
        millilitres = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
        for number in rng.permutation(len(self.shapes)):
            share = _shape_on(self.shapes[number], found, affine)
            if SMALLEST <= np.count_nonzero(share > 0.5) * millilitres <= LARGEST:
                break
        else:
            raise ValueError(f"{self.id}: none of {len(self.shapes)} lesion shapes fits into the brain")
        changed = values * (1 - share) + share * _lesion(values, found.brain, share, self.modality, rng)
        return Loaded(make_image(changed.astype(np.float32), affine), None, None, share > 0.5)


@dataclass(frozen=True)
class PreprocessedOnce(Subject):
    """A healthy subject that several detectors with the same steps of preprocessing take their thresholds from."""

    subject: Subject
    steps: tuple[Step, ...]

    def key(self) -> str:
        return self.subject.key()

    def load(self, grid: SliceGrid) -> Loaded:
        return _preprocessed(self.subject, self.steps, grid)


@lru_cache(maxsize=128)  # more than any prior's calibration people, or each would be thrown out before its next use
def _preprocessed(subject: Subject, steps: tuple[Step, ...], grid: SliceGrid) -> Loaded:
    return subject.load(grid).preprocess(steps)


@lru_cache(maxsize=4)
def prepared(scan: Path) -> PreprocessedScan:
    image = load_image(scan)
    affine = np.asarray(image.affine, dtype=np.float64)
    return preprocess(image.get_fdata(dtype=np.float32), affine, steps=("extract", "register"))


def _shape_on(shape: Path, found: PreprocessedScan, affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """A lesion's smooth-edged share of each voxel of a registered scan, within its brain."""
    lesion = load_image(shape)
    assert found.to_template is not None
    to_shape = np.linalg.inv(lesion.affine) @ found.to_template @ affine
    soft = ndimage.gaussian_filter((lesion.get_fdata(dtype=np.float32) > 0.5).astype(np.float32), 1.0)
    share = ndimage.affine_transform(soft, to_shape[:3, :3], to_shape[:3, 3], output_shape=found.brain.shape, order=1)
    return np.clip(1.2 * share, 0, 1) * found.brain


def _lesion(
    values: npt.NDArray[np.float32],
    brain: npt.NDArray[np.bool_],
    share: npt.NDArray[np.float32],
    contrast: str,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Textured intensity of a lesion, between that of the tissue and that of the brightest or darkest of the brain."""
    low, tissue, high = np.percentile(values[brain & (share < 0.1)], [2, 50, 98])
    extreme = high if BRIGHT[contrast] else low
    reach = rng.uniform(0.4, 1.0) * (1.5 if contrast == "FLAIR" else 1.0)  # FLAIR's lesions are its brightest tissue
    level = tissue + reach * (extreme - tissue)
    noise = ndimage.gaussian_filter(rng.standard_normal(values.shape).astype(np.float32), 1.5)
    return level + 0.25 * abs(level - tissue) * noise / noise.std()


def heads(root: Path, contrast: str) -> dict[str, list[FileSubject]]:
    """Healthy people's heads of a contrast that nothing was trained on, by group of scanners."""
    groups: dict[str, list[Path]] = {}
    if contrast == "T1w":
        groups["IXI, 3 T"] = held_out(root)
    if contrast == "T2w":
        groups["IXI, 1.5 T and thick slices"] = sorted((root / "ixi-t2").glob("sub-*/anat/*_T2w.nii.gz"))
    groups["single heads of other scanners"] = sorted((root / "heads").glob(f"*_{contrast}.nii.gz"))
    return {
        group: [FileSubject(_name(path), _name(path), contrast, path) for path in paths]
        for group, paths in groups.items()
        if paths
    }


def held_out(root: Path) -> list[Path]:
    """Every tenth person's T1w head of IXI."""
    return sorted((root / "ixi").glob("sub-*/anat/*_T1w.nii.gz"))[9::10]


def implants(root: Path, contrast: str, each: int) -> list[ImplantSubject]:
    """The heads of a contrast, each with `each` different lesions."""
    shapes = tuple(sorted((root / "stroke-shapes").glob("*_lesion.nii.gz")))
    scans = [subject.scan for group in heads(root, contrast).values() for subject in group]
    return [
        ImplantSubject(f"{_name(scan)}_implant-{turn}", _name(scan), contrast, scan, shapes, 1000 * turn + number)
        for number, scan in enumerate(scans)
        for turn in range(each)
    ]


def multiple_sclerosis(root: Path, contrast: str) -> list[FileSubject]:
    """The patients of OpenMS."""
    found = []
    for scan in sorted((root / "openms").glob(f"sub-*/anat/*_{contrast}.nii.gz")):
        person = scan.name.split("_")[0]
        lesion = root / "openms" / "derivatives" / "consensus" / person / "anat" / f"{person}_label-lesion_mask.nii.gz"
        found.append(FileSubject(_name(scan), person, contrast, scan, lesion=lesion))
    return found


def _name(path: Path) -> str:
    return path.name.removesuffix(".nii.gz")
