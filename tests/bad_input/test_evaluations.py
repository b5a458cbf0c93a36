"""Evaluations whose words or figures cannot be, after all the work is done: the work is not lost."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.bad_input import REFUSED, TAKEN, WARNED, listed
from support.evaluations import few_draws  # noqa: F401
from support.models import tiny_vae
from support.patients import write, write_healthy, write_patients
from support.scans import HEALTHY, METADATA

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.cli.output import Output
from lesioncore.detectors import IntensityThreshold

pytestmark = pytest.mark.usefixtures("few_draws")
LINE = ["evaluate", "patients", "-o", "out", "--methods", "bright=prior:intensity:sign=1"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of patients and of a prior with thresholds, which the test runs in."""
    monkeypatch.chdir(tmp_path)
    prior = tiny_vae(metadata=METADATA)
    prior.metadata = METADATA.with_calibration(IntensityThreshold(METADATA, sign=1).thresholds(HEALTHY))
    lc.save_model(prior, "prior", card="")
    write_patients(tmp_path / "patients", 2)
    return tmp_path


def whole(number: int) -> None:
    """Make a patient's lesion as large as the scan."""
    path = f"patients/derivatives/manual/sub-p{number}/anat/sub-p{number}_label-lesion_mask.nii"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine), path)


@listed("Evaluations and cohorts", "a $ in a method's name", TAKEN, "it is a $ in tables and figures")
def test_a_dollar_in_a_name_is_a_dollar(folder, capsys):
    assert main(["evaluate", "patients", "-o", "out", "--methods", "a$b^{$=prior:intensity:sign=1"]) == 0
    assert "| a$b^{$ |" in capsys.readouterr().out
    assert (folder / "out" / "roc.png").stat().st_size > 1000


@listed(
    "Evaluations and cohorts",
    "a terminal whose encoding lacks a sign",
    TAKEN,
    "the sign is escaped there, and whole in the files",
)
def test_an_encoding_that_lacks_a_sign_escapes_it(folder, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main([*LINE, "--no-figures"]) == 0
    assert r"\xb1" in raw.getvalue().decode("ascii")
    assert "±" in (folder / "out" / "tables.md").read_text(encoding="utf-8")


@listed("Evaluations and cohorts", "a process without stdout or stderr", TAKEN, "files are written", kinds=2)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_process_without_stdout_or_stderr_works(stream, folder, monkeypatch):
    monkeypatch.setattr(sys, stream, None)
    assert main([*LINE, "--no-figures"]) == 0
    assert (folder / "out" / "metrics.json").exists()


@listed("Evaluations and cohorts", "a reader of stdout who leaves", TAKEN, "the work goes on")
def test_work_goes_on_when_the_reader_of_stdout_leaves():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        output = Output(json=False)
        output.say("read")
        assert not output.unread
        os.close(reading)
        output.say("not read")
        output.say("nor this")
        assert output.unread


@listed(
    "Evaluations and cohorts",
    "a lesion that covers the brain",
    WARNED,
    "its lesion mask covers 100 % of the brain; check that it is a mask of lesions",
    kinds=2,
)
@pytest.mark.parametrize("of", ["one", "all"])
def test_a_lesion_that_covers_the_brain_has_no_roc_curve_but_a_table(of, folder, capsys):
    whole(0)
    if of == "all":
        whole(1)
    assert main([*LINE, "--by", "lesion_size,lesion_contrast"]) == 0
    said = capsys.readouterr()
    assert "warning: sub-p0: its lesion mask covers 100 % of the brain; check that it is a mask of lesions" in said.err
    assert "| bright |" in said.out
    (method,) = json.loads((folder / "out" / "metrics.json").read_text())["methods"].values()
    assert (method["auc"] is None) == (of == "all") != (folder / "out" / "roc.png").exists()


@listed(
    "Evaluations and cohorts",
    "a scan on which a method detects nothing",
    TAKEN,
    "each mean precision says over how many scans it is",
)
def test_means_say_over_how_many_scans_they_are(folder, capsys):
    """No voxel of the first patient is brighter than those of the healthy people, of whom the scan is one."""
    write(Path("patients/sub-p0/anat/sub-p0_T2w.nii"), HEALTHY[0].numpy())
    second = nib.load("patients/sub-p1/anat/sub-p1_T2w.nii")
    lesion = np.asarray(nib.load("patients/derivatives/manual/sub-p1/anat/sub-p1_label-lesion_mask.nii").dataobj)
    bright = np.asarray(second.dataobj).copy()  # not the file itself, which is written anew
    bright[tuple(np.argwhere(lesion)[0])] = 5000
    write(Path(second.get_filename()), bright, second.affine)
    assert main([*LINE, "--no-figures", "--limits", "0.0002"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    (row,) = json.loads((folder / "out" / "metrics.json").read_text())["methods"]["bright"]["at_limit"]
    assert (row["precision_scans"], row["silent_scans"]) == (1, 1)
    assert f"± {row['precision']['sd']:.3f} ({row['precision_scans']}) | {row['silent_scans']} |" in text
    assert "the mean precision over those on which something is detected" in text


@listed("Evaluations and cohorts", "one constant scan in a cohort of a command", REFUSED, "the scan is named", kinds=4)
@pytest.mark.parametrize(
    "line",
    ["calibrate DATA --prior prior -o out", "evaluate --healthy DATA --methods prior:intensity -o out"],
)
@pytest.mark.parametrize("place", [0, 1])
def test_the_scan_of_a_cohort_that_cannot_be_used_is_named(line, place, folder, capsys):
    write_healthy(folder / "DATA", range(2))
    write(folder / "DATA" / f"sub-h{place}_T2w.nii", np.pad(np.full((9, 9, 9), 5, np.float32), 4))
    assert main(line.split()) == 1
    assert re.search(rf"error: .*sub-h{place}.*: got 1 different values in the brain", capsys.readouterr().err)


@listed("Evaluations and cohorts", "one constant scan in a cohort in Python", REFUSED, "the scan is named")
def test_python_names_the_scan_of_a_cohort_that_cannot_be_used(folder):
    flat = np.pad(np.full((9, 9, 9), 5, np.float32), 4)
    path = write(folder / "sub-x_T2w.nii", flat)
    prior = lc.load_prior("prior")
    for scans, name in (([HEALTHY[0], path], r"sub-x_T2w\.nii"), ([HEALTHY[0], flat], r"healthy\[1\]")):
        with pytest.raises(ValueError, match=f"{name}: .*got 1 different values in the brain"):
            lc.calibrate(prior, scans)
        with pytest.raises(ValueError, match=f"{name}: .*got 1 different values in the brain"):
            IntensityThreshold(METADATA, sign=1).thresholds(scans)
