"""What each part of the score is worth: MAP on unseen patients with one part after the other.

    python bench/scores.py --work runs --priors embedded VAE

Weight and smoothing of each row come from anomalies implanted into healthy people of the split "validation", its
thresholds from the same people, the healthy spread from others; the patients are of "test". Writes
``scores_<contrast>.json``. A prior that the work folder (shared with ``models.py``) has scored is not scored again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _bench import RESULTS, environment, write_json
from models import LESION, LIMITS, MODELS, SIGN, person, train_model
from weights import SEARCH_SLICES

import lesioncore as lc
from lesioncore.calibrate import DEFAULT_WEIGHTS
from lesioncore.detectors import MeanDistance
from lesioncore.healthy import HealthyScores, merged
from lesioncore.metrics import ScoreHistogram, bootstrap_interval, dice
from lesioncore.priors import load_model
from lesioncore.restore import solve_stacks
from lesioncore.scan import Scan, prepare
from lesioncore.search import Implants, choose, search_part
from lesioncore.smoothing import smooth

CPU = torch.device("cpu")
HEALTHY, SPREAD_OF = 20, 30
SAMPLES = 4
SLICEWISE, COUPLED = "each slice alone", "TV across slices"
SMOOTHED, AVERAGED = "+ smoothed", f"+ smoothed, mean of {SAMPLES} latent samples"


def scan_of(prior: Any, contrast: str, number: int, split: str, lesion: str | None) -> Scan:
    one = person(contrast, number, split, lesion)
    return prepare(one.image, prior.metadata, mask=one.brain_mask, affine=one.affine)


class Ladder:
    """The residuals of one prior, each row's own."""

    def __init__(self, prior: Any, contrast: str) -> None:
        self.prior, self.contrast = prior, contrast
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
        implants = Implants(search_part(healthy, SEARCH_SLICES), smoothing, seed=0)
        curve = []
        for weight in DEFAULT_WEIGHTS:
            curve += implants(weight, solve_stacks(implants.stacks, self.prior, self.config[what], weight, CPU))
        best = choose(curve, "implant")
        return best["tv_weight"], best["smoothing"]

    def _residual(self, scan: Scan, what: str, weight: float, seed: int | None = None) -> torch.Tensor:
        config = self.config[what] if seed is None else replace(self.config[what], latent="sample")
        return scan.slices - solve_stacks([scan], self.prior, config, weight, CPU, seed=seed)[0].restored

    def _smoothed(self, scan: Scan) -> torch.Tensor:
        weight, smoothing = self.tuned[SMOOTHED]
        return smooth(self._residual(scan, COUPLED, weight), scan.mask, scan.voxel_size, smoothing)

    def rows(self, scan: Scan) -> Iterator[tuple[str, np.ndarray]]:
        """Signed scores on the scan's voxels."""
        for what in (SLICEWISE, COUPLED):
            yield what, scan.residual(self._residual(scan, what, self.tuned[what][0]))
        smoothed = self._smoothed(scan)
        yield SMOOTHED, scan.residual(smoothed)
        mean, deviation = self.spread.at(scan)
        rms = (mean.square() + deviation.square()).sqrt()
        yield "+ smoothed, over healthy spread", scan.residual(smoothed / rms)
        weight, smoothing = self.tuned[SMOOTHED]
        samples = [self._residual(scan, COUPLED, weight, seed) for seed in range(SAMPLES)]
        averaged = torch.stack(samples).mean(0)
        yield AVERAGED, scan.residual(smooth(averaged, scan.mask, scan.voxel_size, smoothing))


def score(prior: Any, contrast: str, patients: int) -> dict[str, Any]:
    ladder, sign = Ladder(prior, contrast), SIGN[contrast]
    summaries: dict[str, list[HealthyScores]] = {}
    for number in range(HEALTHY):
        scan = scan_of(prior, contrast, number, "validation", None)
        for row, signed in ladder.rows(scan):
            for name, values in ((row, np.abs(signed)), (f"{row}, signed", sign * signed)):
                summaries.setdefault(name, []).append(HealthyScores.of(values[scan.brain()]))
    thresholds = {name: [merged(found).threshold(limit) for limit in LIMITS] for name, found in summaries.items()}
    histograms: dict[str, list[ScoreHistogram]] = {name: [] for name in thresholds}
    dices: dict[str, list[list[float]]] = {name: [] for name in thresholds}
    for number in range(patients):
        one = person(contrast, number, "test", LESION[contrast])
        scan = scan_of(prior, contrast, number, "test", LESION[contrast])
        for row, signed in ladder.rows(scan):
            for name, values in ((row, np.abs(signed)), (f"{row}, signed", sign * signed)):
                histogram = ScoreHistogram(-30.0, 30.0)
                histogram.add(values, one.lesion_mask, one.brain_mask)
                histograms[name].append(histogram)
                found = [dice(values > level, one.lesion_mask, one.brain_mask) for level in thresholds[name]]
                dices[name].append(found)
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
    parser.add_argument("--priors", nargs="+", default=["embedded"], choices=["embedded", *MODELS])
    parser.add_argument("--seed", type=int, default=0, help="of a trained model")
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--slices", type=int, default=14_000, help="slices that a model sees in training")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"], help="of the training")
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for contrast in options.contrasts:
        found = {}
        for name in options.priors:
            print(f"{contrast} {name}", flush=True)
            done = options.work / contrast / f"ladder-{name}-{options.seed}-{options.patients}.json"
            if not done.exists():
                if name == "embedded":
                    prior: Any = lc.load_prior(f"phantom-{contrast[:2].lower()}")
                else:
                    run = train_model(name, MODELS[name], contrast, options.seed, options)
                    prior = load_model(run / "model")
                write_json(done, score(prior, contrast, options.patients))
            found[name] = json.loads(done.read_text())
            facts = {"patients": options.patients, "healthy": HEALTHY, "limits": LIMITS, "priors": found}
            write_json(options.out / f"scores_{contrast}.json", {**environment("cpu"), **facts})


if __name__ == "__main__":
    main()
