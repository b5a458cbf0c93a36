"""Detection on real heads: healthy people of unseen scanners, implanted real lesion shapes, multiple sclerosis.

    LESIONCORE_REAL_DATA=folder python bench/real.py --work runs               # the embedded priors
    LESIONCORE_REAL_DATA=folder python bench/real.py --work runs --priors mine:T1w other:T2w:extract+register

A prior is NAME:CONTRAST[:STEPS], with other steps of preprocessing than its own behind the second colon.

Writes ``real_<contrast>.json``, figures alone. What the folder holds is in ``_real_data.py``. Thresholds are those that
each prior carries; the comparisons are given theirs on the same people, ``--calibration``. What is in the work folder
is not scored again.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _bench import RESULTS, environment, write_json
from _real_data import BRIGHT, heads, implants, multiple_sclerosis

import lesioncore as lc
from lesioncore.detectors import Detector, IntensityThreshold, MAPDetector, ProjectionDetector
from lesioncore.evaluation import Evaluation, evaluate, thresholds_from
from lesioncore.preprocess.pipeline import STEPS, Step, parse_steps
from lesioncore.subjects import find_subjects

EMBEDDED = [
    f"phantom-{contrast[:2].lower()}:{contrast}{steps}"
    for contrast in ("T1w", "T2w")
    for steps in ("", f":{'+'.join(STEPS)}")
]


def detectors(
    prior: Any, steps: tuple[Step, ...] | None, contrast: str, options: argparse.Namespace
) -> dict[str, Detector]:
    """MAP, and what it is to be better than: the same prior's smoothed projection, the smoothed intensity."""
    sign = 1 if BRIGHT[contrast] else -1
    found: dict[str, Detector] = {
        "MAP": MAPDetector(prior),
        "MAP, in z-scores": MAPDetector(prior, lc.RestoreConfig(standardize=False)),
        "projection, smoothed": ProjectionDetector(prior, smoothing=4.0),
        "intensity, smoothed, signed": IntensityThreshold(prior.metadata, sign=sign, smoothing=4.0),
    }
    people = find_subjects([options.calibration.format(contrast=contrast)], split="validation")
    for name, detector in found.items():
        # The work folder knows a score by the model's fingerprint.
        detector.metadata = replace(detector.metadata, fingerprint=f"{prior.metadata.fingerprint}, {name}")
        if steps is not None:
            detector.preprocess = steps
        if detector.calibration is None:
            size = prior.metadata.grid.voxel_size
            calibration = thresholds_from(detector, people, voxel_size=size, device=options.device)
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
    methods = detectors(prior, steps, contrast, options)
    common: dict[str, Any] = {"store": options.work / contrast, "device": options.device}
    groups = {}
    for group, people in heads(root, contrast).items():
        groups[group] = {"people": len(people), "fpr": rates(evaluate(methods, [], people, **common))}
        print(f"  {contrast} {name} healthy, {group}: {groups[group]['fpr']['MAP']}", flush=True)
    patients = {
        "implanted strokes": implants(root, contrast, options.implants),
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
        "healthy": groups,
        "patients": judged,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the scores")
    parser.add_argument("--priors", nargs="+", default=EMBEDDED, help="NAME:CONTRAST[:STEPS] of each prior")
    parser.add_argument("--calibration", default="phantom:{contrast}:20", help="healthy people of the comparisons")
    parser.add_argument("--implants", type=int, default=2, help="lesions for each head")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    data = os.environ.get("LESIONCORE_REAL_DATA")
    if not data:
        parser.error("LESIONCORE_REAL_DATA: not set; name the folder of the real scans")
    found: dict[str, list[dict[str, Any]]] = {}
    for spec in options.priors:
        name, contrast, *steps = spec.split(":")
        other = parse_steps(steps[0].replace("+", ",")) if steps else None
        found.setdefault(contrast, []).append(run(name, contrast, other, Path(data), options))
    for contrast, rows in found.items():
        write_json(options.out / f"real_{contrast}.json", {**environment(options.device), "priors": rows})


if __name__ == "__main__":
    main()
