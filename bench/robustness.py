"""Does MAP's margin survive another phantom? Methods as quality.py tuned them, on patients that nothing was tuned on.

    python bench/robustness.py --work runs                 # both embedded priors, 12 patients for each condition
    python bench/robustness.py --work runs --quick         # 3 patients

Weight and smoothing are those in ``quality_<contrast>.json``, thresholds are from the same healthy phantoms as there.
Then one group of the phantom's parameters changes at a time, with the same people in each, and a generator that shares
no more with the phantom than the mean anatomy takes its place (``foreign.py``). Writes ``robustness_<contrast>.json``;
what is in the work folder is not scored again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _bench import RESULTS, SharedProjection, SharedRestoration, environment, write_json
from foreign import LESIONS, ForeignSubject
from quality import HEALTHY, LESION, SIGN

import lesioncore as lc
import lesioncore.phantom
from lesioncore.data.grid import SliceGrid
from lesioncore.detectors import Detector, IntensityThreshold
from lesioncore.detectors.base import Sign
from lesioncore.evaluation import LIMITS, CaseScore, compare, evaluate
from lesioncore.evaluation.summary import pooled
from lesioncore.metrics import bootstrap_interval
from lesioncore.phantom import PhantomConfig, simulate
from lesioncore.subjects import Loaded, Subject, find_subjects, source_hash

VOXEL_SIZE = 2.0
LIMIT = 0.05
FOREIGN_HEALTHY, FOREIGN_NEW = range(100, 108), range(108, 114)

Cases = Mapping[str, Sequence[CaseScore]]
Thresholds = Mapping[str, Mapping[float, float]]


def variability(factor: float) -> PhantomConfig:
    """The default population with all that makes anatomies and tissue contrasts differ scaled, its means kept."""

    def around(low: float, high: float) -> tuple[float, float]:
        return (low + high) / 2 - factor * (high - low) / 2, (low + high) / 2 + factor * (high - low) / 2

    default = PhantomConfig()
    return replace(
        default,
        deformation_mm=tuple(factor * size for size in default.deformation_mm),
        gyri_mm=factor * default.gyri_mm,
        gyri_logit=factor * default.gyri_logit,
        ventricle_mm=around(*default.ventricle_mm),
        atrophy=around(*default.atrophy),
        contrast_spread=factor * default.contrast_spread,
    )


CONDITIONS = {
    "unchanged": PhantomConfig(),
    "lesion contrast × 0.35": PhantomConfig(lesion_contrast=0.35),
    "lesion contrast × 0.6": PhantomConfig(lesion_contrast=0.6),
    "lesion contrast × 1.6": PhantomConfig(lesion_contrast=1.6),
    "lesion radius 4–8 mm": PhantomConfig(lesion_radius_mm=(4.0, 8.0)),
    "anatomical variability × 0.5": variability(0.5),
    "anatomical variability × 1.6": variability(1.6),
    "noise, SNR 8–16": PhantomConfig(snr=(8.0, 16.0)),
    "bias field 0.08–0.15": PhantomConfig(bias=(0.08, 0.15)),
}


@dataclass(frozen=True)
class ChangedPhantom(Subject):
    """A patient of the phantom's split "test" with other strengths of its variation."""

    modality: str
    number: int
    config: PhantomConfig

    @classmethod
    def of(cls, modality: str, number: int, config: PhantomConfig) -> ChangedPhantom:
        person = f"phantom-test-{number:04d}"
        return cls(person, person, modality, number, config)

    def key(self) -> str:
        facts = {**asdict(self), "code": source_hash(Path(lesioncore.phantom.__file__))}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def load(self, grid: SliceGrid) -> Loaded:
        phantom = simulate(
            self.number,
            split="test",
            contrast=self.modality,
            lesion=LESION[self.modality],
            voxel_size=grid.voxel_size,
            config=self.config,
        )
        return Loaded(phantom.image, phantom.affine, phantom.brain_mask, phantom.lesion_mask)


def methods(contrast: str, tuning: Mapping[str, Mapping[str, Any]]) -> dict[str, Detector]:
    """MAP and the baselines, unsigned and signed, with what quality.py's search on healthy people found."""
    prior: Any = lc.load_prior(f"phantom-{contrast[:2].lower()}")
    found: dict[str, Detector] = {}
    prox = lc.RestoreConfig(lc.EMSolver(steps=1), **tuning["projection, one TV prox"])
    smoothing = tuning["projection, smoothed"]["smoothing"]
    signs: dict[str, Sign] = {"": None, ", signed": SIGN[contrast]}
    for suffix, sign in signs.items():
        found[f"MAP{suffix}"] = SharedRestoration(prior, lc.RestoreConfig(**tuning["MAP"], sign=sign))
        found[f"one TV prox{suffix}"] = SharedRestoration(prior, replace(prox, sign=sign))
        found[f"smoothed projection{suffix}"] = SharedProjection(prior, smoothing=smoothing, sign=sign)
    found["smoothed intensity, signed"] = IntensityThreshold(
        prior.metadata, sign=SIGN[contrast], smoothing=tuning["intensity, smoothed, signed"]["smoothing"]
    )
    return found


