"""Build the priors that come with the package: ``python -m lesioncore.training.embedded --out DIR``.

Simulates healthy phantoms, trains a VAE on them, calibrates it on other healthy phantoms, and writes a prior directory
for each contrast, the two side by side. No patient, simulated or real, is seen.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from lesioncore.training.cache import SliceCache
from lesioncore.training.config import TrainingConfig
from lesioncore.training.fit import Update, fit
from lesioncore.training.sources import find_subjects, reference_intensity
from tqdm import tqdm

from lesioncore import __version__
from lesioncore.calibrate import calibrate
from lesioncore.data.grid import SliceGrid
from lesioncore.priors import PriorMetadata, VAEConfig, save_model

ARCHITECTURE = VAEConfig(image_shape=(100, 100), channels=(16, 32, 64, 96, 96), latent_channels=64)
GRID = SliceGrid(voxel_size=2.0, shape=ARCHITECTURE.image_shape)


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
    training : TrainingConfig
        Length, learning rate, seed.
    threads : int
        Threads of each contrast's build; another number rounds differently.
    cache : Path
        Folder that keeps the simulated slices for the next time.
    """

    out: Path = Path("lesioncore/priors/embedded")
    contrasts: tuple[Literal["T1w", "T2w"], ...] = ("T1w", "T2w")
    subjects: int = 100
    validation: int = 20
    training: TrainingConfig = field(default_factory=TrainingConfig)
    threads: int = 1
    cache: Path = Path("build/slices")


def build(options: Build, contrast: str) -> Path:
    """Simulate, train, calibrate and write one prior; returns its directory."""
    torch.set_num_threads(options.threads)
    bars: dict[str, Any] = {"position": options.contrasts.index(contrast), "leave": False, "disable": None}
    start = time.perf_counter()
    people = find_subjects([f"phantom:{contrast}:{options.subjects}"], modality=contrast, split="train")
    held_out = find_subjects([f"phantom:{contrast}:{options.validation}"], modality=contrast, split="validation")
    intensity = reference_intensity(people[0], GRID)
    caches = []
    for subjects in (people, held_out):
        with tqdm(desc=f"{contrast} phantoms", **bars) as bar:

            def prepared(done: int, total: int, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            caches.append(
                SliceCache.build(
                    options.cache, subjects, grid=GRID, intensity=intensity, workers=options.threads, progress=prepared
                )
            )
    slices, _ = caches[0].batch(caches[0].rows())
    validation = caches[1].stacks()
    simulated = time.perf_counter()
    with tqdm(total=options.training.slices_seen, desc=f"{contrast} training", unit="slice", **bars) as bar:

        def report(update: Update) -> None:
            bar.update(update.slices_seen - bar.n)
            bar.set_postfix(elbo=f"{update.elbo:.0f}", kl=f"{update.kl:.0f}")
            last.append(update)

        last: list[Update] = []
        prior = fit(slices, ARCHITECTURE, options.training, report=report)
    trained = time.perf_counter()
    name = f"phantom-{contrast[:2].lower()}"
    prior.metadata = PriorMetadata(name, contrast, GRID, intensity)
    # The phantoms are on the grid and in z-scores already.
    with tqdm(desc=f"{contrast} calibration", **bars) as bar:

        def advance(done: int, rounds: int) -> None:
            bar.total = rounds
            bar.update(done - bar.n)

        calibration = calibrate(prior, validation, progress=advance)
    prior.metadata = prior.metadata.with_calibration(
        replace(calibration, notes={"data": "healthy phantoms, validation"})
    )
    calibrated = time.perf_counter()
    record = {
        "lesioncore": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "subjects": options.subjects,
        "slices": len(slices),
        **asdict(options.training),
        "seconds": {
            "simulate": round(simulated - start, 1),
            "train": round(trained - simulated, 1),
            "calibrate": round(calibrated - trained, 1),
        },
        "last_updates": {
            key: round(sum(getattr(u, key) for u in last[-50:]) / len(last[-50:]), 2)
            for key in ("elbo", "squared_error", "kl")
        },
    }
    return save_model(prior, options.out / name, card=_card(name, contrast, record), training=record, overwrite=True)


def _card(name: str, contrast: str, record: dict) -> str:
    lesion = {"T1w": "dark (stroke-like)", "T2w": "bright (glioma-like)"}[contrast]
    height, width = GRID.shape
    return f"""# {name}

A VAE prior of healthy {contrast} slices, {height} x {width} pixels of {GRID.voxel_size:g} mm, for `lesioncore.restore`.

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
