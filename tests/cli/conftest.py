"""Fixtures of the tests of the command line."""

from __future__ import annotations

import pytest
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> str:
    """Directory of a prior that is calibrated for the default settings."""
    vae = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    return str(lc.save_model(vae, tmp_path_factory.mktemp("priors") / "tiny", card="A random network for tests.\n"))
