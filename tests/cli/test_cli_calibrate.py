"""``lesioncore calibrate``: from a folder of healthy scans to a prior with thresholds that hold on them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.models import head, scan_values, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.data.roots import ROOTS

SHAPE = (22, 18, 11)
BRAIN = head(SHAPE)
OPTIONS = ("--steps", "2", "--device", "cpu")

pytestmark = pytest.mark.filterwarnings("ignore:tv_weights. the best:UserWarning")


@pytest.fixture
def prior(tmp_path) -> Path:
    return lc.save_model(tiny_vae(metadata=tiny_metadata()), tmp_path / "prior", card="of a test")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("healthy")
    for i in range(3):
        path = root / f"sub-{i:02d}" / "anat" / f"sub-{i:02d}_T2w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(scan_values(BRAIN, seed=i).numpy(), np.diag([4.0, 4, 4, 1])), path)
    return root


def run(*words: object) -> int:
    return main(["calibrate", *map(str, words)])


def test_a_copy_restores_with_thresholds_that_hold(prior, healthy, tmp_path, capsys):
    words = (healthy, "--prior", prior, "-o", tmp_path / "new", "--tv-weights", 0.5, 1, 2, *OPTIONS, "--json")
    assert run(*words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert sorted({row["tv_weight"] for row in facts["curve"]}) == [0.5, 1, 2]
    best = max(facts["curve"], key=lambda row: row["implant_auc"])
    assert (facts["tv_weight"], facts["smoothing"]) == (best["tv_weight"], best["smoothing"])
    calibrated = lc.load_prior(tmp_path / "new")
    assert calibrated.metadata.calibration.threshold(0.05) == facts["thresholds"]["0.05"]
    config = lc.RestoreConfig(lc.EMSolver(steps=2))
    found = [lc.restore(path, calibrated, config=config) for path in sorted(healthy.rglob("*.nii.gz"))]
    inside = np.concatenate([result.mask(0.05).get_fdata()[BRAIN.numpy()] for result in found])
    assert (facts["subjects"], facts["pixels"]) == (3, len(inside))
    assert 0 < inside.mean() <= 0.05
    assert not (prior / "calibration.json").exists()
    card = (tmp_path / "new" / "README.md").read_text()
    assert card.startswith("of a test\n")
    assert "from 3 other healthy people" in card
    assert (prior / "README.md").read_text() == "of a test"
    assert run(*words) == 1
    assert "choose another --output" in capsys.readouterr().err


def test_few_people_are_remarked_on(prior, healthy, capsys, monkeypatch):
    words = (healthy, "--prior", prior, "--tv-weight", 1.5, "--smoothing", 3, *OPTIONS)
    assert run(*words) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: DATA: 3 healthy people are few: scans unlike")
    assert "remarked on from 8 on" in warning
    assert "(mask(risk=0.05)) takes 19" in warning
    monkeypatch.setattr("lesioncore.calibration.healthy.FEWEST_TO_COMPARE", 3)
    assert run(*words) == 0
    assert capsys.readouterr().err == ""


def test_without_output_the_prior_itself_is_changed(prior, healthy, capsys):
    before = (prior / "model.safetensors").read_bytes()
    assert run(healthy, "--prior", prior, "--tv-weight", 1.5, "--smoothing", 3, *OPTIONS) == 0
    assert "data-consistency weight 1.5, smoothing 3 mm (given)" in capsys.readouterr().out
    assert lc.load_prior(prior).metadata.calibration.tv_weight == 1.5
    assert (prior / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in prior.parent.iterdir()) == ["prior"]


def test_the_papers_criterion(prior, healthy, tmp_path, capsys):
    words = ("--solver", "paper", "--steps", 3, "--tv-weights", 0.5, 1)
    assert run(healthy, "--prior", prior, "-o", tmp_path / "new", *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["criterion"] == "change"


def test_what_cannot_be_is_said(prior, healthy, tmp_path, capsys, monkeypatch):
    assert run("--prior", prior) == 2
    assert "healthy people" in capsys.readouterr().err
    assert run(healthy, "--prior", "phantom-t2", "--tv-weight", 1, *OPTIONS) == 2
    assert "stays; name a folder" in capsys.readouterr().err
    with pytest.raises(ValueError, match="stays; name a folder"):
        lc.save_calibration("phantom-t2", lc.load_prior("phantom-t2").metadata.calibration)
    mask = tmp_path / "lesion.nii.gz"
    scan = next(iter(sorted(healthy.rglob("*.nii.gz"))))
    nib.save(nib.Nifti1Image(BRAIN.numpy().astype(np.uint8), np.diag([4.0, 4, 4, 1])), mask)
    table = tmp_path / "table.csv"
    table.write_text(f"image,lesion\n{scan},{mask}\n")
    assert run(table, "--prior", prior, *OPTIONS) == 1
    assert f"name the folder: {ROOTS}={healthy}" in capsys.readouterr().err
    monkeypatch.setenv(ROOTS, str(healthy))
    assert run(table, "--prior", prior, *OPTIONS) == 1
    assert "given as healthy, but its lesion mask is not empty" in capsys.readouterr().err
    assert run(healthy, "--prior", prior, "--kl-weight", 2, "--solver", "em") == 2
    assert "kl_weight" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_found_first(prior, healthy, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("lesioncore.cli.calibrate.open_prior", lambda name: pytest.fail("too late"))
    assert run(healthy, "--prior", prior, "-o", tmp_path / "file" / "new", *OPTIONS) == 1
    assert capsys.readouterr().err == (
        f"error: --output: cannot write in {tmp_path / 'file'} (not a directory); choose another folder\n"
    )
