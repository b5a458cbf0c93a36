"""The paper's protocol as one switch: the same as its options, and nothing that contradicts it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.models import tiny_metadata, tiny_vae
from support.scans import AFFINE, VALUES

import lesioncore as lc
from lesioncore.cli import main

OPTIONS = lc.RestoreConfig(
    "paper",
    tv_dimensions=2,
    smoothing=0.0,
    standardize=False,
    spread_map=False,
    asymmetry=0.0,
    edge_preserving=False,
    sign=0,
)


def test_protocol_is_its_eight_options():
    assert lc.RestoreConfig(protocol="paper") == OPTIONS
    assert lc.RestoreConfig("paper", tv_dimensions=2, smoothing=0.0, standardize=False, protocol="paper") == OPTIONS
    config = lc.RestoreConfig(protocol="paper", tv_weight=2.0, tv="isotropic")
    assert config == replace(OPTIONS, tv_weight=2.0, tv="isotropic")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"solver": "em"}, "solver: 'em' contradicts protocol 'paper', which has 'paper'; leave one of them out"),
        ({"solver": lc.ProxSolver(steps=3)}, "solver: 'prox' contradicts protocol 'paper', which has 'paper'; leave"),
        (
            {"solver": lc.PaperSolver(steps=100, clip=9)},
            "solver: steps=100, clip=9 contradicts protocol 'paper', which has steps=500, clip=50.0; leave",
        ),
        ({"tv_dimensions": 3}, "tv_dimensions: 3 contradicts protocol 'paper', which has 2; leave one of them out"),
        ({"smoothing": 4.0}, "smoothing: 4.0 contradicts protocol 'paper', which has 0.0; leave one of them out"),
        (
            {"standardize": True},
            "standardize: True contradicts protocol 'paper', which has False; leave one of them out",
        ),
    ],
)
def test_what_contradicts_it_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        lc.RestoreConfig(protocol="paper", **options)


def test_other_protocols_there_are_not():
    with pytest.raises(ValueError, match=r"protocol: got 'pepper', expected one of \['paper'\] or None"):
        lc.RestoreConfig(protocol="pepper")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A scan, and an uncalibrated prior."""
    root = tmp_path_factory.mktemp("protocol")
    lc.save_model(tiny_vae(metadata=tiny_metadata()), root / "prior", card="For tests.\n")
    nib.save(nib.Nifti1Image(VALUES[:, :, 4:7].numpy(), AFFINE), root / "sub-01_T2w.nii.gz")
    return root


def restored(folder: Path, name: str, *options: str) -> tuple[np.ndarray, dict]:
    out = folder / name
    scan, prior = str(folder / "sub-01_T2w.nii.gz"), str(folder / "prior")
    assert main(["restore", scan, "-o", str(out), "--prior", prior, "--tv-weight", "1", *options]) == 0
    return (
        nib.load(out / "sub-01_desc-score_T2w.nii.gz").get_fdata(),
        json.loads((out / "sub-01_desc-restored_T2w.json").read_text()),
    )


def test_restore_with_it_is_restore_with_the_options(folder):
    score, sidecar = restored(folder, "switch", "--protocol", "paper")
    options = ("--solver", "paper", "--tv-dimensions", "2", "--smoothing", "0", "--standardize", "False")
    other, expected = restored(folder, "options", *options)
    assert np.array_equal(score, other)
    assert sidecar["Settings"] == expected["Settings"]
    assert sidecar["Settings"]["solver"]["steps"] == 500
    assert sidecar["Smoothing"] == 0
    assert not np.array_equal(score, restored(folder, "default")[0])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--solver prox", "solver: 'prox' contradicts protocol 'paper', which has 'paper'"),
        ("--steps 100", "--steps: 100 contradicts --protocol paper, which has 500"),
        ("--tv-dimensions 3", "tv_dimensions: 3 contradicts protocol 'paper', which has 2"),
        ("--smoothing 2", "smoothing: 2.0 contradicts protocol 'paper', which has 0.0"),
        ("--standardize True", "standardize: True contradicts protocol 'paper', which has False"),
        ("--sign -1", "sign: -1 contradicts protocol 'paper', which has 0"),
        ("--spread-map True", "spread_map: True contradicts protocol 'paper', which has False"),
        ("--asymmetry 0.5", "asymmetry: 0.5 contradicts protocol 'paper', which has 0.0"),
        ("--edge-preserving True", "edge_preserving: True contradicts protocol 'paper', which has False"),
    ],
)
def test_the_commands_refuse_what_contradicts_it(folder, option, says, capsys):
    for command in (["restore", "-o", str(folder / "never")], ["calibrate"]):
        scan, prior = str(folder / "sub-01_T2w.nii.gz"), str(folder / "prior")
        assert main([*command, scan, "--prior", prior, "--protocol", "paper", *option.split()]) == 2
        assert capsys.readouterr().err == f"error: {says}; leave one of them out\n"
    assert not (folder / "never").exists()


def test_calibrate_with_it_makes_thresholds_that_hold_for_it(folder, tmp_path, capsys):
    scan, prior = str(folder / "sub-01_T2w.nii.gz"), str(folder / "prior")
    command = ["calibrate", scan, "--prior", prior, "-o", str(tmp_path / "own"), "--tv-weight", "1", "--json"]
    assert main([*command, "--protocol", "paper"]) == 0
    assert json.loads(capsys.readouterr().out)["smoothing"] == 0
    own = lc.load_prior(tmp_path / "own")
    assert own.metadata.calibration.matches(OPTIONS.settings(), 1.0, 0.0)
    assert lc.RestoreConfig().for_prior(own).settings() == OPTIONS.settings()  # no switch is needed with this prior
