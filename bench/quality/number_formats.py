"""Effect of the network's number format on detection: float64, float32, TF32 and bfloat16 with the embedded priors.

    python bench/quality/number_formats.py                   # half an hour on a core without bfloat16 instructions
    python bench/quality/number_formats.py --device cuda

The same patients of the split "test" in each, with the prior's own weight, smoothing and thresholds, which were found
in float32, and healthy people of the same split that no calibration has seen. float64 on the CPU is the reference.
CPUs without bfloat16 instructions compute bfloat16 in software. On CPUs TF32 is emulated: the factors of every
convolution are rounded to its ten bits, and their products summed in float32, as GPUs do. Writes
``precision_<device>.json``; a contrast that is there already from the same commit and options stays.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.patients import LESION
from common.results import write_json

import lesioncore as lc
from lesioncore.detectors import MAPDetector
from lesioncore.evaluation.scans import load
from lesioncore.metrics import ScoreHistogram, bootstrap_interval
from lesioncore.metrics.limits import LIMITS
from lesioncore.models.convolution import FrozenConvolution
from lesioncore.restoration.scan import Scan
from lesioncore.scoring.smoothing import smooth
from lesioncore.subjects import Subject, find_subjects

REFERENCE = "float64"
Restore = Callable[[Scan], Tensor]


def to_tf32(x: Tensor) -> Tensor:
    """Round float32 to ten bits of mantissa, ties away from zero."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32).view_as(x)


def rounding(prior: Any) -> Any:
    """A prior whose copy for inference rounds the factors of each convolution to TF32 in its forward pass."""

    def before(module: FrozenConvolution, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        layout = torch.channels_last
        return (to_tf32(arguments[0]).contiguous(memory_format=layout), *arguments[1:])

    def for_inference() -> Any:
        copy = type(prior).for_inference(prior)
        for module in copy.modules():
            if isinstance(module, FrozenConvolution):
                module.weight = to_tf32(module.weight).contiguous(memory_format=torch.channels_last)
                module.register_forward_pre_hook(before)
        return copy

    prior.for_inference = for_inference
    return prior


def formats(name: str, device: torch.device) -> dict[str, Restore]:
    """Residuals of a scan by number format."""

    def with_config(prior: Any, precision: str, dtype: torch.dtype = torch.float32) -> Restore:
        detector = MAPDetector(prior, lc.RestoreConfig(precision=precision))
        assert detector.calibration is not None  # as shipped
        where = device if dtype == torch.float32 else torch.device("cpu")

        def restore(scan: Scan) -> Tensor:
            stack = replace(scan, slices=scan.slices.to(dtype))
            return detector.deviation_stacks([stack], device=where)[0].float()

        return restore

    prior, wide = lc.load_prior(name), cast(Any, lc.load_prior(name)).double()
    if device.type == "cpu":
        rounded = {"tf32, emulated": with_config(rounding(lc.load_prior(name)), "float32")}
    else:
        rounded = {"tf32": with_config(prior, "tf32")}
    return {
        REFERENCE: with_config(wide, "float32", torch.float64),
        "float32": with_config(prior, "float32"),
        **rounded,
        "bfloat16": with_config(prior, "bfloat16"),
    }


def run(contrast: str, options: argparse.Namespace) -> dict[str, Any]:
    name = f"phantom-{contrast[:2].lower()}"
    metadata: lc.PriorMetadata = lc.load_prior(name).metadata  # type: ignore[attr-defined]
    calibration = metadata.calibration
    assert calibration is not None  # embedded
    restores = formats(name, torch.device(options.device))
    thresholds = [calibration.threshold(limit) for limit in LIMITS]
    histograms: dict[str, list[ScoreHistogram]] = {one: [] for one in restores}
    above: dict[str, list[list[float]]] = {one: [] for one in restores}
    errors: dict[str, list[float]] = {one: [] for one in restores}
    seconds = dict.fromkeys(restores, 0.0)

    def scores(people: Sequence[Subject], *, ill: bool) -> None:
        for person in people:
            loaded = load(person, options.voxel_size, ill=ill)
            scan = loaded.prepare(metadata)
            brain = scan.brain()
            exact = np.zeros(0)
            for one, restore in restores.items():
                start = time.perf_counter()
                residual = smooth(restore(scan), scan.mask, scan.voxel_size, calibration.smoothing)
                seconds[one] += time.perf_counter() - start
                score = np.abs(scan.residual(residual))
                exact = score if one == REFERENCE else exact
                errors[one].append(float(np.square(score - exact)[brain].mean()))
                if ill:
                    assert loaded.lesion is not None
                    histogram = ScoreHistogram(0.0, 10.0)
                    histogram.add(score, loaded.lesion & brain, brain)
                    histograms[one].append(histogram)
                else:
                    above[one].append([float((score[brain] > threshold).mean()) for threshold in thresholds])
            print(f"  {contrast} {person.id}", flush=True)

    scores(find_subjects([f"phantom:{contrast}:{options.patients}:{LESION[contrast]}"], split="test"), ill=True)
    scores(find_subjects([f"phantom:{contrast}:100-{99 + options.healthy}"], split="test"), ill=False)
    reference = histograms[REFERENCE]
    rows = {}
    for one, found in histograms.items():
        low, high = bootstrap_interval(found, versus=reference)
        auc = sum(found[1:], found[0]).auc()
        rows[one] = {
            "auc": round(auc, 5),
            "auc_difference": round(auc - sum(reference[1:], reference[0]).auc(), 5) + 0.0,  # no minus 0
            "auc_difference_interval": [round(low, 5) + 0.0, round(high, 5) + 0.0],
            "largest_difference_of_one": round(
                max(abs(a.auc() - b.auc()) for a, b in zip(found, reference, strict=True)), 5
            ),
            "healthy_above": [round(float(share), 5) for share in np.mean(above[one], axis=0)],
            "score_error": round(float(np.sqrt(np.mean(errors[one]))), 7),
            "seconds_per_scan": round(seconds[one] / (options.patients + options.healthy), 1),
        }
        print(f"  {one:16s} {rows[one]}", flush=True)
    return rows


def main() -> None:
    arguments = parser(
        __doc__,
        writes="precision_DEVICE.json",
        contrasts=list(LESION),
        patients=8,
        voxel_size=2.0,
        threads=1,
        device="cpu",
    )
    arguments.add_argument("--healthy", type=int, default=6, help="healthy people of each contrast")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    facts = {
        **environment(options.device),
        "bfloat16_instructions": options.device == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        **{name: getattr(options, name) for name in ("patients", "healthy", "voxel_size")},
        "limits": list(LIMITS),
    }
    path = options.out / f"precision_{options.device}.json"
    for contrast in options.contrasts:
        rows = run(contrast, options)
        done = json.loads(path.read_text()) if path.exists() else {}
        others = done.pop("contrasts", {})
        write_json(path, {**facts, "contrasts": {**(others if done == facts else {}), contrast: rows}})


if __name__ == "__main__":
    main()
