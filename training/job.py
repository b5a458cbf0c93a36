"""Options of a training run, and a check of its output folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from lesioncore.command_options import Flat
from lesioncore.data.json_files import read_object
from lesioncore.preprocess.pipeline import STEPS, Step, parse_steps
from lesioncore.training.config import TrainingConfig
from lesioncore.training.fit import CHECKPOINT
from lesioncore.training.recipes import Recipe

MODEL, CONFIG = "model", "config.json"
"""Folder of the finished model in that of the run, and the file of the run's options."""

_LARGEST_RECORD = 16 * 2**20
"""Bytes that the file of options may have."""


@dataclass(frozen=True)
class Job:
    """Options of a training run: model, data and output.

    Parameters
    ----------
    data : tuple of str
        Training scans: folders, images, lists of paths (.txt, .csv, .tsv), or simulated ones
        (phantom:T2w:0-99). Healthy ones, but for supervised models.
    output : Path
        Folder of the run; the finished model goes to its subfolder "model".
    recipe : Recipe
        The model and its objective.
    validation : tuple of str
        Held-out scans, named as data; those without a lesion make the thresholds. A share of the training people when
        absent. Phantoms are of another split than those of the training data.
    validation_share : float
        Share of the people that is held out where no validation scans are given.
    modality : str, optional
        Contrast of the scans, such as T2w; needed for folders with several. Stored with the model.
    voxel_size : float
        Pixel size of the model's slices, mm.
    preprocess : str
        How scans are preprocessed, here and before they are restored with the model: some of extract, register, bias,
        separated by commas, or none. Simulated ones come preprocessed.
    training : TrainingConfig
        Length, learning rate, seed.
    start_from : str, optional
        Embedded prior, or directory of a model of the recipe's shape, whose weights the run starts from; random ones
        when absent. The intensity scale is that of the run's own scans.
    cache : Path, optional
        Folder for prepared slices, which runs may share; in the output folder when absent.
    workers : int
        Processes that prepare scans.
    device : str
        auto, cpu or cuda.
    calibrate : bool
        Weight and thresholds are found on the validation scans; --no-calibrate leaves them out.
    resume : bool
        Go on with the interrupted run in the output folder.
    """

    data: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="DATA [DATA ...]", help_behavior_hint="(required)"),
    ]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    recipe: Recipe
    validation: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA [DATA ...]", help_behavior_hint="")] = ()
    validation_share: float = 0.1
    modality: Annotated[str | None, tyro.conf.arg(metavar="SUFFIX", help_behavior_hint="")] = None
    voxel_size: float = 1.0
    preprocess: Annotated[str, tyro.conf.arg(metavar="STEPS")] = ",".join(STEPS)
    training: Flat[TrainingConfig] = field(default_factory=TrainingConfig)
    start_from: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    cache: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    workers: int = 1
    device: str = "auto"
    calibrate: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = True
    resume: bool = False

    def steps(self) -> tuple[Step, ...]:
        """The steps of `preprocess`; ``ValueError`` if one is unknown."""
        return parse_steps(self.preprocess) or ()


def describe(job: Job) -> dict[str, Any]:
    """A job as JSON-able values; paths as they were given."""
    return {
        "model": type(job.recipe).__name__.removesuffix("Recipe"),
        **json.loads(json.dumps(asdict(job), default=str)),
    }


def check_output(job: Job) -> None:
    """Raise unless the output folder is free, or holds the unfinished run that is to go on.

    Raises
    ------
    FileExistsError
        If it holds a finished run, an unfinished one that is not to be resumed, or something else.
    ValueError
        If the run to be resumed was started with other options.
    """
    if (job.output / MODEL / CONFIG).exists():
        raise FileExistsError(f"output: {job.output} holds a finished run; choose another folder, or remove it")
    if (job.output / CHECKPOINT).exists() and not job.resume:
        raise FileExistsError(
            f"output: {job.output} holds an unfinished run; give --resume to go on with it, or choose another folder"
        )
    record = job.output / CONFIG
    # The cache is written before anything else.
    if job.output.exists() and not record.exists() and {path.name for path in job.output.iterdir()} - {"cache"}:
        raise FileExistsError(f"output: {job.output} holds other files; choose a new folder for the run")
    if job.resume and (job.output / CHECKPOINT).exists() and record.exists():
        before, now = _flat(read_object(record, _LARGEST_RECORD)), _flat(describe(job))
        # Options of where and how fast do not change the result.
        free = ("output", "cache", "workers", "device", "resume", "calibrate")
        differing = [key for key in {**before, **now} if key not in free and before.get(key) != now.get(key)]
        if differing:
            changed = ", ".join(f"{key} {before.get(key)!r}, not {now.get(key)!r}" for key in differing)
            raise ValueError(
                f"output: the run in {job.output} was started with other options ({changed}); go on with those, or"
                " choose another folder"
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by one name each, such as ``recipe.model.channels``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
