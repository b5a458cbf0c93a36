"""What the ``participants.tsv`` of a BIDS data set tells of its people."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from lesioncore.data.bids import subject_of
from lesioncore.data.roots import check_inside
from lesioncore.data.tables import read_rows

_MISSING = ("", "n/a", "na", "nan")


def participant_of(scan: Path, person: str) -> dict[str, str | None]:
    """Look a scan's person up in the table of its data set.

    Parameters
    ----------
    scan : Path
        A NIfTI file. Its data set is the folder that the person's own one lies in, or else the scan's own folder.
    person : str
        Who it is of, with or without ``sub-``.

    Returns
    -------
    dict of str to (str or None)
        Values by column, None for those that are missing: all of a person that the table does not name. Empty where
        there is no table.

    Raises
    ------
    ValueError
        If the table is none, has no column ``participant_id``, or a person twice, is too large, or leads out of the
        data set.
    OSError
        If it cannot be read.
    """
    place = Path(os.path.abspath(scan))
    own = [folder.parent for folder in place.parents if folder.name == subject_of(place)]
    table = (own[0] if own else place.parent) / "participants.tsv"
    if not table.exists():
        return {}
    check_inside(table, table.parent, str(table))
    columns, people = _read(table)
    return people.get(person.removeprefix("sub-"), dict.fromkeys(columns))


@lru_cache(maxsize=16)
def _read(table: Path) -> tuple[tuple[str, ...], dict[str, dict[str, str | None]]]:
    header, rows = read_rows(table, "\t")
    columns = tuple(name for name in header if name != "participant_id")
    if "participant_id" not in header:
        raise ValueError(f"{table}: got the columns {', '.join(columns) or 'none'}, expected participant_id")
    people: dict[str, dict[str, str | None]] = {}
    for row in rows:
        name = (row["participant_id"] or "").strip().removeprefix("sub-")
        if name in people:
            raise ValueError(f"{table}: got {name} twice, expected a row for each person")
        values = {column: (row[column] or "").strip() for column in columns}
        people[name] = {column: None if text.lower() in _MISSING else text for column, text in values.items()}
    return columns, people