def thresholds(healthy: Cases) -> Thresholds:
    """For each method and limit the smallest threshold on the histograms' axis that holds on the healthy people."""
    found = {}
    for name, cases in healthy.items():
        histogram = pooled(cases)
        exceeding = 1 - np.cumsum(histogram.healthy) / histogram.healthy.sum()
        found[name] = {limit: float(histogram.edges[np.argmax(exceeding <= limit)]) for limit in LIMITS}
    return found


def at_limit(cases: Sequence[CaseScore], threshold: float) -> dict[str, float]:
    """Means over patients."""
    counts = [case.histogram.confusion(threshold) for case in cases]
    return {name: float(np.mean([getattr(one, name) for one in counts])) for name in ("dice", "sensitivity", "fpr")}


def margin(patients: Cases, suffix: str) -> dict[str, Any]:
    """AUC of MAP minus that of the baseline that turned out best on these very patients, which favours the baseline."""
    rivals = [f"one TV prox{suffix}", f"smoothed projection{suffix}", "smoothed intensity, signed"]
    best = max(rivals, key=lambda name: pooled(patients[name]).auc())
    found = compare(patients[f"MAP{suffix}"], patients[best])
    return {"versus": best, "auc": found["auc"], "auc_interval": found["auc_interval"]}


def figures(patients: Cases, limits: Mapping[str, Thresholds]) -> dict[str, Any]:
    """AUC of each method, and what it does at the limit for each set of thresholds."""
    return {
        "lesion_ml": float(np.median([case.lesion_ml for case in patients["MAP"]])),
        "methods": {
            name: {
                "auc": pooled(cases).auc(),
                "auc_interval": list(bootstrap_interval([case.histogram for case in cases])),
                **{f"at_limit_{of}": at_limit(cases, found[name][LIMIT]) for of, found in limits.items()},
            }
            for name, cases in patients.items()
        },
        "margin": margin(patients, ""),
        "margin_signed": margin(patients, ", signed"),
    }


def healthy_rates(healthy: Cases, limits: Mapping[str, Thresholds]) -> dict[str, Any]:
    """False-positive rates of the pooled healthy people and the largest of one, by method, thresholds and limit."""
    return {
        name: {
            of: [
                {
                    "limit": limit,
                    "fpr": pooled(cases).confusion(found[name][limit]).fpr,
                    "largest": max(case.histogram.confusion(found[name][limit]).fpr for case in cases),
                }
                for limit in LIMITS
            ]
            for of, found in limits.items()
        }
        for name, cases in healthy.items()
    }


def run(contrast: str, options: argparse.Namespace) -> dict[str, Any]:
    tuning = json.loads((RESULTS / f"quality_{contrast}.json").read_text())["tuning"]
    detectors = methods(contrast, tuning)

    def scored(title: str, subjects: Sequence[Subject], *, ill: bool = True) -> Cases:
        who: dict[str, Any] = {"patients": subjects} if ill else {"patients": (), "healthy": subjects}
        found = evaluate(
            detectors, **who, limits=(), voxel_size=VOXEL_SIZE, store=options.work / contrast, device=options.device
        )
        print(f"  {contrast} {title}", flush=True)
        return found.patients if ill else found.healthy

    healthy = find_subjects([f"phantom:{contrast}:{HEALTHY}"], split="validation")
    limits = {"shipped": thresholds(scored("healthy", healthy, ill=False))}
    numbers = range(options.patients)
    conditions = {}
    for name, config in CONDITIONS.items():
        changed = [ChangedPhantom.of(contrast, number, config) for number in numbers]
        conditions[name] = figures(scored(name, changed), limits)

    calibration, new = (
        scored(f"foreign, {title}", [ForeignSubject.of(contrast, number) for number in people], ill=False)
        for title, people in (("calibration", FOREIGN_HEALTHY), ("new", FOREIGN_NEW))
    )
    limits["recalibrated"] = thresholds(calibration)
    for lesion in LESIONS:
        foreign = [ForeignSubject.of(contrast, number, lesion) for number in numbers]
        conditions[f"foreign: {lesion}"] = figures(scored(f"foreign: {lesion}", foreign), limits)
    return {
        "patients": options.patients,
        "lesion": LESION[contrast],
        "prior": f"phantom-{contrast[:2].lower()}",
        "voxel_size": VOXEL_SIZE,
        "limit": LIMIT,
        "calibration_healthy": HEALTHY,
        "foreign_calibration_healthy": len(FOREIGN_HEALTHY),
        "foreign_new_healthy": len(FOREIGN_NEW),
        "tuning": {name: {"tv_weight": d.tv_weight, "smoothing": d.smoothing} for name, d in detectors.items()},
        "conditions": conditions,
        "foreign_healthy": healthy_rates(new, limits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the scores")
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=list(LESION))
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="3 patients")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.patients = 3
    for contrast in options.contrasts:
        found = {**environment(options.device), **run(contrast, options)}
        write_json(options.out / f"robustness_{contrast}.json", found)


if __name__ == "__main__":
    main()
