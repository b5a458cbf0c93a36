"""Modes that a caller has set in torch: results are those without them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bad_input import TAKEN, BadInput, listed, rows
from support.models import tiny_calibration, tiny_gmvae, tiny_metadata, tiny_multiscale, tiny_vae
from support.scans import AFFINE, FAST, HEALTHY, VALUES

import lesioncore as lc
from lesioncore.detectors import MAPDetector

Mode = Callable[[], AbstractContextManager[Any]]
MODES: dict[str, Mode] = {
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast to bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "another default device": lambda: torch.device("meta"),
}


def directory(folder: Path) -> Path:
    return lc.save_model(tiny_vae(metadata=tiny_metadata(tiny_calibration())), folder / "prior", card="")


def restored(make: Callable[[], Any], config: lc.RestoreConfig | None = None) -> list[np.ndarray]:
    """All that a restoration gives, computed where it is called."""
    result = lc.restore(VALUES.numpy(), make(), affine=AFFINE, config=config)
    return [result.restored, result.residual, result.score, *([] if config else [result.mask(0.05), result.rank()])]


def everything(folder: Path, prior: Any) -> list[Any]:
    """Restorations by several solvers and priors, a calibration, and a detector's scores."""
    config = lc.RestoreConfig(lc.ProxSolver(steps=2, inner_iterations=5), tv_weight=1.0, latent="sample")
    results = restored(lambda: lc.load_prior(folder / "prior"))
    for make in (tiny_gmvae, tiny_multiscale):
        results += restored(lambda make=make: make(metadata=tiny_metadata()), config)
    results += restored(lambda: prior)
    results.append(MAPDetector(prior, FAST).detect(VALUES))
    results.append(MAPDetector(prior, FAST).thresholds(HEALTHY).to_dict())
    results.append(lc.calibrate(prior, HEALTHY, config=FAST, tv_weights=[1.0]).to_dict())
    return results


@cache
def expected() -> list[Any]:
    """Everything without a mode."""
    with tempfile.TemporaryDirectory() as folder:
        return everything(Path(folder), lc.load_prior(directory(Path(folder))))


def in_mode(mode: Mode) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        prior = lc.load_prior(directory(folder))
        with mode():
            found = everything(folder, prior)
        for one, other in zip(found, expected(), strict=True):
            assert one == other if isinstance(other, dict) else np.array_equal(np.asarray(one), np.asarray(other))

    return use


@rows(
    "The caller's modes of torch",
    *(BadInput(name, in_mode(mode), None) for name, mode in MODES.items() if "device" not in name),
)
def test_results_do_not_depend_on_the_callers_modes(bad_input, tmp_path):
    bad_input.check(tmp_path)


@listed("The caller's modes of torch", "another default device", TAKEN)
def test_a_default_device_is_not_taken_for_the_cpu(tmp_path):
    expected = restored(lambda: lc.load_prior(directory(tmp_path)))
    with MODES["another default device"]():
        found = restored(lambda: lc.load_prior(tmp_path / "prior"))
    assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_modes_of_the_caller_are_as_before(mode, tmp_path):
    path = directory(tmp_path)
    with mode():
        before = torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.get_default_device()
        lc.load_prior(path)
        assert before == (
            *(torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
            torch.get_default_device(),
        )
