"""Time and peak memory of a restoration against slices, resolution, width of the network and number of volumes.

    python bench/speed/scaling.py [--device cuda] [--threads N] [--quick]

The paper's network with random weights and the default solver, each point in a process of its own, all of an axis
in turn, median of three rounds. Writes ``scaling_<device>.json`` with the fitted exponent of each axis, and
``scaling_<device>.png``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.options import parser, started
from common.paper_network import TV_WEIGHT
from common.results import write_json
from common.timing import peak_gb

import lesioncore as lc

CHANNELS = (16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Point:
    """One measured case; `width` multiplies the paper's channels."""

    slices: int = 48
    pixels: int = 200
    width: float = 1.0
    volumes: int = 1


AXES = {
    "slices": [Point(slices=n) for n in (24, 48, 96, 144)],
    "pixels": [Point(pixels=n) for n in (128, 160, 200, 256)],
    "width": [Point(width=w) for w in (0.5, 1.0, 1.5)],
    "volumes": [Point(volumes=n) for n in (1, 2, 4)],
}


def measure(point: Point, device: str) -> dict[str, Any]:
    """Seconds of the second call."""
    torch.manual_seed(0)
    channels = tuple(round(point.width * count) for count in CHANNELS)
    prior = lc.VAE(lc.VAEConfig((point.pixels, point.pixels), channels, channels[-1]))
    shape = (point.slices, 1, point.pixels, point.pixels)
    scans = [torch.randn(shape) for _ in range(point.volumes)]
    masks = [torch.ones(shape, dtype=torch.bool) for _ in scans]
    config = lc.RestoreConfig(tv_weight=TV_WEIGHT, normalized=True)
    for _ in range(2):
        start = time.perf_counter()
        lc.restore(scans, prior, mask=masks, config=config, device=device)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_gb": round(peak_gb(device), 3)}


def apart(point: Point, options: argparse.Namespace) -> dict[str, Any]:
    """A point in a process of its own, for the peak of its memory."""
    command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
    command += ["--device", options.device, "--threads", str(options.threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def fit(axis: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Exponent of time against the axis, and the largest relative distance from the line of least squares."""
    x, y = (np.array([row[key] for row in rows], dtype=float) for key in (axis, "seconds"))
    slope, offset = np.polyfit(x, y, 1)
    return {
        "exponent": round(float(np.polyfit(np.log(x), np.log(y), 1)[0]), 3),
        "off_the_line": round(float(np.abs(y / (slope * x + offset) - 1).max()), 3),
    }


def plot(axes: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(axes), figsize=(3.2 * len(axes), 3), constrained_layout=True)
    for panel, (axis, found) in zip(panels, axes.items(), strict=True):
        panel.plot([row[axis] for row in found["rows"]], [row["seconds"] for row in found["rows"]], "o-")
        panel.set(xlabel=axis, ylabel="seconds", ylim=(0, None), xlim=(0, None))
        panel.set_title(f"exponent {found['exponent']:.2f}")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    arguments = parser(
        __doc__,
        writes="scaling_DEVICE.json and .png",
        device="cpu",
        threads=torch.get_num_threads(),
        quick="few slices, one call each",
    )
    arguments.add_argument("--point", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.point:
        torch.set_num_threads(options.threads)
        point = Point(**json.loads(options.point))
        print(json.dumps(measure(point, options.device)))
        return
    facts = started(options)
    axes = {}
    for axis, points in AXES.items():
        if options.quick:
            points = [replace(point, slices=max(4, point.slices // 12)) for point in points]
        rounds = [[apart(point, options) for point in points] for _ in range(1 if options.quick else 3)]
        rows = []
        for point, found in zip(points, zip(*rounds, strict=True), strict=True):
            seconds = sorted(one["seconds"] for one in found)
            rows.append({**asdict(point), **found[0], "seconds": round(float(np.median(seconds)), 3)})
            print(f"{axis}: {rows[-1]}", flush=True)
        axes[axis] = {"rows": rows, **fit(axis, rows)}
        print(f"{axis}: exponent {axes[axis]['exponent']}, off the line {axes[axis]['off_the_line']}", flush=True)
    name = f"scaling_{options.device}{'_quick' * options.quick}"
    write_json(options.out / f"{name}.json", {"environment": facts, "axes": axes})
    plot(axes, options.out / f"{name}.png")


if __name__ == "__main__":
    main()
