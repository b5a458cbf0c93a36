"""What makes a prior better at the same training budget: variants of the recipe, on the validation protocol.

    python bench/recipes.py --work runs                              # all variants, T2w and T1w, three seeds: hours
    python bench/recipes.py --work runs --variants paper coarse --contrasts T2w --seeds 0

Trains what is not in the work folder yet, scores what is not scored yet, and writes ``recipes_<contrast>.json`` of all
that is there: a run that was stopped goes on. Judged on simulated patients of the split "validation", of whom every
third slice is taken; the split "test" is never touched, so that the choice can be measured there.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from _bench import RESULTS, environment, write_json

from lesioncore.data.stack import SliceStack
from lesioncore.detectors import ProjectionDetector
from lesioncore.metrics import ScoreHistogram
from lesioncore.models import GMVAEConfig, MultiscaleVAEConfig, VAEConfig, load_model
from lesioncore.restoration.calibrate import calibrate
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.solve import solve_stacks
from lesioncore.solvers import EMSolver
from lesioncore.subjects import find_subjects
from lesioncore.training.cache import SliceCache
from lesioncore.training.config import TrainingConfig
from lesioncore.training.corruption import Corruption
from lesioncore.training.job import Job
from lesioncore.training.recipes import GMVAERecipe, MultiscaleVAERecipe, Recipe, VAERecipe
from lesioncore.training.train import train

LESION = {"T2w": "glioma", "T1w": "stroke"}
SIGN = {"T2w": 1.0, "T1w": -1.0}
APART = 1e6  # mm
SLICEWISE = RestoreConfig(tv_dimensions=2, smoothing=0.0)  # as the paper restores and scores
HIGHEST = 12.0  # scores beyond count as this
PATIENTS = "1000-1015"  # of the split "validation", none of them among the healthy ones
HEALTHY = 8  # validation people who choose the weight
SMOOTHING = 6.0  # mm
WEIGHTS = (1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Variant:
    """One recipe and how it restores."""

    recipe: Recipe
    training: TrainingConfig = field(default_factory=TrainingConfig)
    restore: RestoreConfig = SLICEWISE


def vae(channels: tuple[int, ...] = (16, 32, 64, 96, 96), latent: int = 64, **options) -> VAERecipe:
    model = {key: options.pop(key) for key in ("learned_variance",) if key in options}
    return VAERecipe(VAEConfig((100, 100), channels, latent, **model), **options)


def multiscale(channels: tuple[int, ...], latent: int, finer: tuple[int, ...], **options) -> MultiscaleVAERecipe:
    options.setdefault("corruption", Corruption())
    return MultiscaleVAERecipe(MultiscaleVAEConfig((100, 100), channels, latent, finer_channels=finer), **options)


COARSE = Corruption(2.0, 9.0)
FOUR_BLOCKS = (16, 32, 64, 96)
FINER = (2, 4, 8)
VARIANTS = {
    "2x2x64": Variant(vae()),
    "2x2x64, corrupted": Variant(vae(corruption=COARSE)),
    "5x5x32": Variant(vae(FOUR_BLOCKS, 32)),
    "5x5x32, KL x 4 while training": Variant(vae(FOUR_BLOCKS, 32, kl_weight=4.0)),
    "5x5x32, corrupted": Variant(vae(FOUR_BLOCKS, 32, corruption=COARSE)),
    "5x5x32, corrupted, sampled": Variant(
        vae(FOUR_BLOCKS, 32, corruption=COARSE), restore=replace(SLICEWISE, latent="sample")
    ),
    "5x5x32, corrupted x 2": Variant(vae(FOUR_BLOCKS, 32, corruption=Corruption(4.0, 9.0))),
    "5x5x64, corrupted": Variant(vae(FOUR_BLOCKS, 64, corruption=COARSE)),
    "5x5x32 wider, corrupted": Variant(vae((24, 48, 72, 96), 32, corruption=COARSE)),
    "5x5x64, corrupted, KL x 0.25 while training": Variant(vae(FOUR_BLOCKS, 64, corruption=COARSE, kl_weight=0.25)),
    "11x11x32, corrupted, KL x 0.25 while training": Variant(vae((16, 32, 64), 32, corruption=COARSE, kl_weight=0.25)),
    "5x5x32, corrupted, learned variance": Variant(vae(FOUR_BLOCKS, 32, corruption=COARSE, learned_variance=True)),
    "multiscale": Variant(multiscale(FOUR_BLOCKS, 32, FINER)),
    "multiscale, corrupted": Variant(multiscale(FOUR_BLOCKS, 32, FINER, corruption=COARSE)),
    "multiscale, corrupted coarser": Variant(multiscale(FOUR_BLOCKS, 32, FINER, corruption=Corruption(2.0, 16.0))),
    "multiscale, corrupted finer": Variant(multiscale(FOUR_BLOCKS, 32, FINER, corruption=Corruption(2.0, 5.0))),
    "multiscale, corrupted x 2": Variant(multiscale(FOUR_BLOCKS, 32, FINER, corruption=Corruption(4.0, 9.0))),
    "multiscale, corrupted, KL x 0.5 while training": Variant(
        multiscale(FOUR_BLOCKS, 32, FINER, corruption=COARSE, kl_weight=0.5)
    ),
    "GMVAE c = 6, 5x5x32, corrupted": Variant(
        GMVAERecipe(GMVAEConfig((100, 100), FOUR_BLOCKS, 32, components=6), corruption=COARSE)
    ),
}


def slug(name: str) -> str:
    """A variant's name as a file's."""
    return re.sub(r"[^a-zA-Z0-9.]+", "-", name)


def trained(name: str, variant: Variant, contrast: str, seed: int, options: argparse.Namespace) -> Path:
    """Train a variant unless it, or one that trains alike, is there; returns the run's folder."""
    alike = next(
        key for key, other in VARIANTS.items() if (other.recipe, other.training) == (variant.recipe, variant.training)
    )
    run = options.work / "recipes" / contrast / f"{slug(alike)}-{seed}"
    if not (run / "model" / "config.json").exists():
        job = Job(
            recipe=variant.recipe,
            data=(f"phantom:{contrast}:100",),
            output=run,
            validation=(f"phantom:{contrast}:20",),
            voxel_size=2.0,
            training=replace(
                variant.training,
                slices_seen=options.slices,
                validate_every=0,
                precision=options.precision,
                seed=seed,
            ),
            cache=options.work / "cache",
            calibrate=False,
            resume=True,
        )
        train(job)
    return run


