"""Reading of tables whose first line names the columns."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any


def read_rows(table: Path, delimiter: str) -> tuple[list[str], list[dict[str | Any, str | Any]]]:
    """Read a table.

    Parameters
    ----------
    table : Path
        Text in UTF-8, with or without a mark at its beginning.
    delimiter : str
        What is between cells.

    Returns
    -------
    header : list of str
        Names of the columns; empty for an empty file.
    rows : list of dict
        Cells by column, None for those that a line lacks; what it has beyond the header is a list under None.

    Raises
    ------
    ValueError
        If it is no text in UTF-8, or no table; the message names it.
    OSError
        If it cannot be read.
    """
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            return list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: is no text in UTF-8, or no table: {error}") from error
