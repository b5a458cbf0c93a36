"""What each part of the score is worth: MAP on unseen patients with one part after the other.

    python bench/scores.py --work runs --priors embedded --samples 4
    python bench/scores.py --work runs --priors VAE --seeds 0 1 2

Weight and smoothing of each row come from anomalies implanted into healthy people of the split "validation", its
thresholds from the same people, the healthy spread from others; the patients are of "test". Writes
``scores_<contrast>.json`` of all that the work folder (shared with ``models.py``) holds; what is there is not scored
again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _bench import RESULTS, environment, write_json
from models import LESION, LIMITS, MODELS, SIGN, person, slug
from weights import CPU, EMBEDDED, curve, load

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.detectors import MeanDistance, ProjectionDetector
from lesioncore.metrics import ScoreHistogram, bootstrap_interval, dice
from lesioncore.restoration.scan import Scan, prepare
from lesioncore.restoration.search import choose
from lesioncore.restoration.solve import solve_stacks
from lesioncore.scoring.smoothing import smooth

HEALTHY, SPREAD_OF = 20, 30
PROJECTION, SLICEWISE, COUPLED, SMOOTHED = "projection", "MAP, each slice alone", "TV across slices", "+ smoothed"


def scan_of(prior: Any, contrast: str, number: int, split: str, lesion: str | None) -> Scan:
    one = person(contrast, number, split, lesion)
    return prepare(one.image, prior.metadata, mask=one.brain_mask, affine=one.affine)


class Ladder:
    """The residuals of one prior, each row's own."""

    def __init__(self, prior: Any, contrast: str, samples: int) -> None:
        self.prior, self.samples = prior, samples
        healthy = [scan_of(prior, contrast, n, "validation", None) for n in range(HEALTHY)]
        self.config = {
            SLICEWISE: lc.RestoreConfig(tv_dimensions=2).for_prior(prior),
            COUPLED: lc.RestoreConfig(tv_dimensions=3).for_prior(prior),
        }
        self.tuned = {SLICEWISE: self._search(healthy, SLICEWISE, 0.0), COUPLED: self._search(healthy, COUPLED, 0.0)}
        self.tuned[SMOOTHED] = self._search(healthy, COUPLED, None)
        residuals = []
        for number in range(HEALTHY, HEALTHY + SPREAD_OF):
            scan = scan_of(prior, contrast, number, "validation", None)
            residuals.append(replace(scan, slices=self._smoothed(scan)))
        self.spread = MeanDistance.fit(residuals, prior.metadata).model

    def _search(self, healthy: list[Scan], what: str, smoothing: float | None) -> tuple[float, float]:
        best = choose(curve(self.prior, healthy, self.config[what], smoothing), "implant")
        return best["tv_weight"], best["smoothing"]

    def _residual(self, scan: Scan, what: str, weight: float, seed: int | None = None) -> torch.Tensor:
        config = self.config[what] if seed is None else replace(self.config[what], latent="sample")
        return scan.slices - solve_stacks([scan], self.prior, config, weight, CPU, seed=seed)[0].restored

    def _smoothed(self, scan: Scan) -> torch.Tensor:
        weight, smoothing = self.tuned[SMOOTHED]
        return smooth(self._residual(scan, COUPLED, weight), scan.mask, scan.voxel_size, smoothing)

    def rows(self, scan: Scan) -> Iterator[tuple[str, np.ndarray]]:
        """Signed scores on the scan's voxels."""
        yield PROJECTION, scan.residual(ProjectionDetector(self.prior).deviation_stacks([scan])[0])
        for what in (SLICEWISE, COUPLED):
            yield what, scan.residual(self._residual(scan, what, self.tuned[what][0]))
        smoothed = self._smoothed(scan)
        yield SMOOTHED, scan.residual(smoothed)
        mean, deviation = self.spread.at(scan)
        rms = (mean.square() + deviation.square()).sqrt()
        yield "+ smoothed, over healthy spread", scan.residual(smoothed / rms)
        if self.samples:
            weight, smoothing = self.tuned[SMOOTHED]
            samples = [self._residual(scan, COUPLED, weight, seed=seed) for seed in range(self.samples)]
            averaged = smooth(torch.stack(samples).mean(0), scan.mask, scan.voxel_size, smoothing)
            yield f"+ smoothed, mean of {self.samples} latent samples", scan.residual(averaged)


def score(prior: Any, contrast: str, options: argparse.Namespace) -> dict[str, Any]:
    ladder, sign = Ladder(prior, contrast, options.samples), SIGN[contrast]

    def scores(scan: Scan) -> Iterator[tuple[str, np.ndarray]]:
        for name, residual in ladder.rows(scan):
            yield name, np.abs(residual)
            yield f"{name}, signed", sign * residual

    healthy: dict[str, list[HealthyScores]] = {}
    for number in range(HEALTHY):
        scan = scan_of(prior, contrast, number, "validation", None)
        for name, values in scores(scan):
            healthy.setdefault(name, []).append(HealthyScores.of(values[scan.brain()]))
    thresholds = {name: [merged(found).threshold(limit) for limit in LIMITS] for name, found in healthy.items()}
    histograms: dict[str, list[ScoreHistogram]] = {name: [] for name in thresholds}
    dices: dict[str, list[list[float]]] = {name: [] for name in thresholds}
    for number in range(options.patients):
        one = person(contrast, number, "test", LESION[contrast])
        for name, values in scores(scan_of(prior, contrast, number, "test", LESION[contrast])):
            histogram = ScoreHistogram(-30.0, 30.0)
            histogram.add(values, one.lesion_mask, one.brain_mask)
            histograms[name].append(histogram)
            dices[name].append([dice(values > t, one.lesion_mask, one.brain_mask) for t in thresholds[name]])
    rows = {}
    for name, found in histograms.items():
        low, high = bootstrap_interval(found)
        rows[name] = {
            "auc": round(sum(found[1:], found[0]).auc(), 4),
            "auc_interval": [round(low, 4), round(high, 4)],
            "dice": [round(float(x), 4) for x in np.mean(dices[name], axis=0)],
        }
        print(f"  {name:45s} AUC {rows[name]['auc']:.3f} Dice {rows[name]['dice']}", flush=True)
    return {"tuned": ladder.tuned, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of trained models and finished figures")
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=list(LESION))
    parser.add_argument("--priors", nargs="+", default=[EMBEDDED], choices=[EMBEDDED, *MODELS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of trained models")
    parser.add_argument("--samples", type=int, default=0, help="latent samples to average; 0 leaves that row out")
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--slices", type=int, default=28_000, help="slices that a model sees in training")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"], help="of the training")
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for contrast in options.contrasts:
        for name, seed in product(options.priors, options.seeds):
            if name == EMBEDDED and seed != options.seeds[0]:
                continue  # there is one
            done = options.work / contrast / f"parts-{slug(name)}-{seed}-{options.patients}.json"
            if not done.exists():
                print(f"{contrast} {name} seed {seed}", flush=True)
                write_json(done, score(load(name, contrast, seed, options), contrast, options))
        found = {}
        for name in (EMBEDDED, *MODELS):
            runs = sorted((options.work / contrast).glob(f"parts-{slug(name)}-[0-9]-{options.patients}.json"))
            if runs:
                found[name] = [json.loads(run.read_text()) for run in runs]
        facts = {
            "patients": options.patients,
            "healthy": HEALTHY,
            "limits": LIMITS,
            "slices_seen": options.slices,
            "priors": found,
        }
        write_json(options.out / f"scores_{contrast}.json", {**environment("cpu"), **facts})


if __name__ == "__main__":
    main()
