"""Runs that are killed, stopped, out of space or robbed of a scan: nothing is half there, and a second run finishes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.bad_input import REFUSED, TAKEN, listed
from support.command_line import json_of, scan

from lesioncore.cli import main

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "robustness" / "killed_runs.py"
ENDLESS = r"""
import sys
import time
import lesioncore.restoration.restore as room
from lesioncore.cli import main
def endless(*arguments, **options):
    sys.stdout.write("computing\n")  # in one piece, since the command writes from another thread
    sys.stdout.flush()
    time.sleep(600)
room.solve_stacks = endless
sys.exit(main(sys.argv[1:]))
"""
"""The command with a restoration that takes ten minutes."""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(not SCRIPT.exists(), reason="a source distribution has no benchmarks")
def test_nothing_is_lost_in_runs_that_end_badly(tmp_path):
    command = [sys.executable, str(SCRIPT), "--runs", "12", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "killed_runs.json").read_text())
    assert sum(row["disturbed"] for row in found["ends"]) >= 4
    assert found["lost"] == []


@listed(
    "Earlier results and disturbed runs",
    "SIGTERM or Ctrl-C",
    TAKEN,
    "ends within seconds, without a temporary file, and says how to go on",
)
def test_sigterm_ends_a_run_at_once_and_without_a_trace(tmp_path, prior):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    words = ["restore", str(path), "-o", str(out), "--prior", prior, "--no-report"]
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert "computing\n" in iter(process.stdout.readline, "")
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1]
    assert time.monotonic() - asked < 20
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "error: stopped; the same command with --resume goes on"
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob(".*"))
    assert main([*words, "--resume"]) == 0


@listed("Earlier results and disturbed runs", "a full disk", REFUSED, "all files of a scan are there, or none")
@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_all_or_nothing(tmp_path, prior, capsys, earlier):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    words = ["restore", str(path), "-o", str(out), "--prior", prior, "--json"]
    if earlier:
        assert main([*words, "--tv-weight", "2"]) == 0
    before = files(out) if earlier else {}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        capsys.readouterr()
        assert main([*words, "--overwrite"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in json_of(capsys)["failed"][0]["error"]
    assert files(out) == before
    assert main([*words, "--resume", "--overwrite"]) == 0
    assert len(files(out)) == 9


@listed(
    "Earlier results and disturbed runs",
    "a scan that vanishes during the run",
    REFUSED,
    "it fails alone, and is done when it is back",
)
def test_a_scan_that_vanishes_fails_alone_and_is_done_when_it_is_back(tmp_path, prior, capsys, monkeypatch):
    paths, out = [scan(tmp_path / f"sub-0{number}_T2w.nii.gz", number) for number in range(3)], tmp_path / "out"
    words = ["restore", *map(str, paths), "-o", str(out), "--prior", prior, "--json"]
    away = tmp_path / "away"

    def vanish(*arguments: object) -> None:
        paths[1].rename(away)

    # After the command has seen that it is there.
    monkeypatch.setattr("lesioncore.cli.engine_options.EngineOptions.check", vanish)
    assert main(words) == 3
    monkeypatch.undo()
    assert [one["input"] for one in json_of(capsys)["failed"]] == [str(paths[1])]
    assert len([name for name in files(out) if name.endswith(".json")]) == 2
    away.rename(paths[1])
    assert main([*words, "--resume"]) == 0
    assert ["kept" in one for one in json_of(capsys)["scans"]] == [True, False, True]


@listed(
    "Earlier results and disturbed runs",
    "an output folder that cannot be written",
    REFUSED,
    "--output: cannot write in",
)
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named_before_the_work(tmp_path, prior, capsys):
    (tmp_path / "out").mkdir(mode=0o555)
    path = scan(tmp_path / "sub-01_T2w.nii.gz")
    assert main(["restore", str(path), "-o", str(tmp_path / "out"), "--prior", prior]) == 1
    assert "out may not be written by you" in capsys.readouterr().err


@listed(
    "Empty words on a command line",
    "an empty INPUT or -o, or --mask or --healthy without a value",
    REFUSED,
    "got an empty text",
    "got no value",
    kinds=6,
)
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["restore", "", "-o", "OUT"], "an argument: got an empty text"),
        (["restore", "SCAN", "-o", ""], "-o: got an empty text"),
        (["restore", "SCAN", "--output="], "--output: got an empty text"),
        (["restore", "SCAN", "-o", "OUT", "--mask"], "--mask: got no value"),
        (["preprocess", "SCAN", "--mask", "-o", "OUT"], "--mask: got no value"),
        (["evaluate", "SCAN", "-o", "OUT", "--methods", "phantom-t2", "--healthy"], "--healthy: got no value"),
    ],
)
def test_a_variable_that_is_unset_is_not_the_working_folder(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    scan(tmp_path / "SCAN_T2w.nii.gz")
    assert main([word.replace("SCAN", "SCAN_T2w.nii.gz") for word in words]) == 2
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["SCAN_T2w.nii.gz"]
