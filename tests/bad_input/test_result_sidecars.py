"""Sidecars of results that were changed, and reports: each is one error that names the file and the place in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bad_input import BadInput, rows
from support.damage import put, without
from support.reports import saved

from lesioncore.data.files import difference
from lesioncore.report.group import write_group_page
from lesioncore.report.page import is_whole, read_summary
from lesioncore.report.saved import read_sidecar
from lesioncore.report.table import write_volumes

NAME = "sub-01_desc-restored_T2w.json"
MASK = "sub-01_desc-brainT2w_mask.nii.gz"
STRANGE = {"a list": [[]], "an object": {"strange": 1}, "true": True, "beyond all numbers": 10**400}
FIELDS = (
    *("GeneratedBy", "GeneratedBy.Version", "GeneratedBy.torch", "Source", "Prior", "PriorFingerprint", "Contrast"),
    *("Settings", "Settings.solver", "Settings.solver.name", "Settings.solver.steps", "Settings.tv", "Settings.latent"),
    *("TVWeight", "Smoothing", "Thresholds", "BrainMillilitres", "DetectedMillilitres", "Remarks", "Preprocessing"),
    f"Files.{MASK}",
)


@pytest.fixture(scope="module")
def sidecar_text(tmp_path_factory) -> str:
    return saved(tmp_path_factory.mktemp("sound"))[0].read_text()


def changed(name: str, damage: Any, *says: str, kind: str | None = None) -> BadInput:
    def use(folder: Path) -> None:
        damage(folder)
        read_sidecar(folder / NAME)

    return BadInput(name, use, ValueError, (rf"/{NAME}: ", "restore the scan again", *says), kind)


def field(place: str, value: Any) -> Any:
    """Put a value at a place whose keys may have points."""

    def damage(folder: Path) -> None:
        values = json.loads((folder / NAME).read_text())
        inner = values
        *path, last = place.split(".", 1) if place.startswith("Files.") else place.split(".")
        for key in path:
            inner = inner[key]
        inner[last] = value
        (folder / NAME).write_text(json.dumps(values))

    return damage


def wrong_types() -> Iterator[BadInput]:
    for place in FIELDS:
        for kind, value in STRANGE.items():
            named = f"{place} is {kind}"
            yield changed(named, field(place, value), place.split(".")[0], kind="a field of another type")


ELSEWHERE = {"../a.nii.gz": {"Bytes": 1, "SHA256": ""}}
STEP = {"name": "extract", "seconds": 1.0, "figures": {"input": "head", "brain_ml": 1200.0, "confidence": 0.98}}


@rows(
    "Saved results",
    *wrong_types(),
    changed("is nested deeply", lambda folder: (folder / NAME).write_bytes(b"[" * 10**5) and None, "nested too deeply"),
    changed("has no version", put(NAME, "GeneratedBy", {"torch": "2"}), "GeneratedBy.Version: is missing"),
    changed("has no smoothing", without(NAME, "Smoothing"), "Smoothing: is missing"),
    changed("has a word as limit", put(NAME, "Thresholds", {"often": 1.0}), "Thresholds: got 'often'"),
    changed("has a file without hash", field(f"Files.{MASK}", {"Bytes": 3}), "SHA256: is missing"),
    changed("has a file without size", field(f"Files.{MASK}", {"SHA256": ""}), "Bytes: is missing"),
    changed("has files elsewhere", put(NAME, "Files", ELSEWHERE), "in other folders"),
    changed("has a matrix of two rows", put(NAME, "ToTemplate", [[1.0], [2.0]]), "ToTemplate"),
    changed("has a sign that is none", field("Settings.sign", []), "Settings.sign: got"),
    changed("has an asymmetry in words", field("Settings.asymmetry", "half"), "Settings.asymmetry: got 'half'"),
    changed("has a step without figures", put(NAME, "Preprocessing", [{**STEP, "figures": {}}]), "confidence"),
    changed("has a step without a name", put(NAME, "Preprocessing", [{"figures": {}}]), r"\[0\].name: is missing"),
    changed("has a step that is a word", put(NAME, "Preprocessing", ["extract"]), r"Preprocessing\[0\]: got"),
)
def test_a_sidecar_that_was_changed_is_refused(bad_input, tmp_path, sidecar_text):
    (tmp_path / NAME).write_text(sidecar_text)
    bad_input.check(tmp_path)


def test_what_is_sound_is_taken(tmp_path, sidecar_text):
    (tmp_path / NAME).write_text(sidecar_text)
    field("Preprocessing", [STEP, {"name": "step of a newer version", "figures": {}}])(tmp_path)
    field("OfANewerVersion", 1)(tmp_path)
    read_sidecar(tmp_path / NAME)
    assert write_volumes(tmp_path).read_text().splitlines()[1].startswith("sub-01_T2w\tT2w\ttiny\t")


@pytest.mark.parametrize("listed", [{"a": 1}, {"a": {}}, {"a": {"Bytes": 1}}, {"../a": {"Bytes": 1, "SHA256": ""}}])
def test_a_file_that_is_listed_without_its_hash_is_not_the_one_that_was_written(tmp_path, listed):
    (tmp_path / "a").write_text("1")
    assert difference(tmp_path, listed) is not None


SUMMARY = {
    "name": "a",
    "prior": "tiny",
    "contrast": "T2w",
    "version": "1",
    "brain_ml": 1200.0,
    "detected_ml": {"1": 3.0},
    "allowed_ml": {"1": 12.0},
    "candidates": 0,
    "not_valid": None,
    "first": None,
    "largest_ml": None,
    "remarks": [],
    "thumbnail": "",
}


def report(folder: Path, name: str, summary: str) -> Path:
    page = folder / name
    page.write_text(f'<script type="application/json" id="summary">{summary}</script></html>')
    return page


@pytest.mark.parametrize(
    "summary",
    [
        "{ }",
        '{"name": }',
        '{"a": ' + "[" * 10**5 + "}",
        *(json.dumps({**SUMMARY, key: [[]]}) for key in SUMMARY),
        json.dumps({**SUMMARY, "detected_ml": {"often": 1.0}}),
    ],
)
def test_a_damaged_report_is_none_and_the_page_of_all_is_written_without_it(tmp_path, summary):
    sound, damaged = report(tmp_path, "a.html", json.dumps(SUMMARY)), report(tmp_path, "b.html", summary)
    assert is_whole(sound)
    assert not is_whole(damaged)
    assert read_summary(damaged) is None
    page = write_group_page(tmp_path)
    assert "a.html" in page.read_text()
    assert "b.html" not in page.read_text()
