"""Atomic writing of files, folders and JSON, and hashes of files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypedDict

from lesioncore.data.temporary import PLACING, set_aside, temporary

_NOT_GOT = "content is not here: datalad get FILE"
_LARGEST_POINTER = 32 * 1024
"""Bytes that a file may have which stands for content elsewhere (git-annex, Git LFS)."""
_NUMBERS = re.compile(r'\[\n([^"\[\]{}]*)\]')


class FileFacts(TypedDict):
    """What a manifest tells of a file."""

    Bytes: int
    SHA256: str


@contextmanager
def replace_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the block ends well, remove it if not.

    The name keeps all suffixes of `path`, for writers that choose the format by them. The file that the block creates
    has the permissions that any new file has, which a `tempfile` name would not. It is on the disk before it is
    renamed.

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
    with temporary(path.parent, "".join(path.suffixes[-2:])) as name:
        yield name
        _flush(name)
        os.replace(name, path)


@contextmanager
def replace_together(
    folder: Path, last: str, *, earlier: Iterable[Path] = (), work: Path | None = None
) -> Iterator[Path]:
    """Give a temporary folder, whose files take their places in `folder` together if the block ends well.

    One of them says that all are there: it is taken away first and put in place last.

    Parameters
    ----------
    folder : Path
        Where the files go; created when absent. Files of the same names are replaced.
    last : str
        Name of the file that is put in place last.
    earlier : iterable of Path
        Files in `folder` that the new ones replace; those of other names are removed.
    work : Path, optional
        An existing folder for the temporary one, such as on a faster disk; `folder` when absent.

    Yields
    ------
    pathlib.Path
        The folder to write into.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        made = stack.enter_context(temporary(work or folder, directory=True))
        yield made
        if work is not None:
            made = Path(
                shutil.copytree(made, stack.enter_context(temporary(folder, directory=True)), dirs_exist_ok=True)
            )
        names = sorted(path.name for path in made.iterdir())
        for name in names:
            _flush(made / name)
        with PLACING:
            (folder / last).unlink(missing_ok=True)
            for path in earlier:
                if path.name not in names:
                    path.unlink(missing_ok=True)
            order, placed = [*(name for name in names if name != last), last], []
            try:
                for name in order:
                    os.replace(made / name, folder / name)
                    placed.append(folder / name)
            except OSError:
                for path in placed:
                    path.unlink(missing_ok=True)
                raise
        _flush(folder)


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
    with (
        temporary(target.parent, directory=True) as made,
        temporary(target.parent, set_aside(target)) as old,
    ):
        yield made
        # Readable by others whatever the umask and safetensors' own mode.
        made.chmod(0o755)
        for file in made.iterdir():
            if file.is_file():
                file.chmod(0o644)
        for part in (*made.rglob("*"), made):
            _flush(part)
        with PLACING:
            _put_in_place(made, target, old)


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


def manifest(paths: Iterable[Path]) -> dict[str, FileFacts]:
    """Size and SHA-256 of files by their names, sorted (JSON-able): ``{"a.nii.gz": {"Bytes": 9, "SHA256": "..."}}``."""
    return {
        path.name: {"Bytes": path.stat().st_size, "SHA256": file_digest(path).hex()}
        for path in sorted(paths, key=lambda path: path.name)
    }


def difference(folder: Path, listed: Mapping[str, FileFacts]) -> str | None:
    """Say which file in a folder is missing or not as a manifest lists it; None if all are."""
    for name, facts in listed.items():
        path = folder / name
        if Path(name).name != name or not isinstance(facts, Mapping):
            return f"{name} is no file of the folder, or is listed without its hash"
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != facts.get("Bytes"):
            return f"{name} has {size} bytes, not {facts.get('Bytes')}"
        if file_digest(path).hex() != facts.get("SHA256"):
            return f"{name} is not the file that was written"
    return None


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


def _flush(path: Path) -> None:
    """Have the disk hold a file, or a folder's names, so that a loss of power leaves no empty file under a name.

    A full disk may be an error here, and not earlier.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot do it for folders
            raise
    finally:
        os.close(descriptor)


def _put_in_place(new: Path, target: Path, old: Path) -> None:
    """Rename a directory to `target`; one that is there already is renamed to `old`, and comes back if that fails."""
    if not target.exists():
        os.replace(new, target)
        return
    os.replace(target, old)
    try:
        os.replace(new, target)
    except BaseException:
        os.replace(old, target)
        raise
