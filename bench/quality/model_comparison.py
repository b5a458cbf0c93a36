"""Detection quality of every model of the paper's Tables 1 to 3, and of simpler detectors, on simulated patients.

    python bench/quality/model_comparison.py --work runs
    python bench/quality/model_comparison.py --work runs --models VAE U-Net --seeds 0 --contrasts T2w --patients 20
    python bench/quality/model_comparison.py --work runs --table 3           # GMVAE over components and latent size

The first line is all models, both contrasts and three seeds, which takes hours on two cores. The script trains what is
not in the work folder yet, scores what is not scored yet, and writes ``models_<contrast>.json`` (or
``table3_<contrast>.json``) of all that is there: a run that was stopped goes on. Training people are phantoms of the
split "train", thresholds and weights come from healthy ones of "validation", patients are of "test".
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.patients import HIGHEST, LESION, SIGN
from common.results import write_json
from common.shared_detectors import DeviationCache, SharedRestoration

from lesioncore.detectors import Detector, make_detector
from lesioncore.metrics import ScoreHistogram, bootstrap_interval, dice
from lesioncore.metrics.limits import LIMITS
from lesioncore.models import AAEConfig, AnoGANConfig, GMVAEConfig, LatentSearch, UNetConfig, VAEConfig, load_model
from lesioncore.phantom import simulate, write_dataset
from lesioncore.restoration.calibrate import calibrate
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.scan import Scan
from lesioncore.training import embedded
from lesioncore.training.job import Job
from lesioncore.training.recipes import AAERecipe, AnoGANRecipe, GMVAERecipe, Recipe, UNetRecipe, VAERecipe
from lesioncore.training.train import train

FIELD_OF_VIEW = 200.0  # mm, as the paper's slices
SUBJECTS, HEALTHY = 100, 12
ADVERSARIAL_SHARE = 4  # of the others' slices: each takes an AnoGAN some seven times longer
SMOOTHING = 6.0  # mm
FILTERS = (16, 32, 64, 96, 96, 96)
SLICEWISE = RestoreConfig(tv_dimensions=2, smoothing=0.0)  # as the paper restores and scores
SEARCH = LatentSearch(steps=100, step_size=0.05)  # 500 steps would take most of the benchmark's time


def shape(pixels: int, latent: int = 64, **options) -> dict[str, Any]:
    """Blocks until the latent map has 2 x 2 places (100 and 64 pixels: five; 128: six)."""
    blocks = {64: 5, 100: 5, 128: 6}[pixels]
    return {
        "image_shape": (pixels, pixels),
        "channels": FILTERS[:blocks],
        "latent_channels": latent,
        **options,
    }


# The paper's slices have 200 pixels, the ones here 100: VAE-256 and the 128s are scaled with them.
MODELS: dict[str, Recipe] = {
    "VAE": VAERecipe(VAEConfig(**shape(100))),
    "GMVAE, c = 3": GMVAERecipe(GMVAEConfig(**shape(100, components=3))),
    "GMVAE, c = 6": GMVAERecipe(GMVAEConfig(**shape(100, components=6))),
    "GMVAE, c = 9": GMVAERecipe(GMVAEConfig(**shape(100, components=9))),
    "multiscale VAE": embedded.RECIPE,
    "VAE-256": VAERecipe(VAEConfig(**shape(128))),
    "VAE-128": VAERecipe(VAEConfig(**shape(64))),
    "AAE-128": AAERecipe(AAEConfig(**shape(64))),
    "AnoGAN": AnoGANRecipe(AnoGANConfig(**shape(64, 128))),
    "f-AnoGAN": AnoGANRecipe(AnoGANConfig(**shape(64, 128, encoder=True))),
    "U-Net": UNetRecipe(UNetConfig(**shape(100))),
}
PROJECTING = ("VAE-256", "VAE-128", "AAE-128", "AnoGAN", "f-AnoGAN")
TABLE_3: dict[str, Recipe] = {
    f"c = {c}, dim_z = {z}": GMVAERecipe(GMVAEConfig(**shape(64, z, components=c)))
    for c in (1, 3, 6, 9)
    for z in (32, 64, 128)
}


def slug(name: str) -> str:
    """A model's name as a folder's."""
    return re.sub(r"[^a-zA-Z0-9.-]+", "-", name).lower()


def people(contrast: str, split: str, number: int, lesion: str | None, options: argparse.Namespace) -> str:
    """Table of simulated scans, of 2 mm whatever a model's pixels are; written where they are not there yet."""
    folder = options.work / "people" / "-".join([contrast, split, str(number), *([lesion] if lesion else [])])
    table = folder.with_suffix(".csv")
    if not table.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_dataset(
            folder, subjects=number, contrast=contrast, lesion=lesion, split=split, voxel_size=2.0, overwrite=True
        )
        lines = ["image,lesion,subject"]
        for scan in sorted(folder.glob(f"sub-*/anat/*_{contrast}.nii.gz")):
            name = scan.name.split("_")[0]
            masks = [str(path.resolve()) for path in folder.glob(f"derivatives/*/{name}/anat/*lesion_mask.nii.gz")]
            lines.append(",".join([str(scan.resolve()), "".join(masks), f"{split}-{lesion or 'healthy'}-{name}"]))
        table.write_text("\n".join(lines) + "\n")
    return str(table)


