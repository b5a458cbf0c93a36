"""Reading of tables that others made, whose first line names the columns."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lesioncore.data.text_files import read_text


def read_rows(table: Path, delimiter: str) -> tuple[list[str], list[dict[str | Any, str | Any]]]:
    """Read a table.

    Parameters
    ----------
    table : Path
        Text in UTF-8.
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
        As for :func:`lesioncore.data.text_files.read_text`; also if it is no table. The message names it.
    OSError
        If there is no such file, or it cannot be read.
    """
    reader = csv.DictReader(io.StringIO(read_text(table), newline=""), delimiter=delimiter)
    try:
        return list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ValueError(f"{table}: is no table: {error}") from error
