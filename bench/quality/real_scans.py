"""Detection on real heads: healthy people of unseen scanners, implanted strokes and gliomas, multiple sclerosis.

    LESIONCORE_REAL_DATA=folder python bench/quality/real_scans.py --work runs               # the embedded priors
    LESIONCORE_REAL_DATA=folder python bench/quality/real_scans.py --work runs --priors mine:T1w own:T2w:extract

A prior is NAME:CONTRAST[:STEPS], with other steps of preprocessing than its own behind the second colon.

Writes ``real_<contrast>.json``, figures alone; rows of priors that are not measured stay there, each with its commit
and date. What the folder holds is in ``bench/common/real_data.py``. Thresholds are those that
each prior carries. The comparisons, and a prior with other steps, are given theirs on the people by whom ``real-*`` are
calibrated (``lesioncore.training.real.calibration_people``), with the same unit, spread map and asymmetry as MAP; the
projection with smoothing that keeps edges, as MAP's does, and with plain. What is in the work folder is not scored
again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.real_data import BRIGHT, PreprocessedOnce, heads, implants, multiple_sclerosis, real_data
from common.real_gliomas import gliomas
from common.results import write_json
from common.shared_detectors import DeviationCache, GridIntensity, SharedProjection, SharedRestoration

import lesioncore as lc
from lesioncore.detectors import Detector
from lesioncore.evaluation import Evaluation, evaluate, thresholds_from
from lesioncore.preprocess.pipeline import STEPS, Step, parse_steps
from lesioncore.restoration.prior_choice import PRIORS
from lesioncore.training.real import Build, calibration_people

EMBEDDED = [
    *(f"{name}:{contrast}" for contrast, name in PRIORS.items()),
    *(f"phantom-{contrast[:2].lower()}:{contrast}:{'+'.join(STEPS)}" for contrast in ("T1w", "T2w")),
]


def detectors(
    prior: Any, steps: tuple[Step, ...] | None, contrast: str, root: Path, options: argparse.Namespace
) -> dict[str, Detector]:
    """MAP, and what it is to be better than: the same prior's smoothed projection, the smoothed intensity."""
    sign = 1 if BRIGHT[contrast] else -1
    usual = lc.RestoreConfig().for_prior(prior)
    alike: dict[str, Any] = {
        "smoothing": 4.0,
        "spread_map": bool(usual.spread_map),
        "asymmetry": usual.asymmetry,
    }
    cache = DeviationCache()

    def projection(**options: Any) -> Detector:
        return SharedProjection(prior, cache=cache, sign=sign, **alike, **options)

    found: dict[str, Detector] = {
        "MAP": SharedRestoration(prior, cache=cache),
        "MAP, either sign": SharedRestoration(prior, replace(usual, sign=0), cache=cache),
        "MAP, signed": SharedRestoration(prior, replace(usual, sign=sign), cache=cache),
        "MAP, lesions of both sides": SharedRestoration(prior, replace(usual, asymmetry=0.0), cache=cache),
        "projection, smoothed, signed": projection(),
        "projection, edge-preserving, signed": projection(edge_preserving=True),
        "intensity, smoothed, signed": GridIntensity(prior.metadata, sign=sign, standardize=True, **alike),
    }
    del found["MAP, signed" if usual.sign else "MAP, either sign"]  # which "MAP" is
    if not usual.asymmetry:
        del found["MAP, lesions of both sides"]
    people = calibration_people(Build(root / "ixi", options.work), contrast)
    for name, detector in found.items():
        # The work folder knows a score by the model's fingerprint.
        detector.metadata = replace(detector.metadata, fingerprint=f"{prior.metadata.fingerprint}, {name}")
        if steps is not None:
            detector.preprocess = steps
        if detector.calibration is None:
            print(f"  {contrast}: thresholds of {name}", flush=True)
            once = [PreprocessedOnce(one.id, one.person, one.modality, one, detector.steps) for one in people]
            calibration = thresholds_from(
                detector,
                once,
                voxel_size=prior.metadata.grid.voxel_size,
                store=options.work / contrast,
                device=options.device,
            )
            detector.metadata = detector.metadata.with_calibration(calibration)
    return found


def figures(found: Evaluation) -> dict[str, Any]:
    """What tables show of each method."""
    rows: dict[str, Any] = {}
    for name, row in found.summary()["methods"].items():
        keys = ("auc", "auc_interval", "average_precision", "best_dice", "at_limit", "healthy_at_limit")
        rows[name] = {key: row[key] for key in keys if key in row}
    return rows


def rates(found: Evaluation) -> dict[str, Any]:
    """False-positive rate of healthy people at each limit: the mean and the largest, by method."""
    return {
        name: {
            f"{limit:g}": {
                "mean": float(np.mean(fpr)),
                "largest": float(np.max(fpr)),
            }
            for limit in cases[0].at_limit
            for fpr in [[case.at_limit[limit].confusion.fpr for case in cases]]
        }
        for name, cases in found.healthy.items()
    }


def run(
    name: str, contrast: str, steps: tuple[Step, ...] | None, root: Path, options: argparse.Namespace
) -> dict[str, Any]:
    prior: Any = lc.load_prior(name)
    methods = detectors(prior, steps, contrast, root, options)
    common: dict[str, Any] = {"store": options.work / contrast, "device": options.device}
    groups = {}
    for group, people in heads(root, contrast).items():
        groups[group] = {"people": len(people), "fpr": rates(evaluate(methods, [], people, **common))}
        print(f"  {contrast} {name} healthy, {group}: {groups[group]['fpr']['MAP']}", flush=True)
    patients = {
        "implanted strokes": implants(root, contrast, options.implants),
        "implanted gliomas": gliomas(root, contrast, options.implants),
        "multiple sclerosis": multiple_sclerosis(root, contrast),
    }
    judged = {}
    for kind, subjects in patients.items():
        judged[kind] = {"scans": len(subjects), "methods": figures(evaluate(methods, subjects, **common))}
        for method, row in judged[kind]["methods"].items():
            dice = {at["limit"]: round(at["dice"]["mean"], 3) for at in row["at_limit"]}
            print(f"  {contrast} {name} {kind}: {method:30s} AUC {row['auc']:.3f} Dice {dice}", flush=True)
    return {
        "prior": prior.metadata.name,
        "preprocess": list(methods["MAP"].steps),
        **environment(options.device),
        "healthy": groups,
        "patients": judged,
    }


def main() -> None:
    arguments = parser(__doc__, writes="real_CONTRAST.json", work="folder that keeps the scores", device="cpu")
    arguments.add_argument("--priors", nargs="+", default=EMBEDDED, help="NAME:CONTRAST[:STEPS] of each prior")
    arguments.add_argument("--implants", type=int, default=2, help="lesions for each head")
    options, data = arguments.parse_args(), real_data()
    found: dict[str, list[dict[str, Any]]] = {}
    for spec in options.priors:
        name, contrast, *steps = spec.split(":")
        other = parse_steps(steps[0].replace("+", ",")) if steps else None
        found.setdefault(contrast, []).append(run(name, contrast, other, data, options))
    for contrast, rows in found.items():
        file = options.out / f"real_{contrast}.json"
        measured = {(row["prior"], *row["preprocess"]) for row in rows}
        kept = json.loads(file.read_text())["priors"] if file.exists() else []
        others = [row for row in kept if (row["prior"], *row["preprocess"]) not in measured]
        order = sorted(others + rows, key=lambda row: row["prior"].startswith("phantom"))
        write_json(file, {**environment(options.device), "priors": order})


if __name__ == "__main__":
    main()