def train_model(name: str, recipe: Recipe, contrast: str, seed: int, options: argparse.Namespace) -> Path:
    """Train a model unless it is there; returns the run's folder."""
    run = options.work / contrast / f"{slug(name)}-{seed}"
    if (run / "model" / "config.json").exists():
        return run
    lesion = LESION[contrast] if recipe.needs_lesions else None
    held_out = [people(contrast, "validation", HEALTHY, None, options)]
    if lesion:
        # A supervised model is judged on patients while it trains; its thresholds come from the healthy ones.
        held_out.append(people(contrast, "validation", HEALTHY, lesion, options))
    slices = options.slices // ADVERSARIAL_SHARE if isinstance(recipe, AnoGANRecipe) else options.slices
    job = Job(
        recipe=recipe,
        data=(people(contrast, "train", SUBJECTS, lesion, options),),
        output=run,
        validation=tuple(held_out),
        voxel_size=FIELD_OF_VIEW / recipe.model.image_shape[0],
        training=replace(recipe.training, slices_seen=slices, validate_every=0, precision=options.precision, seed=seed),
        cache=options.work / "cache",
        calibrate=False,  # for this benchmark's own protocol, by `evaluate`
        resume=True,
        device=options.device,
    )
    # Of this sitting: a run that was stopped and resumed is not timed.
    write_json(run / "facts.json", train(job))
    return run


def detectors(name: str, recipe: Recipe, run: Path, contrast: str) -> dict[str, Detector]:
    """What a trained model is compared as."""
    model = load_model(run / "model")
    if name == "AnoGAN":
        return {name: make_detector(model, search=SEARCH)}
    if recipe.needs_lesions:
        return {name: make_detector(model)}
    if name in PROJECTING:
        return {name: make_detector(model, "projection")}
    model.metadata = model.metadata.with_calibration(calibrate(model, healthy(model, contrast), config=SLICEWISE))
    cache = DeviationCache()
    if name not in MODELS:
        return {name: SharedRestoration(model, SLICEWISE, cache=cache)}
    found: dict[str, Detector] = {f"{name} (TV)": SharedRestoration(model, SLICEWISE, cache=cache)}
    sign = SIGN[contrast]
    if name in ("VAE", "multiscale VAE"):
        found |= {
            f"{name} (TV), signed": SharedRestoration(model, replace(SLICEWISE, sign=sign), cache=cache),
            f"{name}, projection": make_detector(model, "projection"),
            f"{name}, smoothed projection": make_detector(model, "projection", smoothing=SMOOTHING),
        }
    if name == "VAE":
        # At the weight found for the default solver, em, which suits a blurred prior less.
        exact = replace(SLICEWISE, solver="prox", tv_weight=model.metadata.calibration.tv_weight)
        found |= {
            f"{name} (TV), prox solver": make_detector(model, config=exact),
            "intensity threshold": make_detector(model, "intensity", sign=sign),
            "equalised threshold": make_detector(model, "equalized", sign=sign),
        }
    return found


@lru_cache(maxsize=64)
def person(contrast: str, number: int, split: str, lesion: str | None):
    return simulate(number, split=split, contrast=contrast, lesion=lesion, voxel_size=2.0)


def healthy(model: Any, contrast: str) -> list[Scan]:
    """The healthy people that weights and thresholds come from, prepared for a model or detector."""
    people = [person(contrast, number, "validation", None) for number in range(HEALTHY)]
    return [prepare(p.image, model.metadata, mask=p.brain_mask, affine=p.affine) for p in people]


