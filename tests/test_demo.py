"""The demo: what it writes, and that the figures it reports are those of its files."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.models import tiny_vae

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.demo import LESION, PATIENTS, demo
from lesioncore.phantom import simulate
from lesioncore.report.page import read_summary

VOXEL = 5.0


def voxels(path: str) -> np.ndarray:
    return nib.load(path).get_fdata()


@pytest.fixture(scope="module")
def prior() -> lc.VAE:
    """A random network, calibrated on a healthy phantom."""
    healthy = simulate(0, split="validation", contrast="T2w", voxel_size=VOXEL)
    scale = lc.IntensityScale.fit(healthy.image[healthy.brain_mask])
    vae = tiny_vae((40, 44), metadata=lc.PriorMetadata("tiny", "T2w", lc.SliceGrid(VOXEL, (40, 44)), scale))
    found = lc.calibrate(vae, [healthy.nifti()], config=lc.RestoreConfig(tv_weight=1.0))
    assert vae.metadata is not None
    vae.metadata = replace(vae.metadata, calibration=found)
    return vae


@pytest.fixture(scope="module")
def run(prior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    stages: list[str] = []
    found = demo(folder, patient="phantom", prior=prior, voxel_size=VOXEL, subject=1, report=stages.append)
    return found, folder, stages


def test_the_patient_is_the_demo_populations(run):
    found, _, _ = run
    patient = simulate(1, split="demo", contrast="T2w", lesion="glioma", voxel_size=VOXEL)
    assert np.array_equal(voxels(found.files["scan"]), patient.image)
    assert np.array_equal(voxels(found.files["truth"]) > 0, patient.lesion_mask)
    assert (found.contrast, found.lesion, found.subject, found.prior) == ("T2w", "glioma", 1, "tiny")


def test_the_figures_are_those_of_the_files(run):
    from sklearn.metrics import f1_score, roc_auc_score

    found, _, _ = run
    brain, truth = voxels(found.files["brain"]) > 0, voxels(found.files["truth"]) > 0
    assert found.auc == pytest.approx(roc_auc_score(truth[brain], voxels(found.files["score"])[brain]), abs=1e-3)
    assert found.lesion_ml == pytest.approx(truth.sum() * VOXEL**3 / 1000)
    assert list(found.at_limit) == ["0.01", "0.05", "0.1"]
    for figures, file in zip(found.at_limit.values(), ("fpr01", "fpr05", "fpr10"), strict=True):
        mask = voxels(found.files[file]) > 0
        assert figures["dice"] == pytest.approx(f1_score(truth[brain], mask[brain]))
        assert figures["sensitivity"] == pytest.approx((mask & truth).sum() / truth.sum())
        assert figures["false_positive_rate"] == pytest.approx((mask & ~truth & brain).sum() / (brain & ~truth).sum())
        assert figures["detected_ml"] == pytest.approx(mask.sum() * VOXEL**3 / 1000)


def test_everything_is_written_and_named(run):
    found, folder, stages = run
    assert {Path(path) for path in found.files.values()} == set(folder.iterdir())
    assert Path(found.files["figure"]).read_bytes().startswith(b"\x89PNG")
    assert list(found.seconds) == stages
    text = "\n".join(found.lines())
    for expected in (found.auc, *(figures["dice"] for figures in found.at_limit.values())):
        assert f"{expected:.3f}" in text
    assert found.files["figure"] in text
    assert read_summary(Path(found.files["report"]))["detected_ml"]["1"] == pytest.approx(
        found.at_limit["0.01"]["detected_ml"], abs=0.01
    )


def test_the_command_says_the_same(run, prior, tmp_path, capsys):
    found, _, _ = run
    directory = lc.save_model(prior, tmp_path / "prior", card="A random network for tests.\n")
    command = ["demo", str(tmp_path / "out"), "--patient", "phantom", "--prior", str(directory)]
    command += ["--voxel-size", f"{VOXEL:g}", "--subject", "1"]
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["auc"], facts["at_limit"]) == (found.auc, found.at_limit)
    assert main(command) == 0  # a second demo replaces the first
    assert capsys.readouterr().out.rstrip().endswith("Research software, not a medical device.")


def test_a_prior_without_thresholds_is_refused(prior, tmp_path):
    vae = tiny_vae((40, 44), metadata=replace(prior.metadata, calibration=None))
    with pytest.raises(ValueError, match="calibration"):
        demo(tmp_path, patient="phantom", prior=vae, voxel_size=VOXEL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrast": "FLAIR"}, "contrast: got 'FLAIR'"),
        ({"contrast": "T2w"}, "expected T1w for patient 'template'; phantom has it"),
        ({"patient": "sheep"}, "patient: got 'sheep', expected one of .'phantom', 'template'."),
    ],
)
def test_a_patient_that_is_not_there_is_refused(options, message, tmp_path, capsys):
    with pytest.raises(ValueError, match=message):
        demo(tmp_path / "out", **options)
    assert main(["demo", str(tmp_path / "out"), *(f"--{name}={value}" for name, value in options.items())]) == 2
    assert "--" + next(iter(options)) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_said_before_any_work(prior, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"lesioncore\[figures\]"):
        demo(tmp_path / "out", prior=prior, voxel_size=VOXEL)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("patient", "contrast"), [(who, what) for who, its in PATIENTS.items() for what in its])
def test_the_embedded_prior_finds_the_lesion(patient, contrast, tmp_path):
    found = demo(tmp_path, patient=patient, contrast=contrast, voxel_size=2.0)
    assert found.lesion == LESION[contrast]
    assert found.prior == PATIENTS[patient][contrast]
    assert found.auc > 0.7
    assert found.at_limit["0.05"]["sensitivity"] > found.at_limit["0.05"]["false_positive_rate"]
