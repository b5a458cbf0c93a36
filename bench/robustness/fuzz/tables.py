"""Tables and small JSON files that name scans and people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fuzz.target import Target
from lesioncore.bids_app.dataset import check_output, write_dataset_files
from lesioncore.bids_app.selection import read_filters
from lesioncore.cli.output import CommandError, UsageError
from lesioncore.data.names import contrast_of
from lesioncore.data.participants import participant_of
from lesioncore.datasets.catalogue import DATASETS
from lesioncore.datasets.people import read_tables
from lesioncore.evaluation.boxes import read_boxes
from lesioncore.subjects.sources import find_subjects

_RELEASES = tuple(
    replace(dataset, tables=(replace(table, name="table.csv"),))
    for dataset in DATASETS.values()
    for table in dataset.tables
)
"""Releases of one table each, under a name of its own."""


def _use(data: bytes, folder: Path) -> None:
    kind, content = (data[0] if data else 0) % 12, data[1:]
    for name in ("a_T2w.nii", "b_T2w.nii", "a_mask.nii", "sub-1_T2w.nii"):
        (folder / name).touch()

    def put(name: str) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    try:
        if kind < 3:
            subjects = find_subjects([put(("people.csv", "people.tsv", "people.txt")[kind])])
            assert subjects
            assert all(subject.scan.is_file() for subject in subjects)
        elif kind < 6:
            assert read_boxes(put(("boxes.csv", "boxes.tsv", "boxes.json")[kind - 3]))
        elif kind == 6:
            put("participants.tsv")
            assert isinstance(participant_of(folder / "sub-1_T2w.nii", "sub-1"), dict)
        elif kind == 7:
            find_subjects([f"{put('split.tsv')}:train"])
        elif kind == 8:
            put("dataset.json")
            contrast_of(folder / "case_1_0000.nii")
        elif kind == 9:
            read_filters(put("filters.json"))
        elif kind == 10:
            put("dataset_description.json")
            (folder / "out").mkdir()
            write_dataset_files(folder, folder / "out")
            check_output(folder)
        else:
            (folder / "table.csv").write_bytes(content[1:])
            read_tables(_RELEASES[(content[0] if content else 0) % len(_RELEASES)], [folder / "table.csv"])
    except (CommandError, UsageError) as error:  # the commands' own kinds, which they print as one line
        raise ValueError(str(error)) from error


def _seeds(folder: Path) -> list[bytes]:
    rows = "image{0}mask{0}lesion{0}excluded{0}subject\na_T2w.nii{0}a_mask.nii{0}{0}{0}one\nb_T2w.nii{0}{0}{0}{0}two\n"
    boxes = "participant_id{0}slice{0}x{0}y{0}z{0}width{0}height{0}depth{0}unit\n1{0}2{0}1{0}2{0}{0}3{0}4{0}{0}\n"
    texts = [
        rows.format(","),
        rows.format("\t"),
        "# scans\na_T2w.nii\nb_T2w.nii\n",
        boxes.format(",") + "2,,1,2,3,4,5,6,mm\n",
        boxes.format("\t"),
        '[{"participant_id": "1", "slice": 3, "x": 1, "y": 2, "width": 3, "height": 4}, {"participant_id": "sub-2"}]',
        "participant_id\tage\tsex\nsub-1\t31\tF\nsub-2\tn/a\tM\n",
        "participant_id\tsplit\nsub-1\ttrain\nsub-2\ttest\n",
        '{"channel_names": {"0": "T2", "1": "FLAIR"}}',
        '{"t1w": {"session": ["01", null], "run": "*", "acquisition": null}, "bold": {}}',
        '{"Name": "lesioncore", "BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": "lesioncore"}], "DatasetDOI": "x"}',
    ]
    seeds = [bytes([kind]) + text.encode() for kind, text in enumerate(texts)]
    seeds += [bytes([11, number]) + b"ID,age,sex,Subject,cdr\n1,30,1,a,0\n" for number in range(len(_RELEASES))]
    return seeds


TABLES = Target("tables", _use, _seeds, largest=8192)
