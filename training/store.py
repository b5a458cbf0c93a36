"""Append-only files of slices; whatever interrupts a write, what was written before stays.

``slices.f32`` and ``labels.u8`` hold rows of ``[H, W]`` float32 and uint8, one after the other. A line of
``index.jsonl`` is written only when a subject's rows have reached the disk. What lies beyond the last whole line and
its rows is the rest of an interrupted write, and is cut off before the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lesioncore.data.files import replace_atomically

SLICES, LABELS, INDEX, LOCK = "slices.f32", "labels.u8", "index.jsonl", "lock"


@dataclass(frozen=True)
class Entry:
    """A subject's rows.

    Attributes
    ----------
    id, key : str
        Its name when it was written, and the hash of what it was made from.
    first, rows : int
        Its first row in the files, and their number.
    voxel_size : tuple of float
        Pixels and distance of its slices, mm.
    bend : float
        How far its intensities had to be bent (:attr:`lesioncore.data.stack.SliceStack.bend`).
    brain, lesion : tuple of int
        Pixels of each row that are brain (lesion included), and that are lesion.
    sha256 : str
        Hash of its bytes in both files.
    """

    id: str
    key: str
    first: int
    rows: int
    voxel_size: tuple[float, float, float]
    bend: float
    brain: tuple[int, ...]
    lesion: tuple[int, ...]
    sha256: str

    @property
    def end(self) -> int:
        """The row after its last."""
        return self.first + self.rows


class SliceStore:
    """The files in one folder.

    Parameters
    ----------
    directory : Path
        Their folder.

    Raises
    ------
    FileNotFoundError
        If there are none.
    ValueError
        If their index has no readable header.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with open(directory / INDEX, "rb") as file:
            line = file.readline()
            try:
                self.header: dict[str, Any] = json.loads(line)
                height, width = self.header["grid"]["shape"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{directory / INDEX}: its first line is damaged; remove the folder, and it is made again"
                ) from error
            self.shape = (int(height), int(width))
            sizes = (os.path.getsize(directory / SLICES) // 4, os.path.getsize(directory / LABELS))
            whole_rows = min(sizes) // (self.shape[0] * self.shape[1])
            self.entries: list[Entry] = []
            self._index_end = len(line)
            for line in file:
                entry = _parse(line)
                if entry is None or entry.first != self.rows or entry.end > whole_rows:
                    break
                self.entries.append(entry)
                self._index_end += len(line)

    @classmethod
    def create(cls, directory: Path, header: dict[str, Any]) -> SliceStore:
        """Open the files, made where there are none; the caller holds the lock.

        Raises
        ------
        ValueError
            If there are files with another header.
        """
        for name in (SLICES, LABELS):
            (directory / name).touch()
        if not (directory / INDEX).exists():
            with replace_atomically(directory / INDEX) as temporary, open(temporary, "xb") as file:
                file.write(_line(header))
                _sync(file)
        store = cls(directory)
        if store.header != header:
            raise ValueError(f"{directory / INDEX}: its first line is damaged; remove the folder, and it is made again")
        return store

    @property
    def rows(self) -> int:
        """Rows of all entries."""
        return self.entries[-1].end if self.entries else 0

    def by_key(self) -> dict[str, Entry]:
        """Entries by key; of several with one key the latest, which replaced a damaged one."""
        return {entry.key: entry for entry in self.entries}

    def maps(self, *, private: bool = False) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Slices and labels ``[rows, H, W]``, memory-mapped; with `private`, what is written to them is not stored."""
        shape, mode = (self.rows, *self.shape), "c" if private else "r"
        return (
            np.memmap(self.directory / SLICES, "<f4", mode, shape=shape),  # type: ignore[call-overload]
            np.memmap(self.directory / LABELS, "u1", mode, shape=shape),  # type: ignore[call-overload]
        )

    def damaged(self, entries: list[Entry]) -> list[Entry]:
        """Entries whose bytes are not what was written."""
        if not entries:
            return []
        slices, labels = self.maps()
        return [e for e in entries if _hash(slices[e.first : e.end], labels[e.first : e.end]) != e.sha256]

    def cut(self) -> None:
        """Remove the rest of an interrupted write; the caller holds the lock."""
        pixels = self.rows * self.shape[0] * self.shape[1]
        for name, size in ((INDEX, self._index_end), (SLICES, 4 * pixels), (LABELS, pixels)):
            os.truncate(self.directory / name, size)

    def append(
        self,
        subject: str,
        key: str,
        slices: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        voxel_size: tuple[float, float, float],
        bend: float,
    ) -> None:
        """Write a subject's rows, then its entry; the caller holds the lock and has called :meth:`cut`."""
        slices, labels = np.ascontiguousarray(slices, "<f4"), np.ascontiguousarray(labels, np.uint8)
        entry = Entry(
            id=subject,
            key=key,
            first=self.rows,
            rows=len(slices),
            voxel_size=voxel_size,
            bend=bend,
            brain=tuple(np.count_nonzero(labels, axis=(1, 2)).tolist()),
            lesion=tuple(np.count_nonzero(labels == 2, axis=(1, 2)).tolist()),
            sha256=_hash(slices, labels),
        )
        line = _line(asdict(entry))
        for name, content in ((SLICES, slices.data), (LABELS, labels.data), (INDEX, line)):
            with open(self.directory / name, "ab") as file:
                file.write(content)
                _sync(file)
        self.entries.append(entry)
        self._index_end += len(line)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes from writing; one that has ended, in whatever way, holds no lock.

    Warns
    -----
    UserWarning
        If another process holds the lock and has to be waited for.
    """
    with open(directory / LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            warnings.warn(f"{directory} is being written by another process; waiting for it", stacklevel=2)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _parse(line: bytes) -> Entry | None:
    """The entry of a line; None where it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        values = json.loads(line)
        tuples = {name: tuple(values[name]) for name in ("voxel_size", "brain", "lesion")}
        entry = Entry(**{**values, **tuples})
        whole = entry.rows == len(entry.brain) == len(entry.lesion) > 0
    except (ValueError, TypeError, KeyError):
        return None
    return entry if whole else None


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _hash(slices: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(slices.data)
    digest.update(labels.data)
    return digest.hexdigest()


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
