"""Slices prepared once, kept in files larger than memory, and read by row."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lesioncore.data.grid import SliceGrid
from lesioncore.data.stack import SliceStack
from lesioncore.preprocess.pipeline import Step
from lesioncore.preprocess.scale import Scale, scale_from_dict
from lesioncore.subjects import Subject
from lesioncore.training.build import fill
from lesioncore.training.store import Entry, SliceStore


@dataclass(frozen=True)
class CachedSubject:
    """A subject of a data set.

    Attributes
    ----------
    id, key : str
        Its name, and the hash of what it was made from.
    rows : range
        Its rows in the data set.
    voxel_size : tuple of float
        Pixels (left-right, posterior-anterior) and distance of its slices, mm.
    """

    id: str
    key: str
    rows: range
    voxel_size: tuple[float, float, float]


class SliceCache:
    """Slices of a data set: its subjects' one after the other, in the order that was asked for.

    Made by :meth:`build` or :meth:`open`. The files may hold more subjects than the data set, and in another order; row
    numbers are the data set's. Can be sent to other processes, which read the same files.

    Attributes
    ----------
    directory : Path
        Folder of the files.
    grid : SliceGrid
        Grid of the slices.
    intensity : IntensityScale or TissueScale
        Scale of their z-scores.
    subjects : tuple of CachedSubject
        The data set.
    brain, lesion : Tensor
        ``[rows]`` int64: pixels of each row that are brain (lesion included), and that are lesion.
    """

    def __init__(self, store: SliceStore, entries: Sequence[Entry], ids: Sequence[str]) -> None:
        self.directory = store.directory
        self.grid = SliceGrid(store.header["grid"]["voxel_size"], store.shape)
        self.intensity = scale_from_dict(store.header["intensity"])
        ends = np.cumsum([0, *(entry.rows for entry in entries)]).tolist()
        self.subjects = tuple(
            CachedSubject(name, entry.key, range(start, start + entry.rows), entry.voxel_size)
            for name, entry, start in zip(ids, entries, ends, strict=False)
        )
        self.brain = torch.tensor([count for entry in entries for count in entry.brain])
        self.lesion = torch.tensor([count for entry in entries for count in entry.lesion])
        self._store, self._entries = store, tuple(entries)
        self._stored = np.concatenate([np.arange(entry.first, entry.end) for entry in entries])

    @classmethod
    def build(
        cls,
        directory: str | os.PathLike[str],
        subjects: Sequence[Subject],
        *,
        grid: SliceGrid,
        intensity: Scale,
        steps: Sequence[Step] = (),
        workers: int = 1,
        verify: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> SliceCache:
        """Prepare the subjects that are not in the cache yet, and open it.

        A subject is prepared anew when its files have changed, or the code that prepares them. An interrupted build
        goes on where it was. Several processes may build in the same folder; they take turns.

        Parameters
        ----------
        directory : path-like
            Folder for all caches; each grid and intensity scale has one of its own in it.
        subjects : sequence of Subject
            The data set (:func:`lesioncore.subjects.find_subjects`).
        grid, intensity
            What the slices are brought to.
        steps
            How the scans are preprocessed (:func:`lesioncore.preprocess.pipeline.preprocess`).
        workers : int
            Processes that prepare. With several, a script's own code must be under ``if __name__ == "__main__":``.
        verify : bool
            Read all slices, and prepare anew what is damaged.
        progress : callable, optional
            Called as ``progress(done, all)``, in subjects; first with those that are there already.

        Raises
        ------
        PreparationError
            If some subjects cannot be used; the message names them. The others are kept.
        ValueError
            If there are no subjects, or two are the same.
        OSError
            If a file cannot be read or written.

        Warns
        -----
        UserWarning
            What preparing a subject gave rise to, or that another process is waited for.
        """
        store, entries = fill(
            Path(directory), subjects, grid, intensity, tuple(steps), workers=workers, verify=verify, progress=progress
        )
        return cls(store, entries, [subject.id for subject in subjects])

    @classmethod
    def open(
        cls, directory: str | os.PathLike[str], keys: Sequence[str] | None = None, *, verify: bool = False
    ) -> SliceCache:
        """Open what was built, without the subjects' own files.

        Parameters
        ----------
        directory : path-like
            The ``directory`` of a cache.
        keys : sequence of str, optional
            Keys of the subjects that are wanted, in their order; all, in the order of the files, when absent.
        verify : bool
            Read all slices of the subjects, and refuse damaged ones.

        Raises
        ------
        FileNotFoundError
            If there is no cache.
        ValueError
            If subjects are missing or damaged, or there is none.
        """
        store = SliceStore(Path(directory))
        by_key = store.by_key()
        keys = list(by_key) if keys is None else keys
        missing = [key for key in keys if key not in by_key]
        if missing or not keys:
            asked = f"{len(missing)} of the {len(keys)} subjects asked for are not in it" if keys else "it is empty"
            raise ValueError(f"{directory}: {asked}; build it")
        entries = [by_key[key] for key in keys]
        if verify and (damaged := store.damaged(entries)):
            names = ", ".join(entry.id for entry in damaged)
            raise ValueError(
                f"{directory}: the slices of {names} are damaged; build with verify=True to prepare them anew"
            )
        return cls(store, entries, [entry.id for entry in entries])

    def __len__(self) -> int:
        return len(self._stored)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}

    def key(self) -> str:
        """SHA-256 of the data set: what its slices and labels are, and their order."""
        digest = hashlib.sha256(json.dumps([self._store.header["grid"], self._store.header["intensity"]]).encode())
        for entry in self._entries:
            digest.update(entry.sha256.encode())
        return digest.hexdigest()

    def rows(self, least_brain: float = 0.02) -> Tensor:
        """Rows of the slices of which at least the share `least_brain`, and at least a pixel, is brain: int64.

        Raises
        ------
        ValueError
            If there is none.
        """
        pixels = self.grid.shape[0] * self.grid.shape[1]
        rows = (self.brain >= max(1.0, least_brain * pixels)).nonzero()[:, 0]
        if not len(rows):
            raise ValueError(
                f"least_brain: no slice of {len(self)} is brain to {least_brain:g} or more of its pixels, the most is"
                f" {int(self.brain.max()) / pixels:.3f}; check the voxel size and the masks"
            )
        return rows

    def batch(self, rows: Tensor | npt.NDArray[np.int64] | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Read rows, in any order: slices ``[n, 1, H, W]`` float32 and labels ``[n, 1, H, W]`` uint8.

        Raises
        ------
        IndexError
            If a row is not in the data set.
        """
        stored = self._stored[np.asarray(rows, dtype=np.int64)]
        slices = np.empty((len(stored), 1, *self.grid.shape), np.float32)
        labels = np.empty(slices.shape, np.uint8)
        slice_map, label_map = self._maps
        # In the order of the files, since disks seek slowly.
        for place in np.argsort(stored):
            slices[place, 0] = slice_map[stored[place]]
            labels[place, 0] = label_map[stored[place]]
        return torch.from_numpy(slices), torch.from_numpy(labels)

    def stacks(self) -> list[SliceStack]:
        """Each subject's slices, as ``calibrate`` takes them; they are read when they are used.

        Changes of the tensors are not stored.
        """
        slices, labels = self._store.maps(private=True)
        return [
            SliceStack(
                torch.from_numpy(slices[entry.first : entry.end]).unsqueeze(1),
                torch.from_numpy(labels[entry.first : entry.end] > 0).unsqueeze(1),
                entry.voxel_size,
                bend=entry.bend,
            )
            for entry in self._entries
        ]

    @cached_property
    def _maps(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        return self._store.maps()
