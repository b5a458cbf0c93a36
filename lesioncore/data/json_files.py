"""Reading of JSON files that others made: bounded, unambiguous, and with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST_SIDECAR = 16 * 2**20
"""Bytes that the JSON file of one scan's results may have: a thousand times those of any."""


def check_file(path: Path, largest: int) -> None:
    """Check a file before it is read.

    Parameters
    ----------
    path : Path
        The file.
    largest : int
        Bytes that it may have.

    Raises
    ------
    FileNotFoundError
        If there is none.
    PermissionError
        If it may not be read.
    ValueError
        If it is no regular file, is empty or has more than `largest` bytes; the message names it.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}, expected a file")
    if not 0 < size <= largest:
        raise ValueError(f"{path}: got {size} bytes, expected 1 to {largest}")
    with path.open("rb"):  # some libraries say of a file without permission that it is not there
        pass


def read_object(path: Path, largest: int) -> dict[str, Any]:
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
    try:
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unambiguous)
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
