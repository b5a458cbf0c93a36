"""Every model of the paper's Tables 1 and 2, and simpler detectors, on unseen phantom patients.

    python bench/models.py --work runs                     # all models, both contrasts, three seeds: hours on 2 cores
    python bench/models.py --work runs --models vae unet --seeds 0 --contrasts T2w --patients 20
    python bench/models.py --work runs --table 3           # GMVAE over components and latent size

Trains what is not in the work folder yet, scores what is not scored yet, and writes ``models_<contrast>.json`` (or
``table3_<contrast>.json``) of all that is there: a run that was stopped goes on. Training people are phantoms of the
split "train", thresholds and weights come from healthy ones of "validation", patients are of "test".
"""

from __future__ import annotations

import argparse
import json
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
from _bench import RESULTS, environment, write_json
from lesioncore.training.config import TrainingConfig
from lesioncore.training.job import Job
from lesioncore.training.recipes import AAERecipe, GMVAERecipe, Recipe, UNetRecipe, VAERecipe
from lesioncore.training.train import train
from scipy.special import logit

from lesioncore.detectors import AAEConfig, Detector, UNetConfig, make_detector
from lesioncore.metrics import ScoreHistogram, bootstrap_interval, dice
from lesioncore.phantom import simulate
from lesioncore.priors import GMVAEConfig, VAEConfig, load_model
from lesioncore.scan import prepare

LESION = {"T2w": "glioma", "T1w": "stroke"}
SIGN = {"T2w": 1, "T1w": -1}  # gliomas are bright in T2w, old strokes dark in T1w
LIMITS = (0.01, 0.05, 0.10)
HIGHEST = 12.0  # scores beyond count as this
FIELD_OF_VIEW = 200.0  # mm, as the paper's slices
SUBJECTS, HEALTHY = 100, 20
SHAPE = {"channels": (16, 32, 64, 96, 96), "latent_channels": 64}


def square(pixels: int) -> dict[str, tuple[int, int]]:
    return {"image_shape": (pixels, pixels)}


# The paper's slices have 200 pixels, the ones here 100: VAE-256 and the 128s are scaled with them.
MODELS: dict[str, Recipe] = {
    "vae": VAERecipe(VAEConfig(**square(100), **SHAPE)),
    "gmvae-3": GMVAERecipe(GMVAEConfig(**square(100), **SHAPE, components=3)),
    "gmvae-6": GMVAERecipe(GMVAEConfig(**square(100), **SHAPE, components=6)),
    "gmvae-9": GMVAERecipe(GMVAEConfig(**square(100), **SHAPE, components=9)),
    "vae-256": VAERecipe(VAEConfig(**square(128), **SHAPE)),
    "vae-128": VAERecipe(VAEConfig(**square(64), channels=(16, 32, 64, 96), latent_channels=64)),
    "aae-128": AAERecipe(AAEConfig(**square(64), channels=(16, 32, 64, 96), latent_channels=64)),
    "unet": UNetRecipe(UNetConfig(**square(100), **SHAPE)),
}
TABLE_3 = {
    f"gmvae-{c}-{z}": GMVAERecipe(
        GMVAEConfig(**square(100), channels=SHAPE["channels"], latent_channels=z, components=c)
    )
    for c in (1, 3, 6, 9)
    for z in (32, 64, 128)
}
PROJECTING = ("vae-256", "vae-128", "aae-128")


def train_model(name: str, recipe: Recipe, contrast: str, seed: int, options: argparse.Namespace) -> Path:
    """Train a model unless it is there; returns the run's folder."""
    run = options.work / contrast / f"{name}-{seed}"
    if (run / "model" / "config.json").exists():
        return run
    lesion = f":{LESION[contrast]}" if recipe.needs_lesions else ""
    healthy = (f"phantom:{contrast}:{HEALTHY}",)
    # A supervised model is judged on patients while it trains; its thresholds come from the healthy ones among them.
    patients = (f"phantom:{contrast}:{HEALTHY}-{HEALTHY + 9}{lesion}",) if lesion else ()
    job = Job(
        recipe=recipe,
        data=(f"phantom:{contrast}:{SUBJECTS}{lesion}",),
        output=run,
        validation=healthy + patients,
        voxel_size=FIELD_OF_VIEW / recipe.model.image_shape[0],
        training=TrainingConfig(slices_seen=options.slices, validate_every=0, seed=seed),
        cache=options.work / "cache",
        resume=True,
        device=options.device,
    )
    processor = time.process_time()
    facts = train(job)
    # Of this sitting: a run that was stopped and resumed is not timed.
    facts["processor_seconds"] = round(time.process_time() - processor, 1)
    write_json(run / "facts.json", facts)
    return run


