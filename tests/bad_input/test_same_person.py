"""People who would count twice, and scans of another contrast, among those whom thresholds and tables are made of."""

from __future__ import annotations

import re
import shutil
from functools import cache
from operator import add
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from support.bad_input import REFUSED, WARNED, BadInput, listed, rows
from support.models import tiny_vae
from support.patients import scan, subjects_of, write, write_healthy, write_patients
from support.scans import HEALTHY, METADATA, VALUES

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores
from lesioncore.cli import main
from lesioncore.detectors import IntensityThreshold
from lesioncore.evaluation import evaluate, thresholds_from
from lesioncore.phantom import simulate
from lesioncore.restoration.healthy_scans import healthy_scans
from lesioncore.restoration.prepare import prepare
from lesioncore.subjects import FileSubject, find_subjects

CONFIG = lc.RestoreConfig(lc.ProxSolver(steps=2, inner_iterations=5), tv_weight=1.0, smoothing=0.0)
TWICE = "are the same scan, which would count as two people; leave one out"


def detector() -> IntensityThreshold:
    return IntensityThreshold(METADATA, sign=1)


@cache
def calibration() -> lc.Calibration:
    return detector().thresholds(HEALTHY)


def calibrated(*scans: Any) -> lc.Calibration:
    return lc.calibrate(tiny_vae(metadata=METADATA), list(scans), config=CONFIG)


def copied(folder: Path) -> list[Path]:
    """A scan under two names, and compressed under a third."""
    first = write(folder / "sub-a_T2w.nii", scan(0))
    shutil.copy(first, folder / "sub-b_T2w.nii")
    return [first, folder / "sub-b_T2w.nii", write(folder / "sub-c_T2w.nii.gz", scan(0))]


def linked(folder: Path) -> list[Path]:
    first = write(folder / "sub-a_T2w.nii", scan(0))
    (folder / "sub-b_T2w.nii").symlink_to(first)
    return [first, folder / "sub-b_T2w.nii"]


def patients_twice(folder: Path) -> list[FileSubject]:
    write_patients(folder, 2)
    shutil.copy(folder / "sub-p0/anat/sub-p0_T2w.nii", folder / "sub-p1/anat/sub-p1_T2w.nii")
    return subjects_of(folder)


@rows(
    "People",
    BadInput(
        "an array twice", lambda _: calibrated(VALUES, VALUES), ValueError, (rf"healthy\[0\] and healthy\[1\] {TWICE}",)
    ),
    BadInput(
        "copies of a file",
        lambda f: calibrated(*copied(f)[:2]),
        ValueError,
        (f"sub-a_T2w.nii and .*sub-b_T2w.nii {TWICE}",),
    ),
    BadInput(
        "a copy that is compressed", lambda f: calibrated(*copied(f)[::2]), ValueError, (f"sub-c_T2w.nii.gz {TWICE}",)
    ),
    BadInput("a link and its target", lambda f: calibrated(*linked(f)), ValueError, (TWICE,)),
    BadInput("an array twice for a detector", lambda _: detector().thresholds([VALUES, VALUES]), ValueError, (TWICE,)),
    BadInput(
        "a calibration merged with itself",
        lambda _: calibration().merge(calibration()),
        ValueError,
        ("4 of its 4 people have the same scan",),
    ),
    BadInput(
        "scores added to themselves",
        lambda _: calibration().healthy + calibration().healthy,
        ValueError,
        ("who would count twice",),
    ),
    BadInput(
        "sites that share a person",
        lambda _: detector().thresholds(HEALTHY[:2]).merge(detector().thresholds(HEALTHY[1:])),
        ValueError,
        ("1 of its 3 people",),
    ),
    BadInput(
        "scores without a bend of one scan",
        lambda _: HealthyScores.of(VALUES, spread=0.5) + HealthyScores.of(VALUES, spread=0.5),
        ValueError,
        ("1 of its 1 people",),
    ),
    BadInput(
        "scores of which nothing else is known added to themselves",
        lambda _: add(*[HealthyScores.of(VALUES)] * 2),
        ValueError,
        ("1 of its 1 people",),
    ),
    BadInput(
        "ranks of brains of one size",  # which are the same for all people
        lambda _: HealthyScores.of(np.linspace(0, 1, 99)) + HealthyScores.of(np.linspace(0, 1, 99)),
        None,
    ),
    BadInput(
        "copies of a healthy scan for thresholds of an evaluation",
        lambda f: thresholds_from(detector(), find_subjects(copied(f)[:2])),
        ValueError,
        (f"healthy: sub-a and sub-b {TWICE}",),
    ),
    BadInput(
        "copies of a patient",
        lambda f: evaluate({"a": detector()}, patients_twice(f)),
        ValueError,
        (f"patients: sub-p0 and sub-p1 {TWICE}",),
    ),
    BadInput(
        "copies of a healthy scan to judge",
        lambda f: evaluate({"a": detector()}, [], find_subjects(linked(f))),
        ValueError,
        (f"healthy: sub-a and sub-b {TWICE}",),
    ),
)
def test_one_scan_is_one_person(bad_input, tmp_path):
    bad_input.check(tmp_path)


