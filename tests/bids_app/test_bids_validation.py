"""The official validator on what the app reads and writes, and the app without it."""

from __future__ import annotations

import sys

import pytest
from support.bids import write_bids

from lesioncore.bids_app import main, validation
from lesioncore.bids_app.validation import VALIDATOR, find_validator, issues_of

needs_validator = pytest.mark.skipif(find_validator() is None, reason=f"{VALIDATOR} is not installed")


@needs_validator
def test_what_is_read_and_written_is_valid(tmp_path, registering):
    dataset = write_bids(tmp_path / "raw", "sub-01_ses-1_T1w", "sub-01_ses-1_T2w", "sub-02_acq-x_run-1_FLAIR")
    out = tmp_path / "out"
    for level in ("participant", "group"):
        assert main([str(dataset), str(out), level, "--prior", registering]) == 0
    for page in ("sub-01.html", "group.html"):  # what others may put beside
        (out / page).touch()
    assert len(list(out.rglob("*_space-*.nii.gz"))) == 12
    assert [issue for issue in issues_of(dataset, find_validator()) if issue["severity"] == "error"] == []
    assert {issue["code"] for issue in issues_of(out, find_validator())} == {"TOO_FEW_AUTHORS"}


@needs_validator
def test_invalid_datasets_are_refused_with_their_problems(tmp_path, priors, capsys):
    dataset, out = write_bids(tmp_path / "raw", "sub-01_T1w"), tmp_path / "out"
    (dataset / "dataset_description.json").write_text('{"Name": "x"}')
    (dataset / "sub-01" / "anat" / "sub-01_T9w.nii.gz").touch()
    assert main([str(dataset), str(out), "participant"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "JSON_KEY_REQUIRED BIDSVersion in /dataset_description.json" in line
    assert "/sub-01/anat/sub-01_T9w.nii.gz" in line
    assert "--skip-bids-validation" in line
    assert not out.exists()
    assert main([str(dataset), str(out), "participant", "--skip-bids-validation"]) == 0


def test_without_the_validator_the_app_says_so_and_goes_on(tmp_path, priors, capsys, monkeypatch):
    monkeypatch.setattr(validation, "find_validator", lambda: None)
    dataset = write_bids(tmp_path / "raw", "sub-01_T1w")
    assert main([str(dataset), str(tmp_path / "out"), "participant"]) == 0
    assert "the dataset is not validated: bids-validator-deno is not installed" in capsys.readouterr().err


def test_a_validator_that_fails_is_no_verdict(tmp_path, priors, capsys, monkeypatch):
    broken = tmp_path / "validator"
    broken.write_text(f"#!{sys.executable}\nraise SystemExit('no memory')\n")
    broken.chmod(0o755)
    monkeypatch.setattr(validation, "find_validator", lambda: str(broken))
    dataset = write_bids(tmp_path / "raw", "sub-01_T1w")
    assert main([str(dataset), str(tmp_path / "out"), "participant"]) == 1
    assert "ended with 1 and said 'no memory'" in capsys.readouterr().err