def detectors(name: str, recipe: Recipe, run: Path, contrast: str) -> dict[str, Detector]:
    """What a trained model is compared as."""
    model = load_model(run / "model")
    sign = SIGN[contrast]
    if recipe.needs_lesions or name in PROJECTING:
        return {name: make_detector(model, "unet" if recipe.needs_lesions else "projection")}
    found: dict[str, Detector] = {
        f"{name} (TV)": make_detector(model, "map"),
        f"{name} (TV), signed": make_detector(model, "map", sign=sign),
        f"{name}, projection": make_detector(model, "projection"),
        f"{name}, smoothed projection": make_detector(model, "projection", smoothing=4.0),
    }
    if name == "vae":
        found["intensity threshold"] = make_detector(model, "intensity", sign=sign)
        found["equalised threshold"] = make_detector(model, "equalized", sign=sign)
    return found


@lru_cache(maxsize=64)
def person(contrast: str, number: int, split: str, lesion: str | None):
    return simulate(number, split=split, contrast=contrast, lesion=lesion, voxel_size=2.0)


def evaluate(name: str, recipe: Recipe, contrast: str, seed: int, options: argparse.Namespace) -> dict[str, dict]:
    """Scores of a trained model's detectors on the patients' own voxels, unless they are there."""
    run = train_model(name, recipe, contrast, seed, options)
    done = run / f"scores_{options.patients}.json"
    if done.exists():
        return json.loads(done.read_text())
    rows = {}
    for title, detector in detectors(name, recipe, run, contrast).items():
        if detector.calibration is None:
            healthy = [person(contrast, i, "validation", None) for i in range(HEALTHY)]
            prepared = [prepare(p.image, detector.metadata, mask=p.brain_mask, affine=p.affine) for p in healthy]
            calibration = detector.thresholds(prepared, device=options.device)
            detector.metadata = detector.metadata.with_calibration(calibration)
        rows[title] = score_patients(detector, contrast, options)
        print(f"  {title:32s} AUC {rows[title]['auc']:.3f}", flush=True)
    write_json(done, rows)
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
        "seconds_per_volume": float(np.median(seconds)),
    }


def summarise(rows: list[dict]) -> dict:
    """Mean over the seeds; the AUC's spread over them, and the mean of its intervals over patients."""
    mean = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
    aucs = [row["auc"] for row in rows]
    return {**mean, "seeds": len(rows), "auc_of_seeds": [round(auc, 4) for auc in aucs]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for trained models and scores")
    parser.add_argument("--table", type=int, default=1, choices=[1, 3])
    parser.add_argument("--models", nargs="+", help="some of them")
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=list(LESION))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--slices", type=int, default=28_000, help="slices that each model sees in training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    known = MODELS if options.table == 1 else TABLE_3
    names = options.models or list(known)
    for contrast in options.contrasts:
        rows: dict[str, list[dict]] = {}
        training = {}
        for seed in options.seeds:
            for name in names:
                print(f"{contrast} {name} seed {seed}", flush=True)
                for title, row in evaluate(name, known[name], contrast, seed, options).items():
                    rows.setdefault(title, []).append(row)
                run = options.work / contrast / f"{name}-{seed}"
                training.setdefault(name, []).append(json.loads((run / "facts.json").read_text()))
        found = {
            **environment(options.device),
            "patients": options.patients,
            "slices_seen": options.slices,
            "training_people": SUBJECTS,
            "training_seconds": {
                name: round(float(np.median([facts["seconds"]["train"] for facts in runs])), 1)
                for name, runs in training.items()
            },
            "methods": {title: summarise(seeds) for title, seeds in rows.items()},
        }
        write_json(options.out / f"{'models' if options.table == 1 else 'table3'}_{contrast}.json", found)


if __name__ == "__main__":
    main()
