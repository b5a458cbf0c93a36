"""Fixtures of the tests of the BIDS App."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.preprocess import pipeline
from lesioncore.restoration.prior_choice import PRIORS


@pytest.fixture
def priors(tmp_path_factory, monkeypatch) -> None:
    """Tiny priors in the places of the embedded ones of all contrasts."""
    folder = tmp_path_factory.mktemp("priors")
    for contrast in PRIORS:
        metadata = replace(tiny_metadata(tiny_calibration()), name=f"tiny-{contrast}", modality=contrast)
        lc.save_model(tiny_vae(metadata=metadata), folder / contrast, card="A random network for tests.\n")
        monkeypatch.setitem(PRIORS, contrast, str(folder / contrast))


@pytest.fixture
def registering(tmp_path, monkeypatch) -> str:
    """Directory of a tiny prior of any contrast for registered scans, which are taken to lie in the template."""
    monkeypatch.setattr(
        pipeline, "_register", lambda values, affine, brain, limit: (brain, np.eye(4), {"overlap": 1.0})
    )
    metadata = replace(tiny_metadata(tiny_calibration()), modality=None, preprocessing=("register",))
    return str(lc.save_model(tiny_vae(metadata=metadata), tmp_path / "prior", card="A random network for tests.\n"))
