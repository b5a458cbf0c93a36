"""Preparation of the subjects that a store does not hold yet."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lesioncore
from lesioncore.data.grid import SliceGrid
from lesioncore.preprocess.pipeline import Step
from lesioncore.preprocess.scale import Scale
from lesioncore.subjects import Subject, source_hash
from lesioncore.training import preparation
from lesioncore.training.preparation import PreparationError, prepare_subjects
from lesioncore.training.store import INDEX, Entry, SliceStore, locked

_FORMAT = 3
PREPARING = (
    "data",
    "preprocess",
    "subjects",
    "restoration/prepare.py",
    "restoration/scan.py",
    "restoration/volumes.py",
)
"""Parts of the package by which scans become slices: where one changes, slices are prepared anew."""
_SHOWN_FAILURES = 5


def fill(
    directory: Path,
    subjects: Sequence[Subject],
    grid: SliceGrid,
    intensity: Scale,
    steps: tuple[Step, ...],
    *,
    workers: int,
    verify: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[SliceStore, list[Entry]]:
    """Fill a store for :meth:`lesioncore.training.cache.SliceCache.build`; return it and the subjects' entries."""
    if workers < 1:
        raise ValueError(f"workers: got {workers}, expected at least 1")
    if not subjects:
        raise ValueError("subjects: got none, expected at least one")
    keys = _keys(subjects, workers)
    header = _header(grid, intensity, steps)
    # A folder for each header: nothing is overwritten, and a run keeps its slices while another makes others.
    home = directory / hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    if not verify and (home / INDEX).exists():
        store = SliceStore(home)
        entries = store.by_key()
        if store.header == header and set(keys) <= set(entries):
            if progress is not None:
                progress(len(subjects), len(subjects))
            return store, [entries[key] for key in keys]
    with locked(home):
        store = SliceStore.create(home, header)
        store.cut()
        entries = store.by_key()
        if verify:
            for entry in store.damaged([entries[key] for key in keys if key in entries]):
                warnings.warn(f"{entry.id}: its slices in {home} are damaged; preparing them anew", stacklevel=3)
                del entries[entry.key]
        missing = [(subject, key) for subject, key in zip(subjects, keys, strict=True) if key not in entries]
        failures = _add(store, missing, grid, intensity, steps, workers, len(subjects), progress)
    if failures:
        shown = "\n".join(str(failure) for failure in failures[:_SHOWN_FAILURES])
        more = f"\nand {len(failures) - _SHOWN_FAILURES} more" if len(failures) > _SHOWN_FAILURES else ""
        raise PreparationError(
            f"{len(failures)} of {len(subjects)} subjects cannot be used (the others are kept); mend them or leave them"
            f" out:\n{shown}{more}"
        ) from failures[0]
    entries = store.by_key()
    return store, [entries[key] for key in keys]


def _add(
    store: SliceStore,
    missing: Sequence[tuple[Subject, str]],
    grid: SliceGrid,
    intensity: Scale,
    steps: tuple[Step, ...],
    workers: int,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> list[PreparationError]:
    """Prepare and append subjects; returns why some could not be."""
    failures = []
    done = total - len(missing)
    if progress is not None:
        progress(done, total)
    results = prepare_subjects([subject for subject, _ in missing], grid, intensity, workers, steps=steps)
    for (subject, key), result in zip(missing, results, strict=True):
        if isinstance(result, PreparationError):
            failures.append(result)
            continue
        for text in result.warnings:
            warnings.warn(f"{subject.id}: {text}", stacklevel=4)
        store.append(subject.id, key, result.slices, result.labels, result.voxel_size, result.bend)
        done += 1
        if progress is not None:
            progress(done, total)
    return failures


def _header(grid: SliceGrid, intensity: Scale, steps: tuple[Step, ...]) -> dict[str, Any]:
    """Facts that all slices of a store share, as JSON types."""
    package = Path(lesioncore.__file__).parent
    code = [package / part for part in PREPARING]
    return {
        "format": _FORMAT,
        "code": source_hash(*code, Path(str(preparation.__file__))),
        "grid": {"voxel_size": float(grid.voxel_size), "shape": [int(length) for length in grid.shape]},
        "intensity": intensity.to_dict(),
        "preprocessing": list(steps),
    }


def _keys(subjects: Sequence[Subject], workers: int) -> list[str]:
    with ThreadPoolExecutor(workers) as pool:  # reading and hashing release the interpreter
        keys = list(pool.map(lambda subject: subject.key(), subjects))
    seen: dict[str, str] = {}
    for subject, key in zip(subjects, keys, strict=True):
        if key in seen:
            raise ValueError(f"subjects: {seen[key]} and {subject.id} are the same scan; leave one out")
        seen[key] = subject.id
    return keys
