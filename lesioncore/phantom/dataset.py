"""Writing of a simulated population as a BIDS dataset with its ground truth as derivatives."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lesioncore.data.files import replace_directory, write_json
from lesioncore.data.nifti import save_image
from lesioncore.phantom.config import PhantomConfig
from lesioncore.phantom.simulate import Phantom, check_arguments, check_index, simulate

_BIDS_VERSION = "1.10.0"
_PIPELINE = "lesioncore-phantom"
_write_json = partial(write_json, indent=2, allow_nan=False)

_README = """# Simulated brain MRI: {contrast}, {population}

{subjects} simulated subjects (split `{split}`, seed {seed}, {voxel_size:g} mm voxels), made by `lesioncore phantom`.
No person was scanned. The anatomy is the ICBM152 average (nonlinear symmetric 2009a), deformed, aged and folded at
random; contrast, bias field, texture and noise are simulated as well. The scans are skull-stripped: background is 0.

Paths below start at the dataset's root.

- `sub-*/anat/*_{contrast}.nii.gz`: the scan, in MNI space, arbitrary units. Its `.json` holds every random draw.
- `derivatives/{pipeline}/sub-*/anat/*_desc-brain_mask.nii.gz`: the brain.
- `derivatives/{pipeline}/sub-*/anat/*_label-lesion_mask.nii.gz`: the lesion, where one was simulated.

Simulated data are for testing software. They say nothing about performance on patients, and nothing here is a medical
device.

## ICBM152

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property
loss, or injury to subjects or patients resulting from the use or misuse of this software package.
"""

_PARTICIPANTS = {
    "participant_id": {"Description": "Simulated subject"},
    "lesion": {
        "Description": "Kind of simulated lesion",
        "Levels": {"none": "healthy", "glioma": "glioma-like", "stroke": "stroke-like"},
    },
    "lesion_volume": {"Description": "Volume of the lesion's mask", "Units": "mL"},
    "age_index": {"Description": "Strength of simulated ageing, 0 (young) to 1 (old)"},
}


@dataclass(frozen=True)
class _Job:
    root: Path
    split: str
    seed: int
    contrast: str
    lesion: str | None
    voxel_size: float
    config: PhantomConfig | None
    digits: int


def write_dataset(
    out_dir: str | os.PathLike[str],
    *,
    subjects: int,
    contrast: str = "T2w",
    lesion: str | None = None,
    split: str = "test",
    seed: int = 0,
    voxel_size: float = 1.0,
    config: PhantomConfig | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> Path:
    """Simulate `subjects` subjects and write them as a BIDS dataset.

    The dataset appears under its name when it is complete. The same arguments write the same bytes on the same
    machine, whatever `workers` is.

    Parameters
    ----------
    out_dir : path-like
        Folder of the dataset; must not exist, or be empty.
    subjects : int
        Number of subjects, at least 1: 0 to `subjects - 1` of the split, named from ``sub-0001``.
    contrast, lesion, split, seed, voxel_size, config
        As in `simulate`.
    workers : int
        Processes to share the work.
    progress : callable, optional
        Called as ``progress(done, subjects)`` after each subject.
    overwrite : bool
        Replace `out_dir` if it is a dataset written by this function. Anything else is never replaced.

    Returns
    -------
    pathlib.Path
        The dataset's folder.

    Raises
    ------
    FileExistsError
        If `out_dir` exists and may not be replaced.
    ValueError
        If an argument is not usable.
    """
    subjects, workers = check_index("subjects", subjects), check_index("workers", workers)
    seed = check_index("seed", seed)
    for name, value in (("subjects", subjects), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name}: got {value}, expected a whole number of at least 1")
    check_arguments(split, contrast, lesion, voxel_size)
    target = Path(os.path.abspath(out_dir))
    _check_target(target, overwrite)
    with replace_directory(target) as root:
        job = _Job(root, split, seed, contrast, lesion, voxel_size, config, max(4, len(str(subjects))))
        rows = []
        for done, row in enumerate(_run(job, subjects, min(workers, subjects)), start=1):
            rows.append(row)
            if progress is not None:
                progress(done, subjects)
        _write_top_level(job, rows)
    return target


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise FileExistsError(f"out_dir: {target} exists and is no folder; choose another name")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"out_dir: {target} exists and is not empty; choose another name or pass overwrite=True")
    try:
        description = json.loads((target / "dataset_description.json").read_text(encoding="utf-8"))
        ours = any(entry.get("Name") == _PIPELINE for entry in description["GeneratedBy"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        ours = False
    if not ours:
        raise FileExistsError(f"out_dir: {target} was not written by lesioncore phantom and is not overwritten")


def _run(job: _Job, subjects: int, workers: int) -> Iterator[dict[str, str]]:
    if workers == 1:
        yield from map(partial(_write_subject, job), range(subjects))
        return
    # A forked copy of a process that runs threads (torch, BLAS) can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(partial(_write_subject, job), range(subjects))


def _write_subject(job: _Job, subject: int) -> dict[str, str]:
    phantom = simulate(
        subject,
        split=job.split,
        seed=job.seed,
        contrast=job.contrast,
        lesion=job.lesion,
        voxel_size=job.voxel_size,
        config=job.config,
    )
    name = f"sub-{subject + 1:0{job.digits}d}"
    raw = job.root / name / "anat"
    derived = job.root / "derivatives" / _PIPELINE / name / "anat"
    raw.mkdir(parents=True)
    derived.mkdir(parents=True)
    scan = f"{name}_{job.contrast}"
    save_part(phantom, "image", raw / f"{scan}.nii.gz")
    _write_json(
        raw / f"{scan}.json",
        {
            "SkullStripped": True,
            "Simulated": True,
            "SimulationSeed": job.seed,
            "SimulationParameters": phantom.parameters,
        },
    )
    source = f"bids:raw:{name}/anat/{scan}.nii.gz"
    masks = {"desc-brain": ("brain_mask", "Brain", "Voxels of the brain")}
    if job.lesion is not None:
        masks["label-lesion"] = ("lesion_mask", "Lesion", "Voxels of which more than half is lesion")
    for entity, (field, kind, text) in masks.items():
        save_part(phantom, field, derived / f"{name}_{entity}_mask.nii.gz")
        _write_json(
            derived / f"{name}_{entity}_mask.json",
            {"Description": text, "Type": kind, "Sources": [source], "SpatialReference": source},
        )
    lesion = phantom.parameters["lesion"]
    return {
        "participant_id": name,
        "lesion": job.lesion or "none",
        "lesion_volume": "n/a" if lesion is None else f"{lesion['volume_ml']:.3f}",
        "age_index": f"{phantom.parameters['anatomy']['age_index']:.3f}",
    }


def save_part(phantom: Phantom, field: str, path: Path) -> None:
    """Write a phantom's ``image``, ``brain_mask`` or ``lesion_mask`` as NIfTI."""
    image = phantom.nifti(field)
    save_image(np.asarray(image.dataobj), image.affine, path, header=image.header, dtype=image.get_data_dtype())


