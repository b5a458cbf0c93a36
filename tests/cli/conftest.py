"""Fixtures of the tests of the command line."""

from __future__ import annotations

import pytest
import torch
from support.models import tiny_calibration, tiny_metadata, tiny_vae
from support.patients import write_healthy, write_patients
from support.scans import HEALTHY, METADATA

import lesioncore as lc
from lesioncore.detectors import MAPDetector
from lesioncore.models import UNet, UNetConfig


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> str:
    """Directory of a prior that is calibrated for the default settings."""
    vae = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    return str(lc.save_model(vae, tmp_path_factory.mktemp("priors") / "tiny", card="A random network for tests.\n"))


@pytest.fixture(scope="session")
def evaluation_paths(tmp_path_factory) -> dict[str, str]:
    """Folders of scans, and directories of an untrained prior, the same with thresholds, and an untrained U-Net."""
    root = tmp_path_factory.mktemp("scans")
    write_patients(root / "patients", 3)
    write_healthy(root / "healthy", range(2))
    write_healthy(root / "calibration", range(10, 13))
    prior = tiny_vae(metadata=METADATA)
    lc.save_model(prior, root / "prior", card="For tests.\n")
    config = lc.RestoreConfig("prox", tv_weight=1.0)
    prior.metadata = METADATA.with_calibration(MAPDetector(prior, config).thresholds(HEALTHY))
    lc.save_model(prior, root / "calibrated", card="For tests.\n")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(UNetConfig((24, 20), (4, 6), 3), METADATA)
    lc.save_model(unet, root / "unet", card="For tests.\n")
    names = ("patients", "healthy", "calibration", "prior", "calibrated", "unet")
    return {name.upper(): str(root / name) for name in names}
