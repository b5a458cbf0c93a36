"""Detection quality on unseen phantom patients: MAP restoration against simple detectors, and the solvers.

    python bench/quality.py                        # both embedded priors, 24 patients each, some 20 minutes on 2 cores
    python bench/quality.py --patients 4 --paper-slices 20 --contrasts T2w

Writes ``quality_<contrast>.json``. Patients are of the phantom's split "test"; weight and thresholds come with the
prior, from healthy phantoms of the split "validation".
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _bench import RESULTS, environment, write_json
from scipy.ndimage import gaussian_filter
from torch import Tensor

import lesioncore as lc
from lesioncore import _ops
from lesioncore.metrics import ScoreHistogram, bootstrap_interval, dice
from lesioncore.phantom import simulate
from lesioncore.restore import solve_stacks
from lesioncore.scan import SliceStack, prepare
from lesioncore.solvers import EMSolver, PaperSolver, ProxSolver, Solution

LESION = {"T2w": "glioma", "T1w": "stroke"}
SIGN = {"T2w": 1.0, "T1w": -1.0}  # gliomas are bright in T2w, old strokes dark in T1w
HIGHEST = 12.0  # scores beyond count as this


def patient(number: int, contrast: str, prior: lc.VAE, voxel_size: float) -> tuple[SliceStack, Tensor]:
    """A patient's slices on the prior's grid, and the lesion there."""
    phantom = simulate(number, split="test", contrast=contrast, lesion=LESION[contrast], voxel_size=voxel_size)
    scan = prepare(phantom.image, prior.metadata, mask=phantom.brain_mask, affine=phantom.affine)
    return SliceStack(scan.slices, scan.mask, scan.voxel_size), scan.label_on_slices(phantom.lesion_mask)


@torch.no_grad()
def simple_scores(stack: SliceStack, prior: lc.VAE, contrast: str, tv_weight: float) -> dict[str, Tensor]:
    """Scores of the detectors that restore nothing."""
    prior = prior.cpu()
    residual = torch.cat([batch - prior.reconstruct(batch) for batch in stack.slices.split(32)])
    residual = torch.where(stack.mask, residual, 0.0)
    scores = {"intensity threshold": SIGN[contrast] * stack.slices, "prior projection": residual.abs()}
    for sigma in (1, 2, 3):
        smooth = gaussian_filter(residual.numpy(), (0, 0, sigma, sigma))
        scores[f"smoothed projection, sigma {sigma}"] = torch.from_numpy(smooth).abs()
    # argmin |D - residual|^2 + tv_weight * TV(D): MAP with the prior's mean frozen at that of the observation.
    dual = _ops.dual_like(residual)
    weight = torch.tensor([tv_weight / 2])
    scores["projection, one TV prox"] = _ops.tv_prox_(residual, stack.mask, weight, dual, iterations=200).abs()
    return scores


def auc_row(histograms: list[ScoreHistogram]) -> dict[str, float]:
    """Pooled AUC with its bootstrap interval over patients."""
    low, high = bootstrap_interval(histograms)
    return {"auc": round(sum(histograms[1:], histograms[0]).auc(), 4), "low": round(low, 4), "high": round(high, 4)}


def histogram(score: Tensor, truth: Tensor, mask: Tensor) -> ScoreHistogram:
    result = ScoreHistogram(-HIGHEST if score[mask].min() < 0 else 0.0, HIGHEST)
    result.add(score, truth, mask)
    return result


def at_limits(solutions: list[Solution], stacks: list[SliceStack], truths: list[Tensor], prior: lc.VAE) -> dict:
    """Dice, sensitivity and false-positive rate at the calibrated thresholds, mean and deviation over patients."""
    rows = {}
    for limit in (0.01, 0.05, 0.10):
        threshold = prior.metadata.calibration.threshold(limit)
        values = []
        for found, stack, truth in zip(solutions, stacks, truths, strict=True):
            detected = (stack.slices - found.restored).abs() > threshold
            lesion, healthy = truth & stack.mask, ~truth & stack.mask
            values.append(
                (
                    dice(detected, truth, stack.mask),
                    float((detected & lesion).sum() / lesion.sum()),
                    float((detected & healthy).sum() / healthy.sum()),
                )
            )
        mean, deviation = np.mean(values, 0), np.std(values, 0)
        rows[f"{limit:g}"] = {
            name: {"mean": round(float(m), 3), "sd": round(float(s), 3)}
            for name, m, s in zip(("dice", "sensitivity", "fpr"), mean, deviation, strict=True)
        }
    return rows


def thin(stacks: list[SliceStack], truths: list[Tensor], count: int) -> tuple[list[SliceStack], list[Tensor]]:
    """About `count` brain slices, evenly from every patient."""
    rows = [s.mask.flatten(1).any(1).nonzero()[:, 0] for s in stacks]
    step = max(1, round(sum(map(len, rows)) / count))
    kept = [r[i % step :: step] for i, r in enumerate(rows)]
    return (
        [replace(s, slices=s.slices[r], mask=s.mask[r]) for s, r in zip(stacks, kept, strict=True)],
        [t[r] for t, r in zip(truths, kept, strict=True)],
    )


def compare_solvers(
    stacks: list[SliceStack], truths: list[Tensor], prior: lc.VAE, count: int, device: torch.device
) -> dict:
    """Objective, AUC and seconds of all solvers on the same slices, at the calibrated weight."""
    stacks, truths = thin(stacks, truths, count)
    rows: dict[str, dict] = {}
    default: list[ScoreHistogram] = []
    for name, solver in {
        "em, 5 steps": EMSolver(),
        "em, 1 step": EMSolver(steps=1),
        "em, 20 steps": EMSolver(steps=20),
        "prox, 10 steps": ProxSolver(),
        "prox, 60 steps": ProxSolver(steps=60),
        "paper, 500 steps": PaperSolver(),
    }.items():
        config = lc.RestoreConfig(solver=solver)
        start = time.perf_counter()
        found = solve_stacks(stacks, prior, config, prior.metadata.calibration.tv_weight, device)
        seconds = time.perf_counter() - start
        scores = [
            histogram((s.slices - f.restored).abs(), t, s.mask) for s, f, t in zip(stacks, found, truths, strict=True)
        ]
        default = default or scores
        low, high = bootstrap_interval(scores, versus=default)
        curve = torch.cat([f.objective for f in found], 1).double().mean(1)
        slices = sum(len(s.slices) for s in stacks)
        rows[name] = {
            "slices": slices,
            "objective_per_slice": round(float(curve[-1]), 2),
            "objective_at_observation": round(float(curve[0]), 2),
            "auc": round(sum(scores[1:], scores[0]).auc(), 4),
            "auc_minus_default": {"low": round(low, 4), "high": round(high, 4)},
            "seconds": round(seconds, 2),
            "milliseconds_per_slice": round(1e3 * seconds / slices, 2),
        }
        print(f"  {name:18s}", rows[name], flush=True)
    return rows


def run(contrast: str, patients: int, paper_slices: int, voxel_size: float, device: torch.device) -> dict:
    prior = lc.load_prior(f"phantom-{contrast[:2].lower()}")
    calibration = prior.metadata.calibration
    pairs = [patient(i, contrast, prior, voxel_size) for i in range(patients)]
    stacks, truths = [p[0] for p in pairs], [p[1] for p in pairs]
    start = time.perf_counter()
    solutions = solve_stacks(stacks, prior, lc.RestoreConfig(), calibration.tv_weight, device)
    seconds = time.perf_counter() - start
    scores: dict[str, list[ScoreHistogram]] = {}
    for stack, truth, found in zip(stacks, truths, solutions, strict=True):
        residual = stack.slices - found.restored
        every = {
            "MAP": residual.abs(),
            "MAP, signed": SIGN[contrast] * residual,
            **simple_scores(stack, prior, contrast, calibration.tv_weight),
        }
        for name, score in every.items():
            scores.setdefault(name, []).append(histogram(score, truth, stack.mask))
    methods = {name: auc_row(histograms) for name, histograms in scores.items()}
    for name, row in methods.items():
        print(f"  {name:30s}", row)
    limits = at_limits(solutions, stacks, truths, prior)
    print("  at calibrated limits:", limits)
    return {
        "patients": patients,
        "lesion": LESION[contrast],
        "voxel_size": voxel_size,
        "prior": prior.metadata.name,
        "fingerprint": prior.metadata.fingerprint,
        "tv_weight": calibration.tv_weight,
        "slices": sum(len(s.slices) for s in stacks),
        "map_seconds_per_patient": round(seconds / patients, 2),
        "methods": methods,
        "at_fpr_limit": limits,
        "solvers": compare_solvers(stacks, truths, prior, paper_slices, device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=list(LESION))
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--paper-slices", type=int, default=120, help="slices on which the solvers are compared")
    parser.add_argument("--voxel-size", type=float, default=2.0, help="of the simulated scans, mm")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for contrast in options.contrasts:
        print(contrast)
        found = run(contrast, options.patients, options.paper_slices, options.voxel_size, torch.device(options.device))
        write_json(options.out / f"quality_{contrast}.json", {**environment(options.device), **found})


if __name__ == "__main__":
    main()
