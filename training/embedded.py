"""Build the priors that come with the package: ``python -m lesioncore.training.embedded --out DIR``.

Simulates healthy phantoms, trains a prior on them, calibrates it on other healthy phantoms, and writes a prior
directory for each contrast, the two side by side. No patient, simulated or real, is seen.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args

import torch
import tyro

from lesioncore.models import MultiscaleVAEConfig, load_model, save_model
from lesioncore.training.config import TrainingConfig
from lesioncore.training.corruption import Corruption
from lesioncore.training.job import Job
from lesioncore.training.recipes import MultiscaleVAERecipe
from lesioncore.training.train import train

RECIPE = MultiscaleVAERecipe(
    MultiscaleVAEConfig(
        image_shape=(100, 100), channels=(16, 32, 64, 96), latent_channels=32, finer_channels=(2, 4, 8)
    ),
    corruption=Corruption(strength=2.0, spacing=9.0),
)
TRAINING = TrainingConfig(validate_every=0)
VOXEL_SIZE = 2.0

Contrast = Literal["T1w", "T2w"]


@dataclass(frozen=True)
class Build:
    """Rebuild the embedded priors.

    Parameters
    ----------
    out : Path
        Folder that receives ``phantom-t1`` and ``phantom-t2``; existing priors of these names are replaced.
    contrasts : tuple of {"T1w", "T2w"}
        Which to build.
    subjects : int
        Healthy training phantoms.
    validation : int
        Healthy phantoms for the calibration, of another split.
    recipe : MultiscaleVAERecipe
        The model and its objective.
    training : TrainingConfig
        Length, learning rate, seed.
    threads : int
        Threads of each contrast's build; another number rounds differently.
    """

    out: Path = Path("lesioncore/models/embedded")
    contrasts: tuple[Contrast, ...] = get_args(Contrast)
    subjects: int = 100
    validation: int = 20
    recipe: MultiscaleVAERecipe = RECIPE
    training: TrainingConfig = TRAINING
    threads: int = 1


def build(options: Build, contrast: str) -> Path:
    """Train, calibrate and write one prior; returns its directory."""
    torch.set_num_threads(options.threads)
    name = f"phantom-{contrast[:2].lower()}"
    with tempfile.TemporaryDirectory() as work:
        job = Job(
            recipe=options.recipe,
            data=(f"phantom:{contrast}:{options.subjects}",),
            output=Path(work) / name,
            validation=(f"phantom:{contrast}:{options.validation}",),
            voxel_size=VOXEL_SIZE,
            preprocess="none",
            training=options.training,
            workers=options.threads,
            device="cpu",
        )
        facts = train(job, progress=partial(_report, contrast, {}))
        model = load_model(facts["directory"])
        record = json.loads((Path(facts["directory"]) / "config.json").read_text())["training"]
    record["threads"] = options.threads
    # Where the run's files were does not belong in a published record.
    del record["job"]["output"]
    return save_model(model, options.out / name, card=_card(name, contrast, record), training=record, overwrite=True)


def _report(
    contrast: str, last: dict[str, int], stage: str, done: int, total: int, figures: Mapping[str, float]
) -> None:
    """A line for each tenth of a stage; two builds side by side leave no room for bars."""
    tenth = 10 * done // max(1, total)
    if last.get(stage) != tenth:
        last[stage] = tenth
        print(f"{contrast} {stage} {10 * tenth} %", file=sys.stderr, flush=True)


def _card(name: str, contrast: str, record: dict) -> str:
    lesion = {"T1w": "dark (stroke-like)", "T2w": "bright (glioma-like)"}[contrast]
    height, width = RECIPE.model.image_shape
    return f"""# {name}

A multiscale VAE prior of healthy {contrast} slices, {height} x {width} pixels of {VOXEL_SIZE:g} mm, for
`lesioncore.restore`.

- **Data**: {record["slices"]} transversal slices of {record["subjects"]} simulated healthy brains
  (`lesioncore.phantom`, split `train`), made from the ICBM152 tissue maps. No patient and no real scan of a single
  person was used.
- **Calibration**: weight and thresholds (`calibration.json`) from simulated healthy brains of the split `validation`.
- **Intended use**: demonstration, tests, teaching and method development. The phantom's lesions in {contrast} images
  are {lesion}.
- **Limits**: simulated anatomy is smoother and less varied than real anatomy, so on real scans expect more false
  positives than the thresholds promise. For studies, train a prior on healthy scans of your own scanner.
- **Rebuild**: `python -m lesioncore.training.embedded`; the figures of this build are in `config.json`.
- **Licence**: Apache-2.0. The ICBM152 maps are (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal
  Neurological Institute, McGill University, free to use, copy, modify and distribute for any purpose with this notice.

Research software, not a medical device.
"""


def main() -> None:
    """Command line."""
    options = tyro.cli(Build, description=__doc__)
    # Side by side on cores of their own: small batches gain little from a second thread.
    with ProcessPoolExecutor(len(options.contrasts), mp_context=get_context("spawn")) as pool:
        for directory in pool.map(partial(build, options), options.contrasts):
            print(directory, file=sys.stderr)


if __name__ == "__main__":
    main()
