"""Damage to a prior's directory, for tests that each kind of it is told."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.scoring.spread_map import SpreadMap

Damage = Callable[[Path], None]
"""Changes a directory."""


@cache
def _sound() -> dict[str, bytes]:
    """Files of a prior with all that a calibration may have."""
    cubes = np.ones((3, 6, 5), np.float32)
    people = tiny_calibration().healthy
    calibration = replace(tiny_calibration(), others={(1, 0.0): people}, spread_map=SpreadMap(cubes, cubes))
    with tempfile.TemporaryDirectory() as folder:
        directory = lc.save_model(tiny_vae(metadata=tiny_metadata(calibration)), Path(folder) / "tiny", card="# tiny\n")
        return {path.name: path.read_bytes() for path in directory.iterdir()}


def sound_prior(folder: Path) -> Path:
    """Write a prior's directory, whose name is ``prior``."""
    directory = folder / "prior"
    directory.mkdir()
    for name, content in _sound().items():
        (directory / name).write_bytes(content)
    return directory


def put(file: str, place: str, value: Any) -> Damage:
    """Put a value at a place of a JSON file, such as ``grid.shape``; a callable makes it of the one that is there."""

    def damage(directory: Path) -> None:
        values = json.loads((directory / file).read_text())
        *path, last = (int(step) if step.isdigit() else step for step in place.split("."))
        inner = values
        for step in path:
            inner = inner[step]
        inner[last] = value(inner[last]) if callable(value) else value
        (directory / file).write_text(json.dumps(values))

    return damage


def without(file: str, key: str) -> Damage:
    """Leave a key out of a JSON file."""

    def damage(directory: Path) -> None:
        values = json.loads((directory / file).read_text())
        del values[key]
        (directory / file).write_text(json.dumps(values))

    return damage


def content(file: str, make: Callable[[bytes], bytes]) -> Damage:
    """Make a file's bytes anew of those that it has."""
    return lambda directory: (directory / file).write_bytes(make((directory / file).read_bytes())) and None


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    """Change the stored tensors in place."""

    def damage(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")

    return damage


def as_folder(file: str) -> Damage:
    """Put a folder where a file is to be."""

    def damage(directory: Path) -> None:
        (directory / file).unlink()
        (directory / file).mkdir()

    return damage


@contextmanager
def as_plain_user(*paths: Path) -> Iterator[None]:
    """Take the rights to read from files, and those of root, who may read them all the same, from the process."""
    import os

    root = os.geteuid() == 0
    folders = Path(lc.__file__).parents
    if root and not all(folder.stat().st_mode & 0o001 for folder in folders):
        pytest.skip("the installed package is in a folder that only its owner may enter")
    for path in paths:
        path.chmod(0)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o644)
