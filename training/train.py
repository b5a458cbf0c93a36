"""A training job, from scans to a calibrated model in a directory."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lesioncore import __version__
from lesioncore.data.files import write_json
from lesioncore.data.grid import SliceGrid
from lesioncore.models import PriorMetadata, load_model, save_model
from lesioncore.models.registry import kind_of
from lesioncore.preprocess.scale import Scale
from lesioncore.subjects import Subject, check_distinct, find_subjects
from lesioncore.training.cache import SliceCache
from lesioncore.training.distributed import ProcessGroup, process_group
from lesioncore.training.fit import fit
from lesioncore.training.job import CONFIG, MODEL, Job, check_output, describe
from lesioncore.training.split import reference_intensity, split_subjects

Progress = Callable[[str, int, int, Mapping[str, float]], None]
"""Called as ``progress(stage, done, all, figures)``; stages are "prepare", "train" and "calibrate"."""


def train(
    job: Job,
    *,
    subjects: tuple[Sequence[Subject], Sequence[Subject]] | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run a job: prepare the slices, train, calibrate, write the model's directory.

    Under ``torchrun`` all processes call it; the first one prepares, calibrates and writes.

    Parameters
    ----------
    job : Job
        What to do.
    subjects : tuple of two sequences of Subject, optional
        Those to train on, and those held out, in place of those that the job's `data` and `validation` name.
    progress : callable, optional
        Called as ``progress(stage, done, all, figures)``.
    note : callable, optional
        Called with sentences on what was left out of folders; warnings when absent.

    Returns
    -------
    dict
        Facts of the run (JSON-able): ``directory`` of the model, subjects, slices, seconds, throughput, figures.

    Raises
    ------
    FileExistsError
        If the output holds another run, or one to be resumed.
    FileNotFoundError
        If there is no model `start_from`.
    ValueError, FloatingPointError
        As for :func:`lesioncore.training.fit`, where a scan cannot be used, two are the same or one is of another
        contrast by its intensities, and where `start_from` is of another shape.
    """
    check_output(job)
    with process_group(job.device) as group:
        say: Progress = progress if progress is not None and group.first else _silent
        start = time.perf_counter()
        learner = job.recipe.build(job.training.seed)
        if job.start_from is not None:
            _take_weights(learner.model, job.start_from)
        data = _prepare(job, subjects or _subjects(job, note if group.first else _unsaid), group, say)
        if group.first:
            job.output.mkdir(parents=True, exist_ok=True)
            write_json(job.output / CONFIG, describe(job), indent=1)
        prepared = time.perf_counter()
        planned = job.training.updates * job.training.batch_size
        outcome = fit(
            learner,
            data.slices,
            data.held_out,
            job.training,
            directory=job.output,
            resume=job.resume,
            group=group,
            report=lambda seen, figures: say("train", seen, planned, figures),
        )
        facts = {
            "subjects": data.subjects,
            "validation_subjects": data.validation_subjects,
            "slices": len(data.slices),
            "updates": outcome.updates,
            "best_update": outcome.best_update,
            "slices_per_second": round(outcome.slices_per_second, 1),
            "data_wait": round(outcome.data_wait, 4),
            "figures": {key: round(value, 4) for key, value in outcome.figures.items()},
            "seconds": {"prepare": round(prepared - start, 1), "train": round(outcome.seconds, 1)},
        }
        if group.first:
            facts = _finish(job, learner.model, data, facts, group.device, say)
        group.barrier()
    return facts


@dataclass(frozen=True)
class _Data:
    slices: Rows
    held_out: Rows
    subjects: int
    validation_subjects: int
    modality: str | None
    grid: SliceGrid
    intensity: Scale


def _take_weights(model: Any, name: str) -> None:
    """Give a model the weights of another of its kind and shape."""
    source: Any = load_model(name)
    if (kind_of(source), source.config) != (kind_of(model), model.config):
        raise ValueError(
            f"start_from: got {name}, a {kind_of(source)} of {source.config}, expected the recipe's {kind_of(model)} of"
            f" {model.config}; give the recipe the shape of the model to start from"
        )
    model.load_state_dict(source.state_dict())


def _prepare(
    job: Job, people: tuple[Sequence[Subject], Sequence[Subject]], group: ProcessGroup, say: Progress
) -> _Data:
    """Bring the scans to the model's slices."""
    grid = SliceGrid(job.voxel_size, job.recipe.model.image_shape)
    contrast = _contrast(job, people[0])
    # Scans whose names tell no contrast are checked to be of the others'.
    subjects, held_out = (
        [subject if subject.modality else replace(subject, modality=contrast) for subject in part] for part in people
    )
    check_distinct("data", [*subjects, *held_out])
    intensity = reference_intensity(subjects, grid, job.steps())
    slices, validation = (Rows(_cache(job, part, grid, intensity, group, say)) for part in (subjects, held_out))
    if job.recipe.needs_lesions and not slices.cache.lesion.any():
        raise ValueError(
            "data: no scan has a lesion mask, which a supervised model is trained on; name the masks in a table with"
            " the columns image and lesion"
        )
    if not job.recipe.needs_lesions and slices.cache.lesion.any():
        warnings.warn(
            "data: some scans have lesion masks; a prior learns from all it sees, so that lesions become part of what"
            " it takes for healthy. Train it on healthy scans alone",
            stacklevel=3,
        )
    return _Data(slices, validation, len(subjects), len(held_out), _contrast(job, subjects), grid, intensity)