def patients(contrast: str, prior, options: argparse.Namespace) -> tuple[list[SliceStack], list[torch.Tensor]]:
    """Every third slice of the validation patients, and the lesion there."""
    subjects = find_subjects([f"phantom:{contrast}:{PATIENTS}:{LESION[contrast]}"], split="validation")
    metadata = prior.metadata
    cache = SliceCache.build(options.work / "cache", subjects, grid=metadata.grid, intensity=metadata.intensity)
    stacks, truths = [], []
    for i, (subject, stack) in enumerate(zip(cache.subjects, cache.stacks(), strict=True)):
        _, labels = cache.batch(list(subject.rows))
        keep = slice(i % 3, None, 3)
        stacks.append(apart(stack, keep))
        truths.append(labels[keep] == 2)
    return stacks, truths


def apart(stack: SliceStack, keep: slice) -> SliceStack:
    """Some slices of a stack, so far from each other that no smoothing reaches from one to the next."""
    assert stack.voxel_size is not None
    return SliceStack(stack.slices[keep], stack.mask[keep], (*stack.voxel_size[:2], APART))


def auc(scores: list[torch.Tensor], truths: list[torch.Tensor], stacks: list[SliceStack]) -> float:
    histogram = ScoreHistogram(-HIGHEST, HIGHEST)
    for score, truth, stack in zip(scores, truths, stacks, strict=True):
        histogram.add(score, truth, stack.mask)
    return round(histogram.auc(), 4)


def evaluate(name: str, contrast: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Figures of one trained variant, unless they are there."""
    variant = VARIANTS[name]
    run = trained(name, variant, contrast, seed, options)
    done = run / f"{slug(name)}.json"
    if done.exists():
        return json.loads(done.read_text())
    prior = load_model(run / "model")
    facts = json.loads((run / "model" / "config.json").read_text())["training"]
    stacks, truths = patients(contrast, prior, options)
    healthy = find_subjects([f"phantom:{contrast}:20"], split="validation")[:HEALTHY]
    metadata = prior.metadata
    cache = SliceCache.build(options.work / "cache", healthy, grid=metadata.grid, intensity=metadata.intensity)
    # Thresholds are not needed, so a part of each stack will do, every time from another height.
    parts = [apart(stack, slice(i, None, HEALTHY)) for i, stack in enumerate(cache.stacks())]
    found = calibrate(prior, parts, config=variant.restore, tv_weights=WEIGHTS, device="cpu")
    weight, sign = found.tv_weight, SIGN[contrast]
    row = {
        "parameters": sum(p.numel() for p in prior.parameters()),
        "elbo": facts["figures"]["validation_elbo"],
        "error_in_brain": facts["figures"]["validation_brain_rms_error"],
        "tv_weight": weight,
        "implant_auc": max(row["implant_auc"] for row in found.curve),
        "projection": auc(ProjectionDetector(prior).score_stacks(stacks), truths, stacks),
        "smoothed_projection": auc(ProjectionDetector(prior, smoothing=SMOOTHING).score_stacks(stacks), truths, stacks),
        "smoothed_projection_signed": auc(
            ProjectionDetector(prior, smoothing=SMOOTHING, sign=int(sign)).score_stacks(stacks), truths, stacks
        ),
    }
    noise = 0 if variant.restore.latent == "sample" else None
    for name_of, config in {
        "map": variant.restore,
        "map_one_step": replace(variant.restore, solver=EMSolver(steps=1)),
        "map_by_elbo_gradient": replace(variant.restore, solver="prox"),
    }.items():
        solved = solve_stacks(stacks, prior, config, weight, torch.device("cpu"), seed=noise)
        residuals = [stack.slices - solution.restored for stack, solution in zip(stacks, solved, strict=True)]
        row[name_of] = auc([residual.abs() for residual in residuals], truths, stacks)
        row[f"{name_of}_signed"] = auc([sign * residual for residual in residuals], truths, stacks)
    write_json(done, row)
    return row


def collect(contrast: str, work: Path) -> dict[str, dict]:
    """Means over the seeds of all that the work folder holds."""
    means = {}
    for name in VARIANTS:
        files = sorted((work / "recipes" / contrast).glob(f"*-[0-9]/{slug(name)}.json"))
        rows = [json.loads(path.read_text()) for path in files]
        if rows:
            means[name] = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
            means[name]["map_of_seeds"] = [row["map"] for row in rows]
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for trained models and scores")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=list(LESION))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--slices", type=int, default=28_000, help="slices that each sees in training")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of the training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for contrast in options.contrasts:
        for seed in options.seeds:
            for name in options.variants:
                print(contrast, seed, name, evaluate(name, contrast, seed, options), flush=True)
                facts = {**environment("cpu"), "slices_seen": options.slices, "precision": options.precision}
                facts |= {"patients": PATIENTS, "variants": collect(contrast, options.work)}
                write_json(options.out / f"recipes_{contrast}.json", facts)


if __name__ == "__main__":
    main()
