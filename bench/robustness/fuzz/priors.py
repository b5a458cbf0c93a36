"""Directories of priors: configuration, calibration, weights, each damaged among files that are sound."""

from __future__ import annotations

import json
import struct
import tempfile
from functools import cache
from pathlib import Path

from support.damage import sound_prior

from fuzz.target import Target, edited
from lesioncore.models import load_model
from lesioncore.models.prior import PriorMetadata
from lesioncore.prior_names import CALIBRATION, CONFIG, MODEL


@cache
def _sound() -> dict[str, bytes]:
    """Files of a tiny prior."""
    with tempfile.TemporaryDirectory() as folder:
        return {path.name: path.read_bytes() for path in sound_prior(Path(folder)).iterdir()}


def _target(name: str, file: str) -> Target:
    def use(data: bytes, folder: Path) -> None:
        directory = folder / "prior"
        directory.mkdir()
        for other, content in _sound().items():
            if other != CALIBRATION:  # whose fingerprint would tell that the model was changed
                (directory / other).write_bytes(content)
        (directory / file).write_bytes(_content(file, data))
        model = load_model(directory)
        assert isinstance(model.metadata, PriorMetadata)
        assert all(value.isfinite().all() for value in model.state_dict().values())

    def seeds(folder: Path) -> list[bytes]:
        sound = _sound()[file]
        whole = [b"\0" + sound]
        if file == MODEL:
            length = struct.unpack("<Q", sound[:8])[0]
            return [*whole, b"\1" + sound[8 : 8 + length]]
        return whole + [bytes([1, number]) * 6 for number in range(40)]

    return Target(name, use, seeds, largest=32 * 1024)


def _content(file: str, data: bytes) -> bytes:
    """The file's bytes: by the first byte the input's own, or edits of those that are sound."""
    kind, rest = data[:1], data[1:]
    if kind in (b"", b"\0"):
        return rest
    sound = _sound()[file]
    if file == MODEL:  # the input is the header, with its own length before it
        return struct.pack("<Q", len(rest)) + rest + sound[8 + struct.unpack("<Q", sound[:8])[0] :]
    values = json.loads(sound)
    for entry in ("prior", "fingerprint"):  # which would tell before all else that something was changed
        values.pop(entry, None)
    return edited(values, rest)


PRIORS = (
    _target("prior-configuration", CONFIG),
    _target("prior-calibration", CALIBRATION),
    _target("prior-weights", MODEL),
)