def _finish(
    job: Job, model: Any, data: _Data, facts: dict[str, Any], device: torch.device, say: Progress
) -> dict[str, Any]:
    """Calibrate the model and write its directory."""
    model.metadata = PriorMetadata(job.output.name, data.modality, data.grid, data.intensity, preprocessing=job.steps())
    start = time.perf_counter()
    cache = data.held_out.cache
    healthy = [
        stack
        for stack, subject in zip(cache.stacks(), cache.subjects, strict=True)
        if not cache.lesion[subject.rows.start : subject.rows.stop].any()
    ]
    if job.calibrate and healthy:
        advance = partial(_advance, say)
        calibration = replace(
            job.recipe.calibrate(model, healthy, device, advance), notes={"data": "held-out scans of the training run"}
        )
        model.metadata = model.metadata.with_calibration(calibration)
        facts["tv_weight"] = calibration.tv_weight
        facts["seconds"]["calibrate"] = round(time.perf_counter() - start, 1)
    elif job.calibrate:
        warnings.warn(
            "validation: every held-out scan has a lesion, so the model has no thresholds; name healthy scans, too",
            stacklevel=2,
        )
    versions = {"lesioncore": __version__, "torch": torch.__version__, "numpy": np.__version__}
    record = {**versions, "job": describe(job), **facts}
    card = _card(job, facts, data.modality)
    directory = save_model(model.cpu(), job.output / MODEL, card=card, training=record, overwrite=True)
    return {"directory": str(directory), **facts}


def _silent(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Progress of the processes that write nothing."""


def _unsaid(sentence: str) -> None:
    """Notes of the processes that write nothing."""


def _advance(say: Progress, done: int, total: int) -> None:
    say("calibrate", done, total, {})


class Rows:
    """Slices of a cache that have enough brain, as a :class:`~lesioncore.training.SliceSource`."""

    def __init__(self, cache: SliceCache) -> None:
        self.cache = cache
        self._rows = cache.rows()

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.cache.batch(self._rows[rows])

    def key(self) -> str:
        return self.cache.key()


def _contrast(job: Job, subjects: Sequence[Subject]) -> str | None:
    return job.modality or next((subject.modality for subject in subjects if subject.modality), None)


def _subjects(job: Job, note: Callable[[str], None] | None) -> tuple[list[Subject], list[Subject]]:
    subjects = find_subjects(job.data, modality=job.modality, split="train", note=note)
    modality = _contrast(job, subjects)
    if not job.validation:
        return split_subjects(subjects, job.validation_share, job.training.seed)
    held_out = find_subjects(job.validation, modality=modality, split="validation", note=note)
    shared = sorted({s.person for s in subjects} & {s.person for s in held_out})
    if shared:
        raise ValueError(
            f"validation: people of the training data are here, too ({len(shared)}), such as {shared[0]}; what a model"
            " has seen cannot judge it. If these are other people of the same label, name them in a table's column"
            " subject"
        )
    return subjects, held_out


def _cache(
    job: Job,
    subjects: Sequence[Subject],
    grid: SliceGrid,
    intensity: Scale,
    group: ProcessGroup,
    say: Progress,
) -> SliceCache:
    """Prepared slices of the subjects, by the first process; the others find them there."""
    build = partial(
        SliceCache.build,
        job.cache or job.output / "cache",
        subjects,
        grid=grid,
        intensity=intensity,
        steps=job.steps(),
        workers=job.workers,
    )
    if not group.first:
        group.barrier()
        return build()
    # After an interruption, whatever its cause, all slices are read once.
    cache = build(verify=job.resume, progress=lambda done, total: say("prepare", done, total, {}))
    group.barrier()
    return cache


def _card(job: Job, facts: Mapping[str, Any], modality: str | None) -> str:
    height, width = job.recipe.model.image_shape
    kind = type(job.recipe.learner().model).__name__
    return f"""# {job.output.name}

{kind} of {modality or "brain"} slices, {height} x {width} pixels of {job.voxel_size:g} mm, trained with lesioncore.

- **Data**: {facts["slices"]} transversal slices of {facts["subjects"]} scans; {facts["validation_subjects"]} scans held
  out. Say here whose scans they are, and under which licence.
- **Training**: {facts["updates"]} updates; configuration, versions and figures are in `config.json`.
- **Calibration**: {"on the held-out healthy scans" if "calibrate" in facts["seconds"] else "none"}.
- **Authors**: say here who made it, and who holds rights in it.
- **Intended use**: research on lesion detection, by the method of Chen et al., Medical Image Analysis 64 (2020) 101713.
- **Limits**: say here on which scanners, ages and contrasts it was tried.

Research software, not a medical device.
"""
