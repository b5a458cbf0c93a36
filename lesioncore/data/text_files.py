"""Reading of text files that others made: bounded, and with errors that name the file."""

from __future__ import annotations

from pathlib import Path

LARGEST_TABLE = 256 * 2**20
"""Bytes that a table, or a list of files, may have: some million rows."""


def check_file(path: Path, largest: int, smallest: int = 1) -> None:
    """Check a file before it is read.

    Parameters
    ----------
    path : Path
        The file.
    largest : int
        Bytes that it may have.
    smallest : int
        Bytes that it has to have.

    Raises
    ------
    FileNotFoundError
        If there is none.
    PermissionError
        If it may not be read.
    ValueError
        If it is no regular file, or has less or more bytes; the message names it.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}, expected a file")
    if not smallest <= size <= largest:
        raise ValueError(f"{path}: got {size} bytes, expected {smallest} to {largest}")
    with path.open("rb"):  # some libraries say of a file without permission that it is not there
        pass


def read_text(path: Path, largest: int = LARGEST_TABLE) -> str:
    """Read a text file in UTF-8, with a byte order mark or without; line ends stay as they are.

    Parameters
    ----------
    path : Path
        The file; it may be empty.
    largest : int
        Bytes that it may have.

    Raises
    ------
    ValueError
        As for :func:`check_file`; also if it is no text in UTF-8.
    OSError
        If there is no such file, or it cannot be read.
    """
    check_file(path, largest, smallest=0)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text in UTF-8: {error}") from error
