"""Commands with priors on the hub, which a stand-in plays."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support import hub as stand_in
from support.models import head, scan_values
from support.patients import write_healthy

import lesioncore as lc
from lesioncore.cli import main


@pytest.fixture
def hub(tmp_path, monkeypatch) -> stand_in.Hub:
    """The hub, with nothing on it."""
    return stand_in.install(monkeypatch, tmp_path / "cache")


def files_of(directory: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def test_restore_with_a_prior_on_the_hub(hub, prior, tmp_path, capsys):
    commit = hub.put("lab/prior", files_of(prior))
    scan = tmp_path / "sub-01_T2w.nii.gz"
    nib.save(nib.Nifti1Image(scan_values(head((22, 18, 11))).numpy(), np.diag([4.0, 4, 4, 1])), scan)
    command = ["restore", str(scan), "-o", str(tmp_path / "out"), "--prior", "hf://lab/prior"]
    assert main(command) == 0
    assert f"warning: hf://lab/prior: takes what main is now, commit {commit}" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "sub-01_desc-restored_T2w.json").read_text())
    assert record["PriorFingerprint"] == lc.load_prior(prior).metadata.fingerprint
    # The same files by another name are the same prior.
    assert main([*command[:-1], prior, "--resume", "--json"]) == 0
    assert "kept" in json.loads(capsys.readouterr().out)["scans"][0]
    assert main([*command[:-1], "hf://lab/other"]) == 1
    assert "error: --prior: got 'hf://lab/other', but the hub shows no" in capsys.readouterr().err


def test_calibrate_takes_one_commit_and_writes_a_copy(hub, prior, tmp_path, capsys):
    hub.put("lab/prior", files_of(prior))
    write_healthy(tmp_path / "healthy", range(2))
    command = ["calibrate", str(tmp_path / "healthy"), "--prior", "hf://lab/prior", "--tv-weight", "1"]
    assert main(command) == 2
    assert "--output: got none, but hf://lab/prior is on the hub, and cannot be changed" in capsys.readouterr().err
    assert hub.requests == []
    assert main([*command, "--smoothing", "2", "-o", str(tmp_path / "copy")]) == 0
    assert hub.requests == ["info", "download"]
    assert lc.load_prior(tmp_path / "copy").metadata.calibration.subjects == 2
    assert main([*command, "-o", str(tmp_path / "other"), "--prior", "hf://lab"]) == 1
    assert "error: --prior: got 'hf://lab', expected hf://owner/name" in capsys.readouterr().err


def test_push_and_its_dry_run(hub, prior, tmp_path, capsys):
    command = ["push", prior, "hf://lab/tiny", "--license", "cc-by-4.0"]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "license: cc-by-4.0\nlibrary_name: lesioncore" in said
    assert "model.safetensors" in said
    assert hub.requests == []
    assert main([*command, "--create", "--private", "--message", "First", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == f"hf://lab/tiny@{hub.branches['lab/tiny']['main']}"
    assert facts["files"]["config.json"] == (Path(prior) / "config.json").stat().st_size
    assert main([*command]) == 1
    assert "error: 'hf://lab/tiny' has README.md, calibration.json, config.json," in capsys.readouterr().err
    assert main([*command, "--private"]) == 2
    assert main(command[:3]) == 1
    assert "error: license: got none" in capsys.readouterr().err
