"""Tables of people, and the paper's split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.releases import RELEASES

from lesioncore.datasets import DATASETS, import_dataset
from lesioncore.datasets.description import PaperSplit
from lesioncore.datasets.people import read_tables, split

PEOPLE = [f"sub-CC{number}" for number in range(110000, 110652)]
CAMCAN = DATASETS["camcan"].split
IXI = DATASETS["ixi"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("camcan", {"train": 600, "validation": 52}),
        ("brats17", {"test": 285}),
        ("atlas-1.2", {"test": 220}),
        ("atlas-1.2-native", {"test": 220}),
    ],
)
def test_splits_are_the_papers(name, expected):
    paper = DATASETS[name].split
    assert Counter(split(PEOPLE[: paper.people], paper, 0).values()) == expected


def test_only_the_papers_data_sets_have_a_split():
    assert {name for name, data in DATASETS.items() if data.split} == {
        "camcan",
        "brats17",
        "atlas-1.2",
        "atlas-1.2-native",
    }


def test_a_seed_gives_the_same_split_whatever_the_order():
    first = split(PEOPLE, CAMCAN, 3)
    assert split(PEOPLE[::-1], CAMCAN, 3) == first
    assert split(PEOPLE, CAMCAN, 4) != first
    # Written down, so that a change of the draw is seen.
    validation = [name for name, kind in split(PEOPLE, CAMCAN, 0).items() if kind == "validation"]
    assert validation[:3] == ["sub-CC110015", "sub-CC110016", "sub-CC110023"]


def test_other_numbers_of_people_keep_the_shares():
    assert Counter(split(PEOPLE[:326], CAMCAN, 0).values()) == {"train": 300, "validation": 26}
    paper = PaperSplit(train=5, validation=2, test=3)
    assert Counter(split(PEOPLE[:10], paper, 0).values()) == {"train": 5, "validation": 2, "test": 3}


def test_the_split_is_written(tmp_path):
    RELEASES["brats17"](tmp_path / "src")
    imported = import_dataset(DATASETS["brats17"], tmp_path / "src", tmp_path / "out")
    lines = (tmp_path / "out" / "split.tsv").read_text().splitlines()
    assert lines[:2] == ["participant_id\tsplit", "sub-Brats17201321\ttest"]
    assert imported.splits == {"test": 3}
    assert imported.remarks == ["got 3 people, the paper has 285; its shares were kept"]


def written(tmp_path: Path, text: str, name: str = "IXI.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_may_have_other_delimiters(tmp_path, delimiter):
    path = written(tmp_path, "\ufeffixi_id,Sex_ID,AGE\n7,2,\n\n".replace(",", delimiter), "ixi.CSV")
    assert read_tables(IXI, [path]) == ({"ixi007": {"sex": "F"}}, [])


def test_what_is_told_in_two_ways_is_unknown(tmp_path):
    rows = "IXI_ID,SEX_ID,AGE\n7,2,30\n7,,31\n7,2,32\n8,,\n8,1,40\n"
    people, remarks = read_tables(IXI, [written(tmp_path, rows)])
    assert people == {"ixi007": {"sex": "F"}, "ixi008": {"sex": "M", "age": "40"}}
    assert remarks == ["IXI.csv: ixi007 has the age 30 and 31 and 32; taken as unknown"]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("name,age\n1,2\n", "got the columns name, age, expected IXI_ID"),
        ("", "got the columns none, expected IXI_ID"),
        ("IXI_ID,AGE\n1,2,3\n", "got 3 cells in a row, 1,2,3, expected 2"),
        ('IXI_ID,AGE\n"1,2\n', "unexpected end of data"),
    ],
)
def test_tables_that_cannot_be_read_are_named(tmp_path, text, remark):
    people, (found,) = read_tables(IXI, [written(tmp_path, text)])
    assert people == {}
    assert found == f"IXI.csv: no table that can be read: {remark}"


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "IXI.csv"
    path.write_bytes(b"IXI_ID,AGE\n\xff\xfe,1\n")
    assert "no table that can be read" in read_tables(IXI, [path])[1][0]
