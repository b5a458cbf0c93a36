"""Detection quality on simulated patients: MAP restoration against simple detectors, all tuned on healthy people.

    python bench/quality/detection.py --work runs                    # both embedded priors, 24 patients each
    python bench/quality/detection.py --work runs --quick            # 8 patients: some ten minutes on 2 cores

Writes ``quality_<contrast>.json``. Weight, smoothing and thresholds come from the same healthy phantoms of the split
"validation" for every method; patients, and healthy people on whom the limits are checked, are of "test". What is in
the work folder is not scored again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.patients import LESION, SIGN
from common.results import write_json
from common.shared_detectors import DeviationCache, SharedRestoration

import lesioncore as lc
from lesioncore.data.grid import SliceGrid
from lesioncore.detectors import Detector, IntensityThreshold, MeanDistance, ProjectionDetector
from lesioncore.evaluation import evaluate
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.scan import Scan
from lesioncore.restoration.search import choose, search
from lesioncore.solvers import Solution
from lesioncore.subjects import Subject, find_subjects

HEALTHY, NEW_HEALTHY, MEAN_OF = 20, 12, 30


def scans(subjects: Sequence[Subject], metadata: lc.PriorMetadata, voxel_size: float) -> list[Scan]:
    found = []
    for subject in subjects:
        loaded = subject.load(SliceGrid(voxel_size, (200, 200)))
        found.append(loaded.prepare(metadata))
    return found


def tuned_smoothing(detector: Callable[..., Any], healthy: Sequence[Scan]) -> float:
    """Smoothing of a detector that finds anomalies in healthy scans best, as ``calibrate`` finds MAP's."""

    def solve(stacks: Sequence[Scan], *, tv_weight: float) -> list[Solution]:
        residuals = detector(smoothing=0.0).deviation_stacks(stacks)
        return [Solution(s.slices - r, torch.zeros(0, 0)) for s, r in zip(stacks, residuals, strict=True)]

    curve = search(solve, healthy, [0.0], criterion="implant", coupled=False)
    return choose(curve, "implant")["smoothing"]


def detectors(contrast: str, options: argparse.Namespace) -> dict[str, Detector]:
    """Every method with weight, smoothing and thresholds from the same healthy people."""
    prior: Any = lc.load_prior(f"phantom-{contrast[:2].lower()}")
    metadata = prior.metadata
    people = find_subjects([f"phantom:{contrast}:{HEALTHY}"], split="validation")
    healthy = scans(people, metadata, options.voxel_size)
    sign = SIGN[contrast]
    found: dict[str, Detector] = {}
    cache = DeviationCache()

    def add(name: str, make: Callable[..., Detector], **fixed: Any) -> None:
        found[name], found[f"{name}, signed"] = make(**fixed), make(sign=sign, **fixed)

    def restored(config: lc.RestoreConfig) -> Callable[..., Detector]:
        other = lc.load_prior(f"phantom-{contrast[:2].lower()}")
        calibration = lc.calibrate(prior, healthy, config=config, device="cpu")
        other.metadata = metadata.with_calibration(calibration)  # type: ignore[attr-defined]
        return lambda sign=None: SharedRestoration(other, replace(config, sign=sign), cache=cache)

    add("MAP", lambda sign=None: SharedRestoration(prior, lc.RestoreConfig(sign=sign), cache=cache))
    add("MAP, each slice alone, no smoothing", restored(lc.RestoreConfig(tv_dimensions=2, smoothing=0.0)))
    add("projection, one TV prox", restored(lc.RestoreConfig(lc.EMSolver(steps=1))))

    def projection(**rest: Any) -> ProjectionDetector:
        return ProjectionDetector(prior, **rest)

    add("projection", projection)
    add("projection, smoothed", projection, smoothing=tuned_smoothing(projection, healthy))
    mean = MeanDistance.fit(
        scans(find_subjects([f"phantom:{contrast}:{MEAN_OF}"], split="train"), metadata, options.voxel_size), metadata
    ).model

    def distance(**rest: Any) -> MeanDistance:
        return MeanDistance(mean, normalize=True, **rest)

    add("distance to the mean, smoothed", distance, smoothing=tuned_smoothing(distance, healthy))
    found["intensity, signed"] = IntensityThreshold(metadata, sign=sign)
    found["intensity, smoothed, signed"] = IntensityThreshold(metadata, sign=sign, smoothing=3.0)
    for name, detector in found.items():
        # The work folder knows a score by the model's fingerprint, which the mean image and the intensity lack.
        detector.metadata = replace(detector.metadata, fingerprint=f"{metadata.fingerprint}, mean of {MEAN_OF}")
        if detector.calibration is None:
            print(f"  thresholds of {name}", flush=True)
            native = [prepare(s.source, detector.metadata, mask=s.brain(), affine=s.affine) for s in healthy]
            detector.metadata = detector.metadata.with_calibration(detector.thresholds(native))
    return found


def run(contrast: str, options: argparse.Namespace) -> dict[str, Any]:
    methods = detectors(contrast, options)
    patients = find_subjects([f"phantom:{contrast}:{options.patients}:{LESION[contrast]}"], split="test")
    new = find_subjects([f"phantom:{contrast}:100-{99 + NEW_HEALTHY}"], split="test")
    found = evaluate(
        methods,
        patients,
        new,
        voxel_size=options.voxel_size,
        store=options.work / contrast,
        device=options.device,
        progress=lambda done, total: print(f"  {contrast} {done}/{total}", flush=True),
    )
    summary = found.summary()
    for name, row in summary["methods"].items():
        print(f"  {name:45s} AUC {row['auc']:.3f}", flush=True)
    tuning = {name: {"tv_weight": d.tv_weight, "smoothing": d.smoothing} for name, d in methods.items()}
    return {
        "patients": options.patients,
        "new_healthy": NEW_HEALTHY,
        "calibration_healthy": HEALTHY,
        "lesion": LESION[contrast],
        "voxel_size": options.voxel_size,
        "prior": f"phantom-{contrast[:2].lower()}",
        "standardize": methods["MAP"].settings()["standardize"],
        "tuning": tuning,
        **summary,
    }


def main() -> None:
    options = parser(
        __doc__,
        writes="quality_CONTRAST.json",
        work="folder that keeps the scores",
        contrasts=list(LESION),
        patients=24,
        quick="8 patients",
        voxel_size=2.0,
        device="cpu",
    ).parse_args()
    if options.quick:
        options.patients = 8
    for contrast in options.contrasts:
        print(contrast, flush=True)
        write_json(options.out / f"quality_{contrast}.json", {**environment(options.device), **run(contrast, options)})


if __name__ == "__main__":
    main()
