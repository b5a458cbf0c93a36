"""``lesioncore report``, and the reports that ``restore`` writes."""

from __future__ import annotations

import csv
import sys

import pytest
from support.command_line import json_of, scan

from lesioncore.cli import main
from lesioncore.report.page import read_summary

pytestmark = pytest.mark.reports


def test_restore_writes_a_page_for_each_scan_and_one_for_all(tmp_path, prior, capsys):
    paths, out = [scan(tmp_path / f"sub-0{i}_T2w.nii.gz", i) for i in (1, 2)], tmp_path / "out"
    command = ["restore", *map(str, paths), "-o", str(out), "--prior", prior]
    assert main(command) == 0
    said = capsys.readouterr().out
    pages = [out / f"sub-0{i}_desc-report_T2w.html" for i in (1, 2)]
    for page in pages:
        assert f"report: {page}" in said
        assert read_summary(page)["detected_ml"].keys() == {"1", "5", "10"}
    assert f"reports of all: {out / 'index.html'}" in said
    assert f"volumes of all: {out / 'volumes.tsv'}" in said
    with open(out / "volumes.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["scan"] for row in rows] == ["sub-01_T2w", "sub-02_T2w"]
    for row, page in zip(rows, pages, strict=True):
        summary = read_summary(page)
        assert float(row["brain_ml"]) == pytest.approx(summary["brain_ml"], abs=0.1)
        detected = [float(row[f"detected_fpr{limit}_ml"]) for limit in ("01", "05", "10")]
        assert detected == pytest.approx(list(summary["detected_ml"].values()), abs=0.01)
    assert main([*command, "--resume"]) == 0
    assert capsys.readouterr().out.count("finished before") == 2
    pages[0].unlink()
    whole = pages[1].read_bytes()
    pages[1].write_bytes(whole[: len(whole) // 2])
    scores = {path: path.stat().st_mtime_ns for path in out.glob("*score*")}
    assert main([*command, "--resume"]) == 0
    assert capsys.readouterr().out.count("finished before") == 2
    assert pages[0].exists()
    assert pages[1].read_bytes() == whole
    assert {path: path.stat().st_mtime_ns for path in out.glob("*score*")} == scores


def test_pages_and_tables_name_scans_as_their_files(tmp_path, prior, capsys):
    study, out = tmp_path / "study", tmp_path / "out"
    names = ["20190312_t2_tse_tra", "T2 (1)", "flat_t2"]
    for seed, name in enumerate(names):
        scan(study / f"{name}.nii.gz", seed)
    command = ["restore", str(study), "-o", str(out), "--prior", prior]
    assert main(command) == 0
    titles = ["20190312_t2_tse_tra_desc-report_T2w", "T2 (1)_desc-report_T2w", "flat_desc-report_t2"]
    pages = [out / f"{title}.html" for title in titles]
    assert [read_summary(page)["name"] for page in pages] == names
    with open(out / "volumes.tsv", newline="") as file:
        assert [row["scan"] for row in csv.DictReader(file, delimiter="\t")] == names
    group = (out / "index.html").read_text()
    assert all(f">{name}</a>" in group for name in names)
    capsys.readouterr()
    assert main([*command, "--resume"]) == 0
    assert capsys.readouterr().out.count("finished before") == 3


def test_reports_can_be_left_out_and_are_where_matplotlib_is_missing(tmp_path, prior, capsys, monkeypatch):
    path = scan(tmp_path / "sub-01_T2w.nii.gz")
    command = ["restore", str(path), "--prior", prior]
    assert main([*command, "-o", str(tmp_path / "a"), "--no-report"]) == 0
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*command, "-o", str(tmp_path / "b")]) == 0
    assert "no report is written: figures need matplotlib" in capsys.readouterr().err
    assert not [*tmp_path.rglob("*.html")]
    assert main(["report", str(tmp_path / "a"), "--scans", str(path)]) == 1
    assert "lesioncore[figures]" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "a")]) == 0
    assert "no page is written: figures need matplotlib" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "a").glob("*.tsv")] == ["volumes.tsv"]


def test_pages_of_saved_results(tmp_path, prior, capsys):
    path, out = scan(tmp_path / "scans" / "sub-01_T2w.nii.gz"), tmp_path / "out"
    assert main(["restore", str(path), "-o", str(out), "--prior", prior, "--no-report"]) == 0
    capsys.readouterr()
    page = out / "sub-01_desc-report_T2w.html"
    assert main(["report", str(out), "--scans", str(path.parent), "--prior", prior, "--json"]) == 0
    facts = json_of(capsys)
    assert facts["reports"] == [str(page)]
    assert facts["groups"] == [str(out / "index.html")]
    assert read_summary(page)["name"] == "sub-01_T2w"
    (out / "index.html").unlink()
    assert main(["report", str(out)]) == 0  # gathers what is there
    assert (out / "index.html").exists()


def test_what_cannot_be_reported_is_said(tmp_path, prior, capsys):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    assert main(["restore", str(path), "-o", str(out), "--prior", prior, "--no-report"]) == 0
    scan(path, 5)  # another one under its name
    (empty := tmp_path / "empty").mkdir()
    cases = [
        ([str(out), "--scans", str(path)], 1, "found no sub-01_T2w.nii.gz with the content that was restored"),
        ([str(empty)], 1, "holds no report and no results"),
        ([str(out), "--scans", str(tmp_path / "absent.nii")], 1, "--scans: "),
        ([str(tmp_path / "absent")], 1, "no such folder"),
        ([], 2, "RESULTS"),
    ]
    for arguments, code, says in cases:
        assert main(["report", *arguments]) == code
        assert says in capsys.readouterr().err
    assert not [*tmp_path.rglob("*.html")]