TRAIN = [
    "train",
    "vae",
    "DATA",
    "--output",
    "OUT",
    "--image-shape",
    "24",
    "20",
    "--voxel-size",
    "4",
    "--channels",
    "4",
    "6",
    "--slices-seen",
    "4",
    "--batch-size",
    "2",
]


@listed("People", "a link and its target for a command", REFUSED, "are the same scan", kinds=5)
@pytest.mark.parametrize(
    "arguments",
    [
        ["calibrate", "DATA", "--prior", "PRIOR", "-o", "OUT"],
        ["evaluate", "DATA", "-o", "OUT", "--methods", "PRIOR:intensity:sign=1"],
        ["evaluate", "--healthy", "DATA", "-o", "OUT", "--methods", "PRIOR:intensity:sign=1"],
        ["evaluate", "--healthy", "OTHER", "--calibration", "DATA", "-o", "OUT", "--methods", "PRIOR:intensity:sign=1"],
        TRAIN,
    ],
    ids=" ".join,
)
def test_commands_name_the_scan_that_is_given_twice(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lc.save_model(tiny_vae(metadata=METADATA), "PRIOR", card="")
    write_healthy(tmp_path / "OTHER", range(5, 6))
    linked(tmp_path / "DATA")
    assert main(arguments) != 0
    assert re.search(f"sub-[ab] and sub-[ab] {TWICE}", capsys.readouterr().err)
    assert not (tmp_path / "OUT" / "model").exists()


@listed(
    "People",
    "a patient's scan among the healthy or those for thresholds",
    REFUSED,
    "is the scan of the patient",
    kinds=2,
)
def test_a_healthy_scan_is_no_patient_and_finds_no_threshold(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lc.save_model(tiny_vae(metadata=METADATA), "PRIOR", card="")
    write_patients(tmp_path / "patients", 1)
    for name in ("healthy", "calibration"):
        write_healthy(tmp_path / name, range(1))
        shutil.copy("patients/sub-p0/anat/sub-p0_T2w.nii", f"{name}/sub-h0_T2w.nii")
    line = ["evaluate", "patients", "-o", "OUT", "--methods", "PRIOR:intensity:sign=1"]
    assert main([*line, "--healthy", "healthy"]) == 2
    assert "--healthy: sub-h0 is the scan of the patient sub-p0, too" in capsys.readouterr().err
    assert main([*line, "--calibration", "calibration"]) == 2
    assert "--calibration: sub-h0 is among the scans to judge, too (as sub-p0)" in capsys.readouterr().err


@listed("People", "two visits of one person", WARNED, "2 scans of 1 people; each counts as a person")
def test_two_scans_of_one_person_are_remarked_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lc.save_model(tiny_vae(metadata=METADATA), "PRIOR", card="")
    for session in (1, 2):
        write(Path("DATA") / f"sub-a_ses-{session}_T2w.nii", scan(session))
    assert (
        main(
            [
                "calibrate",
                "DATA",
                "--prior",
                "PRIOR",
                "-o",
                "OUT",
                "--tv-weight",
                "1",
                "--smoothing",
                "0",
                "--steps",
                "2",
            ]
        )
        == 0
    )
    assert "warning: DATA: 2 scans of 1 person; each counts as a person" in capsys.readouterr().err


class TestContrast:
    """A scan of another contrast among the healthy, whose name does not tell it: its intensities do."""

    @staticmethod
    def scans(folder: Path, name: str, contrast: str) -> list[Any]:
        pytest.importorskip("SimpleITK")
        metadata = lc.load_prior("real-t1").metadata
        one = simulate(3, split="test", contrast=contrast, voxel_size=4.0)
        nib.save(nib.Nifti1Image(one.image, one.affine), folder / name)
        scan = prepare(folder / name, metadata, mask=one.brain_mask, to_template=np.eye(4))
        return list(healthy_scans([scan], metadata))

    @rows(
        "Contrasts of healthy scans",
        BadInput(
            "no contrast in the name",
            lambda f: TestContrast.scans(f, "brain.nii.gz", "T2w"),
            ValueError,
            (
                r"brain\.nii\.gz: its intensities fit T2w better than T1w, and its name tells no contrast",
                r"name it \.\.\._T1w\.nii\.gz",
            ),
        ),
        BadInput(
            "another contrast in the name",
            lambda f: TestContrast.scans(f, "sub-1_T1w.nii.gz", "T2w"),
            None,
            ("sub-1_T1w.nii.gz: its intensities fit T2w better than T1w; leave it out",),
        ),
        BadInput("the right contrast without a name", lambda f: TestContrast.scans(f, "brain.nii.gz", "T1w"), None),
    )
    def test_a_healthy_scan_is_of_the_priors_contrast(self, bad_input, tmp_path):
        bad_input.check(tmp_path)
