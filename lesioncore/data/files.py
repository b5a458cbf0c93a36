"""Atomic writing of files, folders and JSON, and hashes of files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NOT_GOT = "content is not here: datalad get FILE"
_LARGEST_POINTER = 32 * 1024
"""Bytes that a file may have which stands for content elsewhere (git-annex, Git LFS)."""
_NUMBERS = re.compile(r'\[\n([^"\[\]{}]*)\]')


@contextmanager
def replace_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the block ends well, remove it if not.

    The name keeps all suffixes of `path`, for writers that choose the format by them. The file that the block creates
    has the permissions that any new file has, which a `tempfile` name would not.

    Parameters
    ----------
    path : path-like
        The file to write; one that is already there is replaced.

    Yields
    ------
    pathlib.Path
        The name to write to, in the same folder.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path: got the folder {path}, expected the name of a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: got {path}, expected one in a folder that exists; create it first")
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{''.join(path.suffixes[-2:])}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replace_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder beside `path`; it takes the place of `path` if the block ends well.

    Parameters
    ----------
    path : path-like
        The folder to write; one that is already there is replaced, and comes back if that fails.

    Yields
    ------
    pathlib.Path
        The folder to write into.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        yield temporary
        # Readable by others whatever the temporary directory's and safetensors' own modes.
        temporary.chmod(0o755)
        for file in temporary.iterdir():
            if file.is_file():
                file.chmod(0o644)
        _put_in_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(
    path: Path, values: dict[str, Any], *, indent: int, allow_nan: bool = True, number_rows: bool = False
) -> None:
    """Write a JSON file atomically.

    Parameters
    ----------
    path : Path
        The file to write; its folder exists.
    values : dict
        JSON-able values.
    indent : int
        Spaces of each level.
    allow_nan : bool
        Write NaN and infinity, which strict JSON lacks; ``ValueError`` without.
    number_rows : bool
        Write a list of numbers as a row and not as a column.
    """
    text = json.dumps(values, indent=indent, allow_nan=allow_nan)
    if number_rows:  # a line break cannot be part of a JSON string
        text = _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text)
    with replace_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's bytes; of both files of an Analyze pair."""
    pair = [path.with_suffix(suffix) for suffix in (".hdr", ".img")]
    digest = hashlib.sha256()
    for part in pair if path in pair and all(part.exists() for part in pair) else [path]:
        with open(part, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.digest()


def absent(path: Path) -> str | None:
    """Say why a file that is listed has no content, and what gets it; None for one that has, or that is not there."""
    if path.is_symlink() and not path.exists():
        at = os.readlink(path)
        return _NOT_GOT if "annex/objects" in at else f"a link to {at}, which is not there"
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_POINTER:
            return None
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError:  # whoever reads it will say so
        return None
    if start.startswith(b"/annex/objects/"):
        return _NOT_GOT
    return "content is not here: git lfs pull" if start.startswith(b"version https://git-lfs.") else None


def check_here(path: Path) -> None:
    """Raise ``FileNotFoundError`` unless a file and its content are here."""
    if (reason := absent(path)) is not None:
        raise FileNotFoundError(f"{path}: {reason.replace('FILE', str(path))}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")


def _put_in_place(new: Path, target: Path) -> None:
    """Rename a directory to `target`; one that is there already comes back if that fails."""
    if not target.exists():
        os.replace(new, target)
        return
    old = new.with_name(f"{new.name}-replaced")
    os.replace(target, old)
    try:
        os.replace(new, target)
    except BaseException:
        os.replace(old, target)
        raise
    shutil.rmtree(old)
