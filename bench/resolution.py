"""How well the embedded priors' thresholds hold on scans of other resolutions: ``python bench/resolution.py``.

Healthy people of the split "test", whom no calibration has seen, simulated at several voxel sizes; the thresholds are
those of the calibration's scans of 2 mm. Writes ``resolution.json``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _bench import RESULTS, environment, write_json

import lesioncore as lc
from lesioncore.detectors import MAPDetector
from lesioncore.evaluation import evaluate
from lesioncore.subjects import find_subjects

VOXEL_SIZES = (1.0, 2.0, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--contrasts", nargs="+", default=["T2w", "T1w"], choices=["T2w", "T1w"])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for contrast in options.contrasts:
        prior = lc.load_prior(f"phantom-{contrast[:2].lower()}")
        people = find_subjects([f"phantom:{contrast}:100-{99 + options.people}"], split="test")
        for size in VOXEL_SIZES:
            scored = evaluate({"MAP": MAPDetector(prior)}, [], people, voxel_size=size, device=options.device)
            rows = scored.summary()["methods"]["MAP"]["at_limit"]
            keys = {"limit": "limit", "healthy_fpr": "mean", "healthy_fpr_largest": "largest"}
            found.setdefault(contrast, {})[f"{size:g}"] = [{new: row[old] for old, new in keys.items()} for row in rows]
            print(contrast, size, [round(row["healthy_fpr"], 4) for row in rows], flush=True)
    facts = {"people": options.people, "calibrated_at": 2.0, "rates": found}
    write_json(options.out / "resolution.json", {**environment(options.device), **facts})


if __name__ == "__main__":
    main()
