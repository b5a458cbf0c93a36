"""Reading of JSON files that others made: bounded, unambiguous, and with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lesioncore.data.text_files import check_file, read_text

LARGEST_JSON = 16 * 2**20
"""Bytes that a JSON file may have which describes a scan, a result or a data set."""


def read_object(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Parameters
    ----------
    path : Path
        The file, in UTF-8.
    largest : int
        Bytes that it may have.

    Raises
    ------
    ValueError
        As for :func:`check_file`; also if it is no JSON, is nested deeper than Python reads, has a key twice, or holds
        something else than an object. The message names the file.
    OSError
        If there is no such file, or it cannot be read.
    """
    check_file(path, largest)
    text = read_text(path, largest)
    try:
        values = json.loads(text, object_pairs_hook=_unambiguous)
    except RecursionError as error:
        raise ValueError(f"{path}: is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path}: is no valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: got {type(values).__name__}, expected an object")
    return values


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return values