def _write_top_level(job: _Job, rows: list[dict[str, str]]) -> None:
    from lesioncore import __version__

    population = "healthy" if job.lesion is None else f"{job.lesion}-like lesions"
    made_by = [{"Name": _PIPELINE, "Version": __version__, "Description": "lesioncore phantom simulation"}]
    _write_json(
        job.root / "dataset_description.json",
        {
            "Name": f"Simulated {job.contrast} brain MRI, {population}",
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "raw",
            "License": "ICBM152 (see README.md)",
            "GeneratedBy": made_by,
        },
    )
    _write_json(
        job.root / "derivatives" / _PIPELINE / "dataset_description.json",
        {
            "Name": f"Ground truth of simulated {job.contrast} brain MRI, {population}",
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "derivative",
            "License": "ICBM152 (see README.md)",
            "GeneratedBy": made_by,
            "DatasetLinks": {"raw": "../.."},
        },
    )
    readme = _README.format(
        contrast=job.contrast,
        population=population,
        subjects=len(rows),
        split=job.split,
        seed=job.seed,
        voxel_size=job.voxel_size,
        pipeline=_PIPELINE,
    )
    for folder in (job.root, job.root / "derivatives" / _PIPELINE):
        _write_text(folder / "README.md", readme)
    lines = ["\t".join(_PARTICIPANTS), *("\t".join(row[column] for column in _PARTICIPANTS) for row in rows)]
    _write_text(job.root / "participants.tsv", "\n".join(lines) + "\n")
    _write_json(job.root / "participants.json", _PARTICIPANTS)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
