"""The command-line options that benchmarks share, each with the same name, meaning and default everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from common.machine import environment
from common.results import RESULTS


def parser(
    description: str | None,
    *,
    writes: str = "",
    device: str = "",
    threads: int = 0,
    quick: str = "",
    work: str = "",
    contrasts: Sequence[str] = (),
    patients: int = 0,
    voxel_size: float = 0.0,
) -> argparse.ArgumentParser:
    """A parser with those of the shared options that are given here, each by its default or its help."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if work:
        found.add_argument("--work", type=Path, required=True, help=work)
    if device:
        found.add_argument("--device", default=device, choices=["cpu", "cuda"])
    if threads:
        found.add_argument("--threads", type=int, default=threads, help="threads of torch on the CPU")
    if quick:
        found.add_argument("--quick", action="store_true", help=quick)
    if contrasts:
        found.add_argument("--contrasts", nargs="+", default=list(contrasts), choices=list(contrasts))
    if patients:
        found.add_argument("--patients", type=int, default=patients, help="of each contrast")
    if voxel_size:
        found.add_argument("--voxel-size", type=float, default=voxel_size, help="of the simulated scans, mm")
    if writes:
        found.add_argument("--out", type=Path, default=RESULTS, help=f"folder for {writes}")
    return found


def started(options: argparse.Namespace) -> dict[str, Any]:
    """Set the number of threads; print and return where the benchmark runs."""
    torch.set_num_threads(getattr(options, "threads", torch.get_num_threads()))
    facts = environment(options.device)
    print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    return facts
