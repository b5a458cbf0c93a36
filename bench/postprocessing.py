"""What the cleaning of masks changes: the embedded priors' detections after each kind of post-processing.

    python bench/postprocessing.py                         # both priors, 12 patients and 12 healthy people each

Every scan is restored once, with the prior's own weight, smoothing and thresholds, which no setting changes. Writes
``postprocessing.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _bench import RESULTS, environment, write_json
from nibabel.affines import voxel_sizes
from quality import LESION

import lesioncore as lc
from lesioncore.detectors import MAPDetector
from lesioncore.engine.device import resolve_device
from lesioncore.evaluation import LIMITS
from lesioncore.evaluation.scans import load
from lesioncore.evaluation.summary import defined
from lesioncore.metrics import Confusion, LesionCounts, lesion_counts
from lesioncore.scoring.postprocess import PostProcessing
from lesioncore.subjects import Subject, find_subjects

SETTINGS = {
    "none": PostProcessing(),
    "erosion 2 mm": PostProcessing(erosion=2),
    "erosion 4 mm": PostProcessing(erosion=4),
    "median 2 mm": PostProcessing(median=2),
    "median 3 mm": PostProcessing(median=3),
    "median 4 mm": PostProcessing(median=4),
    "from 50 mm³": PostProcessing(min_volume=50),
    "from 100 mm³": PostProcessing(min_volume=100),
    "from 300 mm³": PostProcessing(min_volume=300),
    "from 1000 mm³": PostProcessing(min_volume=1000),
    "median 3 mm, from 300 mm³": PostProcessing(median=3, min_volume=300),
    "median 4 mm, from 300 mm³": PostProcessing(median=4, min_volume=300),
    "median 4 mm, from 1000 mm³": PostProcessing(median=4, min_volume=1000),
    "erosion 4 mm, from 300 mm³": PostProcessing(erosion=4, min_volume=300),
    "erosion 4 mm, median 4 mm, from 300 mm³": PostProcessing(erosion=4, median=4, min_volume=300),
    "erosion 4 mm, median 4 mm, from 1000 mm³": PostProcessing(erosion=4, median=4, min_volume=1000),
}

Found = dict[tuple[str, float], list[tuple[Confusion, LesionCounts]]]
"""For each setting and limit, every scan's."""


def detect(detector: MAPDetector, people: Sequence[Subject], options: argparse.Namespace, *, ill: bool) -> Found:
    found: Found = {(name, limit): [] for name in SETTINGS for limit in LIMITS}
    assert detector.calibration is not None  # embedded
    device = resolve_device(options.device)
    for number, person in enumerate(people, start=1):
        loaded = load(person, options.voxel_size, ill=ill)
        scan = loaded.prepare(detector.metadata)
        (score,) = detector.score_scans([scan], device=device)
        brain, size = scan.brain(), voxel_sizes(scan.affine)
        truth = np.zeros_like(brain) if loaded.lesion is None else loaded.lesion & brain
        for (name, limit), scores in found.items():
            detected = SETTINGS[name].clean(score > detector.calibration.threshold(limit), brain, size)
            scores.append((Confusion.of(detected, truth, brain), lesion_counts(detected, truth)))
        print(f"  {'patient' if ill else 'healthy'} {number}/{len(people)}", flush=True)
    return found


def figures(
    ill: list[tuple[Confusion, LesionCounts]], well: list[tuple[Confusion, LesionCounts]]
) -> dict[str, float | None]:
    """Means over scans of what is judged voxel by voxel; lesion-wise figures of all scans together."""
    lesions, wrong = (sum((counts for _, counts in scans), LesionCounts(0, 0, 0, 0)) for scans in (ill, well))
    return {
        **{key: round(float(np.mean([getattr(c, key) for c, _ in ill])), 5) for key in ("dice", "sensitivity", "fpr")},
        "lesions": lesions.found + lesions.missed,
        "lesions_found": lesions.found,
        "lesion_precision": defined(getattr, lesions, "precision"),
        "lesion_f1": lesions.f1,
        "false_components": lesions.false_detections / len(ill),
        "healthy_fpr": round(float(np.mean([c.fpr for c, _ in well])), 5),
        "healthy_fpr_largest": round(max(c.fpr for c, _ in well), 5),
        "healthy_components": wrong.false_detections / len(well),
    }


def run(contrast: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    detector = MAPDetector(lc.load_prior(f"phantom-{contrast[:2].lower()}"))
    patients = find_subjects([f"phantom:{contrast}:{options.patients}:{LESION[contrast]}"], split=options.split)
    healthy = find_subjects([f"phantom:{contrast}:100-{99 + options.patients}"], split="test")
    ill, well = detect(detector, patients, options, ill=True), detect(detector, healthy, options, ill=False)
    return [{"setting": name, "limit": limit, **figures(ill[name, limit], well[name, limit])} for name, limit in ill]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=list(LESION))
    parser.add_argument("--patients", type=int, default=12, help="and as many healthy people")
    parser.add_argument("--split", default="test", choices=["validation", "test"], help="of the patients")
    parser.add_argument("--voxel-size", type=float, default=2.0, help="of the simulated scans, mm")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {contrast: run(contrast, options) for contrast in options.contrasts}
    facts = {name: getattr(options, name) for name in ("patients", "split", "voxel_size")}
    write_json(options.out / "postprocessing.json", {**environment(options.device), **facts, "contrasts": found})


if __name__ == "__main__":
    main()
