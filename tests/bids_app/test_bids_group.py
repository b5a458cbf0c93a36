"""The group level: tables of what the sidecars say."""

from __future__ import annotations

import json

import pytest
from support.bids import write_bids

from lesioncore.bids_app import main
from lesioncore.report.page import read_summary

LIMITS = ("fpr01", "fpr05", "fpr10")


@pytest.fixture
def restored(tmp_path, priors):
    scans = ("sub-10_T1w", "sub-10_T2w", "sub-02_ses-b_T1w", "sub-02_ses-a_run-2_T1w", "sub-02_ses-a_run-1_T1w")
    dataset, out = write_bids(tmp_path / "raw", *scans), tmp_path / "out"
    assert main([str(dataset), str(out), "participant", "--skip-bids-validation"]) == 0
    return dataset, out


def table(path):
    head, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.reports
def test_tables_are_of_the_sidecars(restored, capsys):
    dataset, out = restored
    command = [str(dataset), str(out), "group"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert "T1w: 4 scans of 2 people" in captured.err
    assert len(json.loads(captured.out)["volumes"]) == 5
    rows = table(out / "volumes.tsv")
    assert [(row["participant_id"], row["session_id"], row["contrast"]) for row in rows] == [
        *[("sub-02", "ses-a", "T1w")] * 2,
        ("sub-02", "ses-b", "T1w"),
        ("sub-10", "n/a", "T1w"),
        ("sub-10", "n/a", "T2w"),
    ]
    assert [row["scan"] for row in rows[:2]] == [
        f"sub-02/ses-a/anat/sub-02_ses-a_run-{run}_T1w.nii.gz" for run in (1, 2)
    ]
    facts = json.loads((out / "sub-10" / "anat" / "sub-10_desc-restored_T2w.json").read_text())
    assert float(rows[-1]["brain_ml"]) == facts["BrainMillilitres"] > 0
    detected = [float(rows[-1][f"detected_{limit}_ml"]) for limit in LIMITS]
    assert detected == list(facts["DetectedMillilitres"].values())
    page = out / "sub-10" / "anat" / "sub-10_desc-report_T2w.html"
    assert rows[-1]["candidates"] == str(read_summary(page)["candidates"])
    assert (out / "group.html").read_text().count('<a href="sub-') == 2 * len(rows)  # picture and name
    assert (rows[-1]["prior"], rows[-1]["remarks"]) == ("tiny-T2w", str(len(facts["Remarks"])))
    assert {row["contrast"]: row["scans"] for row in table(out / "summary.tsv")} == {"T1w": "4", "T2w": "1"}
    for name in ("volumes", "summary"):
        columns = json.loads((out / f"{name}.json").read_text())
        assert list(columns) == list(table(out / f"{name}.tsv")[0])
        assert all(column["Description"] for column in columns.values())
    before = {path: path.read_bytes() for path in out.glob("*.tsv")}
    assert main(command) == 0
    assert {path: path.read_bytes() for path in out.glob("*.tsv")} == before


def test_labels_choose_rows(restored, capsys):
    dataset, out = restored
    command = [str(dataset), str(out), "group"]
    assert main([*command, "--participant-label", "sub-10", "--modalities", "T2w"]) == 0
    assert [row["scan"] for row in table(out / "volumes.tsv")] == ["sub-10/anat/sub-10_T2w.nii.gz"]
    assert main([*command, "--session-label", "c"]) == 2
    assert "--session-label: got c, expected some of the dataset's: a, b" in capsys.readouterr().err


def test_results_that_are_not_complete_are_left_out_and_named(restored, capsys):
    dataset, out = restored
    (out / "sub-10" / "anat" / "sub-10_desc-score_T1w.nii.gz").unlink()
    (out / "sub-10" / "anat" / "sub-10_desc-restored_T2w.json").write_text("{}")
    assert main([str(dataset), str(out), "group"]) == 3
    said = capsys.readouterr().err
    missing = "sub-10_desc-restored_T1w.json: is not complete (sub-10_desc-score_T1w.nii.gz is missing); run the"
    assert missing in said
    assert "sub-10_desc-restored_T2w.json: is not complete (lacks Source" in said
    assert len(table(out / "volumes.tsv")) == 3


def test_volumes_without_thresholds_are_not_available(tmp_path, priors):
    dataset, out = write_bids(tmp_path / "raw", "sub-01_T1w"), tmp_path / "out"
    assert main([str(dataset), str(out), "participant", "--skip-bids-validation"]) == 0
    path = out / "sub-01" / "anat" / "sub-01_desc-restored_T1w.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "DetectedMillilitres": None}))
    assert main([str(dataset), str(out), "group"]) == 0
    (row,) = table(out / "volumes.tsv")
    assert {row[f"detected_{limit}_ml"] for limit in LIMITS} == {"n/a"}
    assert table(out / "summary.tsv")[0]["median_detected_fpr05_ml"] == "n/a"
