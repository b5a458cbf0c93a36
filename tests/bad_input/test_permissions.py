"""Files and folders without permission: it is said, with the name, before any work is done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bad_input import REFUSED, listed
from support.damage import as_plain_user
from support.models import tiny_vae
from support.patients import scan, write, write_healthy
from support.scans import METADATA

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.data.nifti import load_image


@pytest.fixture
def folder(monkeypatch) -> Iterator[Path]:
    """A folder that others than its owner may enter, unlike `tmp_path`, with scans and a prior."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    monkeypatch.chdir(path)
    write_healthy(path / "DATA", range(2))
    lc.save_model(tiny_vae(metadata=METADATA), "prior", card="")
    (path / "closed").mkdir(mode=0o555)
    yield path
    shutil.rmtree(path)


@listed(
    "Rights", "an output that may not be written", REFUSED, "--output: cannot write in", "permission denied", kinds=4
)
@pytest.mark.parametrize(
    "line",
    [
        "restore DATA --prior prior --tv-weight 1 -o closed/out",
        "calibrate DATA --prior prior -o closed/out",
        "evaluate --healthy DATA --methods prior:intensity -o closed/out",
        "train vae DATA -o closed/out",
    ],
    ids=lambda line: line.split()[0],
)
def test_an_output_that_cannot_be_written(line, folder, capsys):
    with as_plain_user():
        assert main(line.split()) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: --output: got closed/out, but ")
    assert said.endswith("closed may not be written by you; choose a folder that you may write to")


@listed("Rights", "a prior's directory that may not be written, to calibrate", REFUSED, "--prior: cannot write in")
def test_a_prior_that_cannot_be_given_its_calibration(folder, capsys):
    (folder / "prior").chmod(0o555)
    with as_plain_user():
        assert main(["calibrate", "DATA", "--prior", "prior"]) == 2
    assert "error: --output: got none, but prior lies where you may not write" in capsys.readouterr().err


@listed("Rights", "a scan that may not be read", REFUSED, "permission denied", kinds=2)
@pytest.mark.parametrize("name", ["sub-h0_T2w.nii", "sub-h0_T2w.nii.gz"])
def test_a_scan_that_cannot_be_read(name, folder, capsys):
    path = write(folder / "DATA" / name, scan(0))
    with as_plain_user(path):
        with pytest.raises(PermissionError, match=name):
            load_image(path)
        for command in ("restore", "calibrate"):
            line = f"{command} {path} --prior prior --tv-weight 1 -o {tempfile.gettempdir()}/lesioncore-out"
            assert main(line.split()) == 1
            assert f"{path}: permission denied" in capsys.readouterr().err
