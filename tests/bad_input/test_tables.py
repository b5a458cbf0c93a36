"""Tables and small JSON files that are damaged: each is one error that names the file."""

from __future__ import annotations

import json

from support.bad_input import BadInput, rows

from lesioncore.bids_app.dataset import check_output, write_dataset_files
from lesioncore.bids_app.selection import read_filters
from lesioncore.cli.output import CommandError, UsageError
from lesioncore.data.names import contrast_of
from lesioncore.data.participants import participant_of
from lesioncore.evaluation.boxes import read_boxes
from lesioncore.subjects import find_subjects

LATIN = "participant_id\tsplit\tname\nsub-1\ttrain\tMüller\n".encode("latin1")
LONG = b"participant_id\tsplit\nsub-1\t" + b"x" * 200_000
DEEP = b"[" * 100_000

READERS = {
    "participants.tsv": lambda path: participant_of(path.parent / "sub-1_T2w.nii", "sub-1"),
    "split.tsv": lambda path: find_subjects([f"{path}:train"]),
    "boxes.tsv": read_boxes,
    "people.tsv": lambda path: find_subjects([path]),
}


def table(name: str, file: str, content: bytes, *says: str) -> BadInput:
    def use(folder):
        (folder / file).write_bytes(content)
        READERS[file](folder / file)

    return BadInput(f"{file} {name}", use, ValueError, (rf"/{file}: ", *says))


@rows(
    "Tables and filters",
    *(table("in Latin-1", file, LATIN, "no text in UTF-8") for file in READERS),
    *(table("with an endless cell", file, LONG, "field larger than") for file in READERS if file != "people.tsv"),
)
def test_a_table_that_is_none_is_named(bad_input, tmp_path):
    bad_input.check(tmp_path)


def twice(folder):
    (folder / "a_T2w.nii").touch()
    (folder / "people.csv").write_text("image\na_T2w.nii\na_T2w.nii\n")
    find_subjects([folder / "people.csv"])


def with_a_zero(folder):
    (folder / "people.txt").write_text("a\0_T2w.nii\n")
    find_subjects([folder / "people.txt"])


def filters(content: bytes):
    def use(folder):
        (folder / "filters.json").write_bytes(content)
        read_filters(folder / "filters.json")

    return use


def output_of_others(folder):
    (folder / "dataset_description.json").write_bytes(DEEP)
    check_output(folder)


def boxes(folder):
    (folder / "boxes.json").write_bytes(DEEP)
    read_boxes(folder / "boxes.json")


@rows(
    "Tables and filters",
    BadInput("a scan twice in a table", twice, ValueError, (r"is named twice \(.*a_T2w.nii\)",)),
    BadInput("a zero byte in a list", with_a_zero, ValueError, ("people.txt, line 1: got a",)),
    BadInput("filters that are nested deeply", filters(DEEP), UsageError, ("filters.json: is nested too deeply",)),
    BadInput(
        "filters of an unknown entity",
        filters(b'{"t1w": {"colour": 1}}'),
        UsageError,
        (r"filters.json: t1w: got colour",),
    ),
    BadInput("an output whose description is nested deeply", output_of_others, CommandError, ("did not make",)),
    BadInput("boxes that are nested deeply", boxes, ValueError, ("boxes.json: is no JSON",)),
)
def test_json_and_names_that_cannot_be_used_are_told(bad_input, tmp_path):
    bad_input.check(tmp_path)


def test_descriptions_beside_scans_that_cannot_be_read_tell_nothing(tmp_path):
    (tmp_path / "dataset.json").write_bytes(DEEP)
    assert contrast_of(tmp_path / "case_1_0000.nii") is None
    (tmp_path / "dataset_description.json").write_bytes(DEEP)
    write_dataset_files(tmp_path, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["DatasetType"] == "derivative"
