"""``restore`` on Ray and in parts: the results of one process."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
from support.command_line import json_of, scan

from lesioncore.cli import main


@pytest.fixture
def scans(tmp_path) -> list[str]:
    """Three scans in a folder."""
    (tmp_path / "raw").mkdir()
    return [str(scan(tmp_path / "raw" / f"sub-0{number}_T2w.nii.gz", number)) for number in range(3)]


def contents(folder):
    """Bytes of the files that do not tell how long something took."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_on_ray_the_results_are_the_same_and_failures_are_told(tmp_path, scans, prior, capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)  # paths may start from the working folder
    assert main(["restore", *scans, "-o", "local", "--prior", prior]) == 0
    (tmp_path / "raw" / "broken_T2w.nii.gz").write_bytes(b"no image")
    capsys.readouterr()
    words = ["restore", "raw", "-o", "ray", "--prior", prior, "--engine", "ray", "--actor-cores", "1", "--json"]
    assert main(words) == 3
    facts = json_of(capsys)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert [one["input"] for one in facts["scans"]] == [f"raw/sub-0{number}_T2w.nii.gz" for number in range(3)]
    (failure,) = facts["failed"]
    assert failure["input"] == "raw/broken_T2w.nii.gz"
    assert failure["error"].startswith("raw/broken_T2w.nii.gz: ")


def test_parts_have_each_scan_once_and_report_gathers_them(tmp_path, scans, prior, capsys):
    assert main(["restore", *scans, "-o", str(tmp_path / "whole"), "--prior", prior]) == 0
    words = ["restore", str(tmp_path / "raw"), "-o", str(tmp_path / "out"), "--prior", prior, "--json"]
    restored = []
    for part in range(4):
        capsys.readouterr()
        assert main([*words, "--num-parts", "4", "--part-id", str(part)]) == 0
        printed = capsys.readouterr()
        restored.append([one["input"] for one in json.loads(printed.out)["scans"]])
        assert f"part {part} of 4 (from 0): {len(restored[-1])} of 3 scans" in printed.err
        assert not (tmp_path / "out" / "volumes.tsv").exists()
    assert restored == [[scan] for scan in scans] + [[]]
    assert main(["report", str(tmp_path / "out")]) == 0  # the table, since there are no pages to gather
    assert "name the scans with --scans" in capsys.readouterr().err
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--num-parts", "0"], "--num-parts: got 0, expected 1 or more"),
        (["--num-parts", "3", "--part-id", "3"], "--part-id: got 3, expected 0 to 2, since --num-parts is 3"),
        (["--part-id", "-1"], "--part-id: got -1"),
        (["--workers", "-1"], "--workers: got -1, expected 0 or more"),
        (["--ray-address", "auto"], "--ray-address: is for --engine ray, got --engine local"),
        (["--actor-cores", "2"], "--actor-cores: is for --engine ray, got --engine local"),
    ],
)
def test_engine_options_that_cannot_be_are_named(scans, tmp_path, prior, capsys, options, says):
    assert main(["restore", *scans, "-o", str(tmp_path / "out"), "--prior", prior, *options]) == 2
    assert says in capsys.readouterr().err


def test_without_ray_the_extra_is_named(scans, tmp_path, prior, capsys, monkeypatch):
    monkeypatch.setattr("lesioncore.cohort.on_ray.find_spec", lambda name: None)
    assert main(["restore", *scans, "-o", str(tmp_path / "out"), "--prior", prior, "--engine", "ray"]) == 2
    assert "--engine: ray is not installed; pip install 'lesioncore[cluster]'" in capsys.readouterr().err