def evaluate(name: str, recipe: Recipe, contrast: str, seed: int, options: argparse.Namespace) -> dict[str, dict]:
    """Scores of a trained model's detectors on the patients' own voxels; computes those that are not there yet."""
    run = train_model(name, recipe, contrast, seed, options)
    done = run / f"scores_{options.patients}.json"
    rows = json.loads(done.read_text()) if done.exists() else {}
    for title, detector in detectors(name, recipe, run, contrast).items():
        if title in rows or (options.rows and title not in options.rows):
            continue
        if detector.calibration is None:
            calibration = detector.thresholds(healthy(detector, contrast), device=options.device)
            detector.metadata = detector.metadata.with_calibration(calibration)
        rows[title] = score_patients(detector, contrast, options)
        write_json(done, rows)
        print(f"  {title:32s} AUC {rows[title]['auc']:.3f}", flush=True)
    return rows


def score_patients(detector: Detector, contrast: str, options: argparse.Namespace) -> dict:
    histograms, dices, seconds = [], {limit: [] for limit in LIMITS}, []
    for number in range(options.patients):
        patient = person(contrast, number, "test", LESION[contrast])
        start = time.perf_counter()
        score = detector.detect(patient.image, mask=patient.brain_mask, affine=patient.affine, device=options.device)
        seconds.append(time.perf_counter() - start)
        histogram = ScoreHistogram(-HIGHEST, HIGHEST)
        # Probabilities crowd near 0, where the histogram's bins would mix them.
        spread = logit(np.clip(score, 1e-6, 1 - 1e-6)) if detector.name == "unet" else score
        histogram.add(spread, patient.lesion_mask, patient.brain_mask)
        histograms.append(histogram)
        for limit in LIMITS:
            dices[limit].append(dice(detector.mask(score, limit), patient.lesion_mask, patient.brain_mask))
    low, high = bootstrap_interval(histograms)
    return {
        "auc": sum(histograms[1:], histograms[0]).auc(),
        "auc_low": low,
        "auc_high": high,
        **{f"dice_{limit:g}": float(np.mean(values)) for limit, values in dices.items()},
        **{f"dice_sd_{limit:g}": float(np.std(values)) for limit, values in dices.items()},
        "seconds_per_volume": float(np.median(seconds)),
    }


def collect(contrast: str, known: dict[str, Recipe], options: argparse.Namespace) -> dict[str, Any]:
    """Figures of all that the work folder holds: means over seeds; the intervals over patients are averaged, too."""
    rows: dict[str, list[dict]] = {}
    seconds: dict[str, list[float]] = {}
    for name in known:
        for run in sorted((options.work / contrast).glob(f"{slug(name)}-[0-9]")):
            done = run / f"scores_{options.patients}.json"
            if done.exists():
                for title, row in json.loads(done.read_text()).items():
                    rows.setdefault(title, []).append(row)
                seconds.setdefault(name, []).append(json.loads((run / "facts.json").read_text())["seconds"]["train"])
    return {
        **environment(options.device),
        "patients": options.patients,
        "slices_seen": options.slices,
        "precision": options.precision,
        "training_people": SUBJECTS,
        "healthy_people": HEALTHY,
        "training_seconds": {name: round(float(np.median(times)), 1) for name, times in seconds.items()},
        "methods": {
            title: {
                **{key: round(float(np.mean([row[key] for row in found])), 4) for key in found[0]},
                "auc_of_seeds": [round(row["auc"], 4) for row in found],
            }
            for title, found in rows.items()
        },
    }


def main() -> None:
    arguments = parser(
        __doc__,
        writes="models_CONTRAST.json",
        work="folder for trained models and scores",
        contrasts=list(LESION),
        patients=24,
        device="cpu",
    )
    arguments.add_argument("--table", type=int, default=1, choices=[1, 3])
    arguments.add_argument("--models", nargs="+", help="some of them")
    arguments.add_argument("--rows", nargs="+", help="some of their detectors, by the names in the tables")
    arguments.add_argument("--name", help="of the result, 'models' or 'table3' when absent")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--slices", type=int, default=28_000, help="slices that each model sees in training")
    arguments.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of the training")
    options = arguments.parse_args()
    if options.patients < 2:
        arguments.error("--patients: the interval over patients needs at least two")
    known = MODELS if options.table == 1 else TABLE_3
    for contrast in options.contrasts:
        for seed in options.seeds:
            for name in options.models or known:
                print(f"{contrast} {name} seed {seed}", flush=True)
                evaluate(name, known[name], contrast, seed, options)
                title = options.name or ("models" if options.table == 1 else "table3")
                write_json(options.out / f"{title}_{contrast}.json", collect(contrast, known, options))


if __name__ == "__main__":
    main()
