"""What a release tells of its people, and the paper's split of them."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lesioncore.data.text_files import read_text
from lesioncore.datasets.description import Dataset, PaperSplit, Table

COLUMNS: dict[str, dict[str, object]] = {
    "participant_id": {"Description": "Person"},
    "source_id": {"Description": "Name of the person in the release"},
    "age": {"Description": "Age as the release gives it; of several visits, at the first", "Units": "year"},
    "sex": {"Description": "Sex as the release gives it", "Levels": {"M": "male", "F": "female"}},
    "grade": {
        "Description": "Grade of the tumour",
        "Levels": {"HGG": "high-grade glioma", "LGG": "low-grade glioma"},
    },
    "site": {"Description": "Where the person was scanned, as the release names it"},
    "part": {"Description": "Part of the release, such as its own training or test set"},
    "cdr": {"Description": "Clinical Dementia Rating; 0 is no dementia"},
}
"""Columns of ``participants.tsv``, in their order, as ``participants.json`` describes them."""


def read_tables(dataset: Dataset, paths: Iterable[Path]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Read the tables of people.

    Parameters
    ----------
    dataset : Dataset
        Says how they are read.
    paths : iterable of Path
        The tables that were found. The first one that tells a person's value is believed.

    Returns
    -------
    people : dict of str to dict of str to str
        Values by column, by the subject in lower case.
    remarks : list of str
        Tables that could not be read, and what a table tells in two ways.
    """
    people: dict[str, dict[str, str]] = {}
    remarks: list[str] = []
    for path in paths:
        for table in dataset.tables:
            if re.fullmatch(table.name, path.name, re.IGNORECASE):
                try:
                    found = _read(table, path, remarks)
                except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
                    remarks.append(f"{path.name}: no table that can be read: {error}")
                    continue
                for subject, values in found.items():
                    people[subject] = values | people.get(subject, {})
    return people, remarks


def split(people: Sequence[str], paper: PaperSplit, seed: int) -> dict[str, str]:
    """Divide people as the paper did: as many of each kind, where there are as many people.

    Who is drawn follows from the seed and the person's own name. Of another number of people the shares are the same.

    Parameters
    ----------
    people : sequence of str
        Their names, each once.
    paper : PaperSplit
        The numbers.
    seed : int
        Of the draw.

    Returns
    -------
    dict of str to str
        ``train``, ``validation`` or ``test`` by name.
    """
    drawn = sorted(people, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    ends = [
        round(len(people) * number / paper.people)
        for number in (paper.validation, paper.validation + paper.test, paper.people)
    ]
    kinds: dict[str, str] = {}
    for kind, start, end in zip(("validation", "test", "train"), [0, *ends], ends, strict=False):
        kinds |= dict.fromkeys(drawn[start:end], kind)
    return {name: kinds[name] for name in people}


def _read(table: Table, path: Path, remarks: list[str]) -> dict[str, dict[str, str]]:
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    header = [cell.strip() for cell in rows[0]] if rows else []
    subject = _column(table.subject, header)
    if subject is None:
        raise ValueError(f"got the columns {', '.join(header) or 'none'}, expected {table.subject}")
    places = {name: place for name, wanted in table.columns.items() if (place := _column(wanted, header)) is not None}
    told: dict[str, dict[str, list[str]]] = {}
    for row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"got {len(row)} cells in a row, {','.join(row)}, expected {len(header)}")
        cells = [cell.strip() for cell in row]
        if not cells[subject]:
            continue
        values = told.setdefault(table.key(cells[subject]).lower(), {})
        for name, place in places.items():
            value = _value(table, name, cells[place])
            if value != "n/a" and value not in values.setdefault(name, []):
                values[name].append(value)
    for person, values in told.items():
        remarks += [
            f"{path.name}: {person} has the {name} {' and '.join(found)}; taken as unknown"
            for name, found in values.items()
            if len(found) > 1
        ]
    return {person: {n: v[0] for n, v in values.items() if len(v) == 1} for person, values in told.items()}


def _column(pattern: str, header: Sequence[str]) -> int | None:
    places = [place for place, name in enumerate(header) if re.fullmatch(pattern, name, re.IGNORECASE)]
    return places[0] if places else None


def _value(table: Table, name: str, cell: str) -> str:
    """A cell as BIDS wants it: what its code means, one line, ``n/a`` for what is not known."""
    cell = table.values[name].get(cell, "") if name in table.values else " ".join(cell.split())
    return "n/a" if cell.lower() in ("", "na", "nan", "n/a", "none") else cell
