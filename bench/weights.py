"""Is the weight that healthy people choose as good as the one that the patients would have chosen?

    python bench/weights.py --work runs                    # VAE and GMVAE, three seeds, and the embedded priors
    python bench/weights.py --work runs --changes          # the paper's criterion with three solvers

For each prior: the search of ``calibrate`` (anomalies implanted into healthy scans), and in hindsight the AUC of every
weight and smoothing that it tried on unseen patients. Writes ``weights_<contrast>.json``, with ``--changes``
``changes_<contrast>.json``; trains what the work folder (shared with ``models.py``) lacks. A run that was stopped goes
on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _bench import RESULTS, environment, write_json
from models import HEALTHY, LESION, MODELS, healthy, person, slug, train_model

import lesioncore as lc
from lesioncore.metrics import ScoreHistogram
from lesioncore.models import load_model
from lesioncore.restoration.calibrate import DEFAULT_WEIGHTS
from lesioncore.restoration.scan import Scan, prepare
from lesioncore.restoration.search import SMOOTHINGS, search, spread_slices
from lesioncore.restoration.solve import solve_stacks
from lesioncore.scoring.smoothing import smooth

CPU = torch.device("cpu")
EMBEDDED = "embedded"
CHANGE_WEIGHTS = (1.0, 3.0, 6.0, 12.0)
CHANGE_SLICES = 16  # the paper's solver takes seconds for each


def load(name: str, contrast: str, seed: int, options: argparse.Namespace) -> Any:
    if name == EMBEDDED:
        return lc.load_prior(f"phantom-{contrast[:2].lower()}")
    return load_model(train_model(name, MODELS[name], contrast, seed, options) / "model")


def curve(prior: Any, scans: Sequence[Scan], config: lc.RestoreConfig, smoothing: float | None = None) -> list[dict]:
    """The curve of calibrate's search, without its thresholds, on the CPU."""
    return search(
        partial(solve_stacks, prior=prior, config=config, device=CPU),
        scans,
        DEFAULT_WEIGHTS,
        criterion="implant",
        coupled=config.tv_dimensions == 3,
        smoothing=smoothing,
    )


def on_patients(prior: Any, config: lc.RestoreConfig, contrast: str, patients: int) -> list[dict]:
    """Pooled AUC of ``|D|`` on the patients' own voxels for each weight and smoothing."""
    histograms = {pair: ScoreHistogram(0.0, 10.0) for pair in product(DEFAULT_WEIGHTS, SMOOTHINGS)}
    for number in range(patients):
        patient = person(contrast, number, "test", LESION[contrast])
        scan = prepare(patient.image, prior.metadata, mask=patient.brain_mask, affine=patient.affine)
        for weight in DEFAULT_WEIGHTS:
            (found,) = solve_stacks([scan], prior, config, weight, CPU)
            for smoothing in SMOOTHINGS:
                residual = smooth(scan.slices - found.restored, scan.mask, scan.voxel_size, smoothing)
                score = np.abs(scan.residual(residual))
                histograms[weight, smoothing].add(score, patient.lesion_mask, patient.brain_mask)
    return [{"tv_weight": w, "smoothing": s, "auc": round(h.auc(), 5)} for (w, s), h in histograms.items()]


def judge(name: str, contrast: str, seed: int, options: argparse.Namespace) -> dict:
    """What the healthy people choose and what the patients would; from the work folder if it is there."""
    done = options.work / contrast / f"weights-{slug(name)}-{seed}-{options.patients}.json"
    if done.exists():
        return json.loads(done.read_text())
    prior = load(name, contrast, seed, options)
    config = lc.RestoreConfig("em", tv_dimensions=3)
    rows = curve(prior, healthy(prior, contrast), config)
    found = {
        "model": name,
        "seed": seed,
        "implants": [{**row, "implant_auc": round(row["implant_auc"], 5)} for row in rows],
        "patients": on_patients(prior, config, contrast, options.patients),
    }
    write_json(done, found)
    print(f"  {name} seed {seed}", flush=True)
    return found


def changes(contrast: str, options: argparse.Namespace) -> dict[str, Any]:
    """The paper's epsilon (Eq. 7) of one VAE, slice by slice, with the paper's solver and with the others."""
    prior = load("VAE", contrast, 0, options)
    stacks = spread_slices(healthy(prior, contrast), CHANGE_SLICES)
    rows = []
    for solver in ("paper", "prox", "em"):
        config = lc.RestoreConfig(solver=solver, tv_dimensions=2)
        for weight in CHANGE_WEIGHTS:
            solve = partial(solve_stacks, prior=prior, config=config, device=CPU)
            (row,) = search(solve, stacks, [weight], criterion="change", coupled=True)
            rows.append({"solver": solver, "tv_weight": weight, "change": round(row["change"], 5)})
            print(f"  {contrast} {solver} {weight:g}: {row['change']:.4f}", flush=True)
    return {"slices": sum(len(stack.slices) for stack in stacks), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of trained models and finished figures")
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=list(LESION))
    parser.add_argument("--models", nargs="+", default=["VAE", "GMVAE, c = 6"], choices=list(MODELS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="none: the embedded prior alone")
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--slices", type=int, default=28_000, help="slices that each model sees in training")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"], help="of the training")
    parser.add_argument("--changes", action="store_true", help="the paper's criterion instead")
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    facts = {**environment(options.device), "slices_seen": options.slices, "healthy_people": HEALTHY}
    for contrast in options.contrasts:
        if options.changes:
            found = changes(contrast, options)
            write_json(options.out / f"changes_{contrast}.json", {**facts, **found})
            continue
        rows = []
        for name, seed in [*product(options.models, options.seeds), (EMBEDDED, 0)]:
            rows.append(judge(name, contrast, seed, options))
            found = {**facts, "patients": options.patients, "priors": rows}
            write_json(options.out / f"weights_{contrast}.json", found)


if __name__ == "__main__":
    main()
