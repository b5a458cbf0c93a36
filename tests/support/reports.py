"""Saved restorations for tests of reports: a made scan, or figures that are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.command_line import scan
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc

FAST = lc.ProxSolver(steps=2, step_size=0.25, inner_iterations=5)
TEMPLATE = [[1.0, 0, 0, 0], [0, 1, 0, -15], [0, 0, 1, 10], [0, 0, 0, 1]]
"""From the world of the tests' scans to the template's: the brain's middle comes to that of the template's brain."""


def tiny_prior() -> lc.VAE:
    return tiny_vae(metadata=tiny_metadata(tiny_calibration(solver=FAST)))


def saved(folder: Path, name: str = "sub-01_T2w", *, calibrated: bool = True, **facts: Any) -> tuple[Path, Path]:
    """Restore a made scan; returns the sidecar, in which `facts` are changed, and the scan."""
    path = scan(folder / "scans" / f"{name}.nii.gz", seed=sum(map(ord, name)))
    config = lc.RestoreConfig(solver=FAST, tv_weight=None if calibrated else 0.7)
    sidecar = lc.restore(path, tiny_prior(), config=config).save(folder / "results", name=name)["sidecar"]
    change(sidecar, **facts)
    return sidecar, path


def change(sidecar: Path, **facts: Any) -> None:
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **facts}))
