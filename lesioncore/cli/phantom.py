"""``lesioncore phantom``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lesioncore.cli.output import CommandError, Outcome, Output, UsageError, bar, check_voxel_size


@dataclass(frozen=True)
class Phantom:
    """Simulate a population with ground truth and write it as a BIDS dataset of NIfTI files.

    Parameters
    ----------
    out : Path
        Folder of the dataset.
    subjects : int
        Number of subjects.
    contrast : str
        Image contrast.
    lesion : str
        Kind of lesion that every subject has.
    voxel_size : float
        Voxel size in mm, 0.5 to 8.
    split : str
        Population to draw from; no two share a subject. The embedded priors were trained on "train" and calibrated on
        "validation".
    seed : int
        Seed of the population; the same arguments write the same bytes.
    workers : int
        Processes to share the work.
    overwrite : bool
        Replace a dataset that this command wrote; nothing else is ever replaced.
    json : bool
        Print one JSON object on stdout.
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    subjects: int = 10
    contrast: Literal["T2w", "T1w"] = "T2w"
    lesion: Literal["none", "glioma", "stroke"] = "none"
    voxel_size: float = 1.0
    split: Literal["train", "validation", "test", "demo"] = "test"
    seed: int = 0
    workers: int = 1
    overwrite: bool = False
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Write the dataset."""
        from lesioncore.phantom import write_dataset

        for name, value, minimum in (
            ("subjects", self.subjects, 1),
            ("workers", self.workers, 1),
            ("seed", self.seed, 0),
        ):
            if value < minimum:
                raise UsageError(f"--{name}: got {value}, expected a whole number of at least {minimum}")
        check_voxel_size(self.voxel_size)
        if not self.overwrite and self.out.is_dir() and any(self.out.iterdir()):
            raise CommandError(f"{self.out}: exists and is not empty; choose another folder, or give --overwrite")
        start = time.perf_counter()
        with bar("simulating", "subject") as progress:
            folder = write_dataset(
                self.out,
                subjects=self.subjects,
                contrast=self.contrast,
                lesion=None if self.lesion == "none" else self.lesion,
                split=self.split,
                seed=self.seed,
                voxel_size=self.voxel_size,
                workers=self.workers,
                progress=progress,
                overwrite=self.overwrite,
            )
        seconds = time.perf_counter() - start
        scans = sorted(folder.glob(f"sub-*/anat/*_{self.contrast}.nii.gz"))
        health = "healthy" if self.lesion == "none" else f"with a {self.lesion}-like lesion"
        output.say(f"{folder}: {len(scans)} simulated {self.contrast} scans, {health}, in {seconds:.1f} s")
        return Outcome(
            {
                "folder": str(folder),
                "scans": [str(path) for path in scans],
                "contrast": self.contrast,
                "lesion": self.lesion,
                "voxel_size_mm": self.voxel_size,
                "split": self.split,
                "seed": self.seed,
                "seconds": round(seconds, 3),
            }
        )
