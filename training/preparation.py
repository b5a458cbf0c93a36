"""Subjects brought to a grid as slices with labels, in parallel processes."""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.data.grid import SliceGrid
from lesioncore.models import PriorMetadata
from lesioncore.preprocess.pipeline import Step
from lesioncore.preprocess.scale import Scale
from lesioncore.restoration.healthy_scans import check_contrast
from lesioncore.subjects import FileSubject, Subject


class PreparationError(ValueError):
    """Subjects that could not be prepared; the message names each."""


@dataclass(frozen=True)
class Prepared:
    """Slices of one subject, from its lowest to its highest with brain.

    Attributes
    ----------
    slices : float32 ``[n, H, W]``
        Z-scores.
    labels : uint8 ``[n, H, W]``
        0 background, 1 brain, 2 lesion.
    voxel_size : tuple of float
        Pixels (left-right, posterior-anterior) and distance of the slices, mm.
    bend : float
        How far the intensities had to be bent (:attr:`lesioncore.data.stack.SliceStack.bend`).
    warnings : tuple of str
        What was remarked on the way.
    """

    slices: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    voxel_size: tuple[float, float, float]
    bend: float
    warnings: tuple[str, ...]


def prepare_subject(subject: Subject, grid: SliceGrid, intensity: Scale, steps: tuple[Step, ...] = ()) -> Prepared:
    """Bring one subject to a grid and intensity scale, exactly as ``restore`` would.

    Raises
    ------
    PreparationError
        If its images cannot be used; the message names the subject.
    """
    metadata = PriorMetadata("training", subject.modality, grid, intensity, preprocessing=steps)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always", UserWarning)  # once for each subject
        try:
            loaded = subject.load(grid)
            scan = loaded.prepare(metadata)
            if isinstance(subject, FileSubject):
                check_contrast(scan, subject.modality)
            labels = scan.mask.to(torch.uint8)
            if loaded.lesion is not None:
                labels += scan.label_on_slices(loaded.lesion) & scan.mask
            brain = scan.mask.flatten(1).any(1).nonzero()[:, 0]
        except Exception as error:
            kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
            raise PreparationError(f"{subject.id}: {kind}{error}") from error
    # Slices between stay, even without brain, so that neighbours remain neighbours.
    part = slice(int(brain[0]), int(brain[-1]) + 1)
    assert scan.voxel_size is not None
    assert scan.bend is not None
    kinds = (UserWarning, RuntimeWarning)
    texts = tuple(dict.fromkeys(str(remark.message) for remark in remarks if issubclass(remark.category, kinds)))
    return Prepared(scan.slices[part, 0].float().numpy(), labels[part, 0].numpy(), scan.voxel_size, scan.bend, texts)


def prepare_subjects(
    subjects: Sequence[Subject],
    grid: SliceGrid,
    intensity: Scale,
    workers: int,
    *,
    steps: tuple[Step, ...] = (),
) -> Iterator[Prepared | PreparationError]:
    """Prepare subjects one after the other, or with several `workers` in as many processes; results in their order.

    Raises
    ------
    RuntimeError
        If one of the processes ended abruptly.
    """
    make = partial(_result, grid=grid, intensity=intensity, steps=steps)
    workers = min(workers, len(subjects))
    if workers <= 1:
        for subject in subjects:
            yield make(subject)
        return
    # Spawned, not forked: a fork after torch has started its threads can hang.
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    waiting: deque[tuple[Subject, Future[Prepared | PreparationError]]] = deque()
    try:
        for subject in subjects:
            waiting.append((subject, pool.submit(make, subject)))
            # Few enough that what is done, but not yet fetched, fits in memory.
            if len(waiting) == 2 * workers:
                yield waiting[0][1].result()
                waiting.popleft()
        while waiting:
            yield waiting[0][1].result()
            waiting.popleft()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a process that prepared {waiting[0][0].id} or one of the next subjects ended abruptly: out of memory"
            f" (use fewer workers than {workers}), or a script without 'if __name__ == \"__main__\":'"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _result(
    subject: Subject, grid: SliceGrid, intensity: Scale, steps: tuple[Step, ...]
) -> Prepared | PreparationError:
    try:
        return prepare_subject(subject, grid, intensity, steps)
    except PreparationError as error:
        return error


def _start_worker() -> None:
    torch.set_num_threads(1)
    # A worker waits for work on a pipe that it holds both ends of, so it would outlive a parent that was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
