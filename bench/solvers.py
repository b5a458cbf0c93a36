"""The solvers of the objective on the same slices of phantom patients: objective, AUC and seconds.

    python bench/solvers.py                        # both embedded priors, the paper's 500 steps among them: minutes
    python bench/solvers.py --slices 20 --contrasts T2w

Slice by slice with ``|D|`` as the score, as the paper does, at one weight. Writes ``solvers_<contrast>.json``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from _bench import RESULTS, environment, write_json
from torch import Tensor

import lesioncore as lc
from lesioncore.metrics import ScoreHistogram, bootstrap_interval
from lesioncore.phantom import simulate
from lesioncore.restore import solve_stacks
from lesioncore.scan import SliceStack, prepare
from lesioncore.solvers import EMSolver, PaperSolver, ProxSolver

LESION = {"T2w": "glioma", "T1w": "stroke"}
SOLVERS = {
    "em, 5 steps": EMSolver(),
    "em, 1 step": EMSolver(steps=1),
    "em, 20 steps": EMSolver(steps=20),
    "prox, 10 steps": ProxSolver(),
    "prox, 60 steps": ProxSolver(steps=60),
    "paper, 500 steps": PaperSolver(),
}
HIGHEST = 12.0  # scores beyond count as this


def slices_of(contrast: str, patients: int, count: int, metadata: lc.PriorMetadata) -> list[tuple[SliceStack, Tensor]]:
    """About `count` brain slices, evenly from every patient, and the lesion there."""
    pairs = []
    for number in range(patients):
        phantom = simulate(number, split="test", contrast=contrast, lesion=LESION[contrast], voxel_size=2.0)
        scan = prepare(phantom.image, metadata, mask=phantom.brain_mask, affine=phantom.affine)
        pairs.append((scan, scan.label_on_slices(phantom.lesion_mask)))
    rows = [scan.mask.flatten(1).any(1).nonzero()[:, 0] for scan, _ in pairs]
    step = max(1, round(sum(map(len, rows)) / count))
    kept = [r[i % step :: step] for i, r in enumerate(rows)]
    return [(SliceStack(s.slices[r], s.mask[r], s.voxel_size), t[r]) for (s, t), r in zip(pairs, kept, strict=True)]


def run(contrast: str, options: argparse.Namespace) -> dict:
    prior = lc.load_prior(f"phantom-{contrast[:2].lower()}")
    pairs = slices_of(contrast, options.patients, options.slices, prior.metadata)
    stacks = [stack for stack, _ in pairs]
    slices = sum(len(stack.slices) for stack in stacks)
    rows: dict[str, dict] = {}
    default: list[ScoreHistogram] = []
    for name, solver in SOLVERS.items():
        config = lc.RestoreConfig(solver, tv_dimensions=2)
        start = time.perf_counter()
        found = solve_stacks(stacks, prior, config, options.tv_weight, torch.device(options.device))
        seconds = time.perf_counter() - start
        scores = []
        for (stack, truth), solution in zip(pairs, found, strict=True):
            histogram = ScoreHistogram(0.0, HIGHEST)
            histogram.add((stack.slices - solution.restored).abs(), truth, stack.mask)
            scores.append(histogram)
        default = default or scores
        low, high = bootstrap_interval(scores, versus=default)
        curve = torch.cat([f.objective for f in found], 1).double().mean(1)
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
    return {"tv_weight": options.tv_weight, "prior": prior.metadata.name, "solvers": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=list(LESION))
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--tv-weight", type=float, default=1.5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for contrast in options.contrasts:
        print(contrast)
        write_json(options.out / f"solvers_{contrast}.json", {**environment(options.device), **run(contrast, options)})


if __name__ == "__main__":
    main()
