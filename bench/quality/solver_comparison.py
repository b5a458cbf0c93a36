"""Objective and AUC of every solver against time and number of steps, on the same slices of simulated patients.

    python bench/quality/solver_comparison.py [--device cuda] [--threads N] [--quick]

Both embedded priors, slice by slice with ``|D|`` as the score, as the paper does, at one weight. The slices are solved
in turns of a few patients, by all solvers in each turn, so that a slow moment of the machine falls on all of them; one
step of each comes before, unmeasured. Writes ``solvers_<contrast>.json`` and ``solvers.png``.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.options import parser, started
from common.patients import HIGHEST, LESION
from common.results import write_json

import lesioncore as lc
from lesioncore.data.stack import SliceStack
from lesioncore.metrics import ScoreHistogram, bootstrap_interval
from lesioncore.phantom import simulate
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.run import Run
from lesioncore.restoration.solve import solve_stacks
from lesioncore.solvers import EMSolver, PaperSolver, ProxSolver, Solver

LADDERS: dict[str, list[Solver]] = {
    "em": [EMSolver(steps=n) for n in (1, 2, 3, 5, 10, 20)],
    "prox": [ProxSolver(steps=n) for n in (3, 5, 10, 20, 40)],
    "prox, tolerance 0": [ProxSolver(steps=n, tolerance=0.0) for n in (10, 20, 40)],
    "paper": [PaperSolver(steps=n) for n in (50, 150, 500)],
}
WEIGHT = 1.5
TURNS = 4


@dataclass(frozen=True)
class Extent:
    """How much is run: patients, about so many slices of them, and no solver of more steps."""

    patients: int
    slices: int
    most_steps: int


FULL, QUICK = Extent(20, 40, 500), Extent(4, 16, 50)


@dataclass
class Found:
    """What a solver found: one of each list a turn, but one score a patient."""

    milliseconds_per_slice: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    objective: list[Tensor] = field(default_factory=list)  # [2, slices]: at the observation and at the end
    scores: list[ScoreHistogram] = field(default_factory=list)


def title(ladder: str, solver: Solver) -> str:
    return f"{ladder}, {solver.steps} step{'s' * (solver.steps > 1)}"


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


def measure(pairs: list[tuple[SliceStack, Tensor]], solver: Solver, prior: Any, device: str, found: Found) -> None:
    """Solve the slices of a turn and add what comes out."""
    stacks = [stack for stack, _ in pairs]
    run = Run.of(prior, lc.RestoreConfig(solver, tv_dimensions=2, tv_weight=WEIGHT), device)
    start = time.perf_counter()
    solutions = solve_stacks(stacks, prior, run)
    seconds = time.perf_counter() - start
    found.seconds.append(seconds)
    found.milliseconds_per_slice.append(1e3 * seconds / sum(len(stack.slices) for stack in stacks))
    for (stack, truth), solution in zip(pairs, solutions, strict=True):
        found.objective.append(solution.objective[[0, -1]].double())
        histogram = ScoreHistogram(0.0, HIGHEST)
        histogram.add((stack.slices - solution.restored).abs(), truth, stack.mask)
        found.scores.append(histogram)


def row(found: Found, default: Found) -> dict[str, Any]:
    objective = torch.cat(found.objective, 1)
    low, high = bootstrap_interval(found.scores, versus=default.scores)
    return {
        "slices": objective.shape[1],
        "objective_per_slice": round(float(objective[1].mean()), 2),
        "objective_at_observation": round(float(objective[0].mean()), 2),
        "auc": round(sum(found.scores[1:], found.scores[0]).auc(), 4),
        "auc_minus_default": {"low": round(low, 4), "high": round(high, 4)},
        "seconds": round(sum(found.seconds), 2),
        "milliseconds_per_slice": round(statistics.median(found.milliseconds_per_slice), 2),
    }


def run(contrast: str, extent: Extent, device: str) -> dict[str, Any]:
    prior = lc.load_prior(f"phantom-{contrast[:2].lower()}")
    pairs = slices_of(contrast, extent.patients, extent.slices, prior.metadata)
    solvers = {
        title(ladder, solver): solver
        for ladder, rungs in LADDERS.items()
        for solver in rungs
        if solver.steps <= extent.most_steps
    }
    found = {name: Found() for name in solvers}
    for solver in solvers.values():
        measure(pairs[::TURNS], replace(solver, steps=1), prior, device, Found())
    for turn in range(TURNS):
        for name, solver in solvers.items():
            measure(pairs[turn::TURNS], solver, prior, device, found[name])
        print(f"  turn {turn + 1} of {TURNS}", flush=True)
    default = title("em", EMSolver())
    rows = {name: row(one, found[default]) for name, one in found.items()}
    for name, facts in rows.items():
        print(f"  {name:27s}", facts)
    return {
        "tv_weight": WEIGHT,
        "prior": prior.metadata.name,
        "patients": extent.patients,
        "turns": TURNS,
        "default": default,
        "solvers": rows,
    }


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    def seconds(one: dict[str, Any]) -> float:
        return one["milliseconds_per_slice"] / 1e3

    quantities = {"objective_per_slice": "objective per slice, nats", "auc": "AUC"}
    figure, panels = pyplot.subplots(len(results), 2, figsize=(9, 6), sharex=True, constrained_layout=True)
    for (contrast, facts), pair in zip(results.items(), panels, strict=True):
        solvers, default = facts["solvers"], facts["solvers"][facts["default"]]
        for panel, (key, label) in zip(pair, quantities.items(), strict=True):
            for ladder, rungs in LADDERS.items():
                rows = [solvers[name] for name in (title(ladder, solver) for solver in rungs) if name in solvers]
                panel.plot([seconds(one) for one in rows], [one[key] for one in rows], "o-", markersize=4, label=ladder)
            mark = {"markersize": 12, "fillstyle": "none", "color": "black", "label": f"default: {facts['default']}"}
            panel.plot(seconds(default), default[key], "o", **mark)
            panel.set(xscale="log", ylabel=label, title=contrast)
        pair[0].axhline(default["objective_at_observation"], color="gray", linestyle=":", label="at the observation")
    for panel in panels[-1]:
        panel.set_xlabel("seconds per slice")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    options = parser(
        __doc__,
        writes="solvers_CONTRAST.json and solvers.png",
        device="cpu",
        threads=torch.get_num_threads(),
        quick="few patients, short ladders",
    ).parse_args()
    facts = started(options)
    suffix = "_quick" * options.quick
    results = {}
    for contrast in LESION:
        print(contrast, flush=True)
        found = run(contrast, QUICK if options.quick else FULL, options.device)
        results[contrast] = {**facts, **found}
        write_json(options.out / f"solvers_{contrast}{suffix}.json", results[contrast])
    plot(results, options.out / f"solvers{suffix}.png")


if __name__ == "__main__":
    main()
