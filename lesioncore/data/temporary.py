"""Temporary files, whose names tell the process that made them, so that a later one can clear up."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_NAME = re.compile(
    r"\.lesioncore-(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}(~(?P<replaced>.+)|\..*)?"
)
_LONGEST_REST = 24 * 3600.0
"""Seconds without a change after which the temporary files of another machine, or container, are taken for left."""

PLACING = threading.Lock()
"""Held while finished files are renamed to their places, which :func:`abandon` waits for."""

_LARGE, _REST = 1000, 10.0
"""Names from which on a folder is large, and seconds for which such a one is not looked through again: it may hold the
results of thousands of scans, for each of which files are written."""

_own: set[Path] = set()
_rests: dict[Path, float] = {}


@contextmanager
def temporary(folder: Path, ending: str = "", *, directory: bool = False) -> Iterator[Path]:
    """Give a name in a folder for a temporary file; whatever is there in the end is removed.

    What earlier runs left in the folder is removed first (:func:`clear`).

    Parameters
    ----------
    folder : Path
        A folder that exists.
    ending : str
        End of the name, such as ``.nii.gz``.
    directory : bool
        Make a folder of that name.

    Yields
    ------
    pathlib.Path
        The name, hidden.
    """
    clear(folder)
    path = folder / f".lesioncore-{_place()}-{os.getpid()}-{_start_of(os.getpid())}-{uuid.uuid4().hex[:8]}{ending}"
    with PLACING:
        _own.add(path)
        if directory:
            path.mkdir()
    try:
        yield path
    finally:
        _remove(path)
        _own.discard(path)


def set_aside(target: Path) -> str:
    """End of the temporary name of a folder that is being replaced: where the new one is missing, it is put back."""
    return f"~{target.name}"


def clear(folder: Path) -> None:
    """Remove the temporary files in a folder whose process has ended without doing so.

    Those of processes that live are left alone, and those of other machines and containers, whose processes cannot be
    seen from here, unless nothing in them has changed for a day. What cannot be removed stays. A folder of more than a
    thousand files is looked through every ten seconds at most.
    """
    if time.monotonic() < _rests.get(folder, 0.0):
        return
    try:
        names = os.listdir(folder)
    except OSError:  # whoever writes into it will say so
        return
    if len(names) > _LARGE:
        _rests[folder] = time.monotonic() + _REST
    for name in names:
        with suppress(OSError):
            if (match := _NAME.fullmatch(name)) is not None and _is_left(folder / name, match):
                _remove(folder / name)


def abandon() -> None:
    """Remove this process's temporary files as soon as none is being put in place; no more can be made afterwards."""
    PLACING.acquire()
    for _ in range(10):  # other threads may still write into them
        for path in tuple(_own):
            _remove(path)
        if not any(map(os.path.lexists, tuple(_own))):
            return


def _remove(path: Path) -> None:
    match = _NAME.fullmatch(path.name)
    with suppress(OSError):
        if match and match["replaced"] and not os.path.lexists(path.with_name(match["replaced"])):
            os.rename(path, path.with_name(match["replaced"]))
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_left(path: Path, name: re.Match[str]) -> bool:
    """Whether the process that a temporary file's name tells has ended, as far as can be known."""
    if name["place"] == _place():
        return not _lives(int(name["pid"]), int(name["start"]))
    changes = [path.lstat().st_mtime, *(part.lstat().st_mtime for part in path.rglob("*"))]
    return time.time() - max(changes) > _LONGEST_REST


def _lives(pid: int, start: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return _start_of(pid) == start


def _start_of(pid: int) -> int:
    """Start of a process in clock ticks since boot, by which it is told from others of its number; 0 if it is gone."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if facts[0] in "ZX" else int(facts[19])


@cache
def _place() -> str:
    """Hash of where numbers and starts of processes are counted: the machine since its boot, and the container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    return hashlib.sha256(f"{boot} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]
