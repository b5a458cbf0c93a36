"""``lesioncore import``."""

from __future__ import annotations

import json

import pytest
from support.releases import RELEASES

from lesioncore.cli import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a release, as the current one."""
    RELEASES["brats17"](tmp_path / "src")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_says_what_there_is(place, capsys):
    assert main(["import", "brats17", "src", "out", "--modality", "T2w"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "out: 3 people, scans: 3 T2w, masks: 3 label-lesion",
        "split.tsv, seed 0: 3 test",
        "left out: 3 files: FLAIR, not asked for (left_out.tsv)",
        "left out: 3 files: T1w, not asked for (left_out.tsv)",
        "left out: 3 files: T1ce, not asked for (left_out.tsv)",
    ]
    assert said.err.splitlines()[-1] == "warning: got 3 people, the paper has 285; its shares were kept"


def test_long_lists_are_cut_short(place, capsys):
    for path in (place / "src").rglob("*_seg.nii.gz"):
        path.unlink()
    for path in (place / "src").rglob("*_t1.nii.gz"):
        path.unlink()
    assert main(["import", "brats17", "src", "out"]) == 0
    said = capsys.readouterr().err
    assert "warning: sub-Brats17201321: no T1w\n" in said
    assert "warning: and 1 more, all of them in missing.tsv\n" in said


def test_programs_get_all_of_it(place, capsys):
    (next((place / "src").rglob("*_seg.nii.gz"))).unlink()
    assert main(["import", "brats17", "src", "out", "--json", "--seed", "4"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["people"], facts["seed"], facts["split"]) == (3, 4, {"test": 3})
    assert facts["scans"] == {"T1w": 3, "T2w": 3, "FLAIR": 3}
    assert [entry["what"] for entry in facts["missing"]] == ["no label-lesion mask"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["brats23", "src", "out"], 1, "look like those of: lesioncore import brats17"),
        (["brats17", "src", "src"], 1, "exists; choose another name"),
        (["brats17", "none", "out"], 1, "SRC: no such folder: none"),
        (["brats17", "src", "out", "--modality", "PDw"], 2, "--modality: got PDw, expected T1w, T2w, FLAIR, T1ce"),
        (["wmh", "src", "out", "--region", "core"], 2, "--region: got core, expected whole, which wmh has"),
        (["brats17", "src", "out", "--seed", "-1"], 2, "--seed: got -1"),
        (["brats99", "src", "out"], 2, "brats99"),
    ],
)
def test_what_cannot_be_done_is_one_line(place, capsys, arguments, code, message):
    assert main(["import", *arguments]) == code
    assert message in capsys.readouterr().err
    assert not (place / "out").exists()
