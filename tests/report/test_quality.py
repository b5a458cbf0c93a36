"""Quality checks and methods text of saved restorations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.reports import TEMPLATE, change, saved

from lesioncore.report.methods import methods_text
from lesioncore.report.quality import noise_level, quality_checks
from lesioncore.report.saved import SavedResult

STEPS = [
    {"name": "extract", "seconds": 1.0, "figures": {"input": "head", "brain_ml": 1200.0, "confidence": 0.98}},
    {"name": "register", "seconds": 1.0, "figures": {"overlap": 0.96, "likeness": 0.5}},
    {"name": "bias", "seconds": 1.0, "figures": {"log_field_sd": 0.05}},
]


def checks_of(case, **facts) -> dict:
    sidecar, scan = case
    change(sidecar, **facts)
    return {check.name: check for check in quality_checks(SavedResult.read(sidecar, scan))}


@pytest.fixture
def case(tmp_path):
    return saved(tmp_path)


def test_what_is_usual_is_left_alone_and_what_is_not_comes_with_advice(case):
    checks = checks_of(case, Preprocessing=STEPS, Remarks=[])
    verdicts = {name: check.verdict for name, check in checks.items()}
    # The made scan is small and of coarse voxels.
    assert verdicts.pop("Brain volume") == "check"
    assert verdicts.pop("Voxel size") == "check"
    assert verdicts.pop("Noise") in ("ok", "check")
    assert set(verdicts.values()) == {"ok"}
    assert "voxel sizes" in checks["Brain volume"].action
    worse = [
        ("Brain extraction", 0, "confidence", 0.9),
        ("Registration to the template", 1, "overlap", 0.92),
        ("Intensity inhomogeneity (bias field)", 2, "log_field_sd", 0.4),
    ]
    for name, step, figure, value in worse:
        steps = [dict(entry, figures=dict(entry["figures"])) for entry in STEPS]
        steps[step]["figures"][figure] = value
        check = checks_of(case, Preprocessing=steps)[name]
        assert check.verdict == "check"
        assert check.action


def test_another_contrast_is_told_by_the_remark_of_it(case):
    checks = checks_of(case, ToTemplate=TEMPLATE, Remarks=["its intensities fit T1w better than T2w"])
    assert (checks["Contrast"].verdict, checks["Contrast"].value) == (
        "check",
        "its intensities fit T1w better than T2w",
    )
    assert "--prior" in checks["Contrast"].action
    assert "Unlike the calibration's people" not in checks
    assert checks_of(case, Remarks=[])["Contrast"].verdict == "ok"


def test_steps_that_were_not_done_are_unknown_and_remarks_are_listed(case):
    checks = checks_of(case, Preprocessing=[], Remarks=["its brain measures 99 mm"])
    assert checks["Brain extraction"].verdict == checks["Registration to the template"].verdict == "unknown"
    assert checks["Unlike the calibration's people"].value == "Its brain measures 99 mm."


@pytest.mark.parametrize("sd", [0.02, 0.2, 0.6])
def test_noise_is_measured_whatever_the_anatomy(sd):
    """A ramp and two halves have no noise; Gaussian noise is found to a few percent."""
    ramp = torch.linspace(0, 1, 40)[:, None, None].expand(40, 36, 30).clone()
    ramp[:, 18:] += 2.0
    noise = torch.randn(ramp.shape, generator=torch.Generator().manual_seed(1)) * sd
    scan = (ramp + noise).numpy()
    brain = np.ones(scan.shape, dtype=bool)
    quartiles = np.percentile(scan, [25, 75])
    assert noise_level(ramp.numpy(), brain) < 1e-6
    assert noise_level(scan, brain) == pytest.approx(sd / (quartiles[1] - quartiles[0]), rel=0.05)


def test_the_methods_text_has_the_runs_figures(case):
    sidecar, scan = case
    change(sidecar, Preprocessing=STEPS, ToTemplate=np.eye(4).tolist())
    text = methods_text(SavedResult.read(sidecar, scan))
    for expected in (
        "1200 ml",
        "0.960",
        "'tiny'",
        "proximal gradient",
        "2 steps",
        "weight 1 ",
        "plus an anisotropic total-variation",
        "Chen",
        "Fonov",
        "(5 %)",
    ):
        assert expected in text
    change(sidecar, Preprocessing=[], ToTemplate=None, Thresholds=None)
    text = methods_text(SavedResult.read(sidecar, scan))
    assert "without preprocessing" in text
    assert "Fonov" not in text
    assert "No threshold was calibrated" in text
