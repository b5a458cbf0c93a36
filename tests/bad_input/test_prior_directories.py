"""Damaged directories of priors: each kind of damage is one error that names the file and says what to do."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bad_input import BadInput, rows
from support.damage import as_folder, as_plain_user, content, put, sound_prior, weights, without
from support.models import tiny_gmvae

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.models import load_model
from lesioncore.restoration.run import Run

CONFIG, CALIBRATION, WEIGHTS = "config.json", "calibration.json", "model.safetensors"
AGAIN = "copy the directory again from its source"


def damaged(name: str, file: str, damage: Any, *says: str, kind: str | None = None) -> BadInput:
    """A row: what is done to a file, and what the error says."""

    def use(folder: Path) -> None:
        directory = sound_prior(folder)
        damage(directory)
        lc.load_prior(directory)

    return BadInput(f"{file} {name}", use, ValueError, (rf"prior/{file}: ", AGAIN, *says), kind)


KINDS = {
    "null": None,
    "true": True,
    "text": "1",
    "list": [[]],
    "object": {"strange": 1},
    "huge": 10**400,
    "NaN": float("nan"),
    "infinite": float("inf"),
}
"""Values of JSON that are wrong where none of this kind is expected."""

FIELDS = {
    CONFIG: {
        "kind": "text",
        "name": "text",
        "modality": "null text",
        "architecture": "",
        "architecture.channels": "",
        "architecture.channels.0": "",
        "architecture.image_shape": "",
        "architecture.negative_slope": "",
        "architecture.learned_variance": "true",
        "grid": "null",
        "grid.voxel_size": "",
        "grid.shape": "",
        "intensity": "null",
        "intensity.landmarks": "",
        "intensity.std": "",
        "preprocessing": "",
        "training": "null object",
    },
    CALIBRATION: {
        "settings": "object",
        "tv_weight": "null",
        "smoothing": "",
        "healthy": "",
        "healthy.first": "",
        "healthy.counts": "",
        "healthy.counts.0": "",
        "healthy.limits": "",
        "healthy.subjects": "",
        "healthy.subjects.0": "",
        "healthy.subjects.0.thresholds": "",
        "healthy.subjects.0.bend": "null",
        "healthy.subjects.0.extent": "null",
        "others": "",
        "others.0.sign": "true",
        "spread_map": "null",
        "spread_map.largest_count": "",
        "spread_map.squares": "",
        "criterion": "text",
        "notes": "object",
    },
}
"""Fields, and the kinds of values that are right there (or, as true for a sign, of no other form than a right one)."""


def wrong_types() -> Iterator[BadInput]:
    """A row for each field and each kind of value that is wrong there."""
    for file, fields in FIELDS.items():
        for place, right in fields.items():
            for kind, value in KINDS.items():
                if kind not in right.split():
                    last = [step for step in place.split(".") if not step.isdigit()][-1]
                    yield damaged(
                        f"has {kind} as {place}",
                        file,
                        put(file, place, value),
                        last,
                        kind=f"{file} has a field of another type",
                    )


@rows("Priors: fields", *wrong_types())
def test_a_field_of_another_type_is_named(bad_input, tmp_path):
    bad_input.check(tmp_path)


def unreadable(file: str) -> Iterator[BadInput]:
    """Damage that any file of a directory can have."""
    yield damaged("is empty", file, content(file, lambda _: b""), "got 0 bytes")
    yield damaged("is cut off", file, content(file, lambda old: old[: len(old) // 2]))
    yield damaged("is binary", file, content(file, lambda _: np.random.default_rng(0).bytes(500)))
    yield damaged("is in UTF-16", file, content(file, lambda old: old.decode("latin1").encode("utf-16")))
    yield damaged("is a page of the web", file, content(file, lambda _: b"<html>404</html>" * 9))
    yield damaged("is a folder", file, as_folder(file), "is a folder")
    yield damaged("is of a terabyte", file, lambda folder: os.truncate(folder / file, 2**40), "got 1099511627776 bytes")
    yield damaged("is a pipe", file, lambda d: ((d / file).unlink(), os.mkfifo(d / file)), "no regular file")


def no_json(file: str) -> Iterator[BadInput]:
    yield damaged("is a list", file, content(file, lambda _: b"[]"), "expected an object")
    yield damaged("is a number", file, content(file, lambda _: b"1"), "expected an object")
    yield damaged("is nested deeply", file, content(file, lambda _: b'{"a":' * 10**5), "nested too deeply")
    yield damaged("has a key twice", file, content(file, lambda old: b'{"notes": {}, "notes": {},' + old[1:]), "twice")
    yield damaged("has an endless number", file, content(file, lambda _: b'{"format": ' + b"9" * 10**4 + b"}"), "JSON")
    yield damaged("has an unknown key", file, content(file, _with_key), "is unknown")


def _with_key(old: bytes) -> bytes:
    return json.dumps({**json.loads(old), "strange": 1}).encode()


@rows(
    "Priors: files",
    *(row for file in (CONFIG, CALIBRATION, WEIGHTS) for row in unreadable(file)),
    *(row for file in (CONFIG, CALIBRATION) for row in no_json(file)),
    *(damaged("is missing", file, lambda d, file=file: (d / file).unlink(), "missing") for file in (CONFIG, WEIGHTS)),
    *(damaged(f"has no {key}", CONFIG, without(CONFIG, key), key) for key in ("kind", "grid", "preprocessing")),
    *(damaged(f"has no {key}", CALIBRATION, without(CALIBRATION, key), key) for key in ("healthy", "others", "curve")),
)
def test_a_file_that_cannot_be_read_is_named(bad_input, tmp_path):
    bad_input.check(tmp_path)


@rows(
    "Priors: configurations",
    damaged("is of a newer format", CONFIG, put(CONFIG, "format", 2), "got format 2, expected 1; a newer lesioncore"),
    damaged("is of no format", CONFIG, put(CONFIG, "format", None), "got format None"),
    damaged("is of an unknown kind", CONFIG, put(CONFIG, "kind", "flow"), "kind: got 'flow', expected one of .*'vae'"),
    damaged("is of another kind", CONFIG, put(CONFIG, "kind", "unet"), "learned_variance.* is unknown"),
    damaged(
        "has an unknown option",
        CONFIG,
        put(CONFIG, "architecture", lambda old: {**old, "depth": 3}),
        "architecture.depth.* is unknown",
    ),
    damaged("has no channels", CONFIG, put(CONFIG, "architecture.channels", []), "channels: got"),
    damaged("has channels of nothing", CONFIG, put(CONFIG, "architecture.channels", [4, 0]), "channels: got"),
    damaged("has more blocks", CONFIG, put(CONFIG, "architecture.channels", [4] * 10**5), "channels"),
    damaged("has a billion channels", CONFIG, put(CONFIG, "architecture.channels", [10**9] * 2), "[Ss]torage size"),
    damaged("has channels beyond count", CONFIG, put(CONFIG, "architecture.channels", [2**62] * 2)),
    damaged(
        "are for fewer latents", WEIGHTS, put(CONFIG, "architecture.latent_channels", 10**9), r"expected \(1000000000,"
    ),
    damaged("has slices of nothing", CONFIG, put(CONFIG, "architecture.image_shape", [0, 20]), "image_shape"),
    damaged("has other slices", CONFIG, put(CONFIG, "architecture.image_shape", [24, 22]), "image_shape: .* the grid"),
    damaged("has a side too many", CONFIG, put(CONFIG, "grid.shape", [24, 20, 3]), "grid.shape: .* a list of 2"),
    damaged("has a vast grid", CONFIG, put(CONFIG, "grid.shape", [10**6, 10**6]), "shape: .* at most 4096"),
    damaged("has tiny voxels", CONFIG, put(CONFIG, "grid.voxel_size", 1e-9), "voxel_size: got 1e-09, expected 0.05"),
    damaged("has negative voxels", CONFIG, put(CONFIG, "grid.voxel_size", -1.0), "voxel_size"),
    damaged("has an unknown step", CONFIG, put(CONFIG, "preprocessing", ["strip"]), "preprocess: got .'strip'."),
    damaged("has a step twice", CONFIG, put(CONFIG, "preprocessing", ["bias", "bias"]), "each once"),
    damaged("has falling landmarks", CONFIG, put(CONFIG, "intensity.landmarks", lambda old: old[::-1]), "landmarks"),
    damaged("has no spread", CONFIG, put(CONFIG, "intensity.std", 0.0), "std"),
    damaged("has half the percentiles", CONFIG, put(CONFIG, "intensity.percentiles", [1, 2]), "landmarks: got"),
    damaged("has a path as contrast", CONFIG, put(CONFIG, "modality", "../../T1w"), "modality: got '../../T1w'"),
)
def test_a_configuration_that_cannot_be_is_refused(bad_input, tmp_path):
    bad_input.check(tmp_path)


def _header(text: bytes, length: int | None = None) -> Any:
    """Replace the weights by a file with this header."""
    return content(WEIGHTS, lambda _: struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * 64)


def _pickle(old: bytes) -> bytes:
    file = io.BytesIO()
    torch.save({"encoder": torch.zeros(3)}, file)
    return file.getvalue()


_NAME = "output.bias"
_VAST = b'{"output.bias": {"dtype": "F32", "shape": [1152921504606846976], "data_offsets": [0, 4611686018427387904]}}'


@rows(
    "Priors: weights",
    damaged("are of another kind", WEIGHTS, lambda d: _other_weights(d), "has the weights|has no weights|got shape"),
    damaged("are of another shape", WEIGHTS, weights(lambda w: w.update({_NAME: torch.zeros(2)})), r"got shape \(2,\)"),
    damaged("lack a tensor", WEIGHTS, weights(lambda w: w.pop(_NAME)), "has no weights output.bias"),
    damaged("have one more", WEIGHTS, weights(lambda w: w.update(more=torch.zeros(2))), "has the weights more"),
    *(
        damaged(f"are {kind}", WEIGHTS, weights(lambda w, kind=kind: w.update({_NAME: w[_NAME].to(kind)})), "of type")
        for kind in (torch.float64, torch.int8, torch.int64, torch.bool)
    ),
    damaged("are NaN", WEIGHTS, weights(lambda w: w[_NAME].fill_(float("nan"))), "output.bias: has NaN"),
    damaged("are infinite", WEIGHTS, weights(lambda w: w[_NAME].fill_(float("inf"))), "output.bias: has NaN or inf"),
    damaged("have negative variances", WEIGHTS, weights(lambda w: w["encoder.0.norm.running_var"].neg_()), "variances"),
    damaged("claim 2^60 numbers", WEIGHTS, _header(_VAST)),
    damaged("claim a header of 2^60 bytes", WEIGHTS, _header(b"{}", 2**60)),
    damaged("have an empty header", WEIGHTS, _header(b"")),
    damaged("have no tensor", WEIGHTS, _header(b"{}  ")),
    damaged("are a pickle", WEIGHTS, content(WEIGHTS, _pickle)),
)
def test_weights_that_do_not_fit_are_refused(bad_input, tmp_path):
    bad_input.check(tmp_path)


def _other_weights(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_gmvae(metadata=lc.load_prior(directory).metadata)
        other = lc.save_model(model, Path(folder) / "other", card="")
        (directory / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())


def _people(change: Any) -> Any:
    return put(CALIBRATION, "healthy.subjects.0.thresholds", change)


def _bomb(old: str) -> str:
    import base64
    import zlib

    return base64.b64encode(zlib.compress(b"\0" * 10**7)).decode()


@rows(
    "Priors: calibrations",
    damaged("has too few thresholds", CALIBRATION, _people(lambda old: old[1:]), r"healthy.subjects\[0\].thresholds"),
    damaged("has rising thresholds", CALIBRATION, _people(lambda old: old[::-1]), "that fall as the limits rise"),
    damaged("has other limits", CALIBRATION, put(CALIBRATION, "healthy.limits", [0.01]), "limits: .*calibrate again"),
    damaged("has negative counts", CALIBRATION, put(CALIBRATION, "healthy.counts.0", -1), "healthy.counts"),
    damaged("has counts beyond count", CALIBRATION, put(CALIBRATION, "healthy.counts.0", 2**62), "healthy.counts"),
    damaged("has no counts", CALIBRATION, put(CALIBRATION, "healthy.counts", []), "healthy.counts"),
    damaged("has more bins", CALIBRATION, put(CALIBRATION, "healthy.counts", [1] * 20_000), "healthy.counts"),
    damaged("begins below all bins", CALIBRATION, put(CALIBRATION, "healthy.first", -1), "healthy.counts"),
    damaged("has nobody", CALIBRATION, put(CALIBRATION, "healthy.subjects", []), "healthy.subjects: got nobody"),
    damaged("has a brain of two axes", CALIBRATION, put(CALIBRATION, "healthy.subjects.0.extent", [1, 2]), "extent"),
    damaged(
        "has a strange person",
        CALIBRATION,
        put(CALIBRATION, "healthy.subjects.0", lambda old: {**old, "age": 3}),
        "age.* is unknown",
    ),
    damaged("has a strange sign", CALIBRATION, put(CALIBRATION, "others.0.sign", 2), "sign: got 2, expected one of"),
    damaged("smooths without end", CALIBRATION, put(CALIBRATION, "smoothing", 1e9), "smoothing: .* 0 to 100 mm"),
    damaged("smooths by less than nothing", CALIBRATION, put(CALIBRATION, "smoothing", -1.0), "smoothing"),
    damaged("has a negative weight", CALIBRATION, put(CALIBRATION, "tv_weight", -1.0), "tv_weight: got -1.0"),
    damaged(
        "has a map of another encoding", CALIBRATION, put(CALIBRATION, "spread_map.squares", "?"), "squares: is dam"
    ),
    damaged(
        "has a map that is cut off", CALIBRATION, put(CALIBRATION, "spread_map.counts", lambda old: old[:8]), "counts"
    ),
    damaged(
        "has a map that unpacks without end",
        CALIBRATION,
        put(CALIBRATION, "spread_map.counts", _bomb),
        "number of bytes",
    ),
    damaged(
        "has a map of another shape", CALIBRATION, put(CALIBRATION, "spread_map.shape", [3, 6, 6]), "number of bytes"
    ),
    damaged("has a vast map", CALIBRATION, put(CALIBRATION, "spread_map.shape", [10**6] * 3), "spread_map.shape: got"),
    damaged("has a map of nobody", CALIBRATION, put(CALIBRATION, "spread_map.largest_count", 0.0), "largest_count"),
    damaged("has a negative map", CALIBRATION, put(CALIBRATION, "spread_map.largest_count", -1.0), "largest_count"),
)
def test_a_calibration_that_cannot_be_is_refused(bad_input, tmp_path):
    bad_input.check(tmp_path)


def without_origin(directory: Path) -> None:
    """Take the origin from a calibration, which would tell before all else that something was changed."""
    for entry in ("prior", "fingerprint"):
        without(CALIBRATION, entry)(directory)


def settings(name: str, place: str, value: Any, *says: str) -> BadInput:
    """A row: settings of a calibration that no configuration can follow."""

    def use(folder: Path) -> None:
        directory = sound_prior(folder)
        put(CALIBRATION, f"settings.{place}", value)(directory)
        without_origin(directory)
        Run.of(lc.load_prior(directory))

    words = ("prior 'tiny': its calibration has settings", "calibrate it again", *says)
    return BadInput(f"settings {name}", use, ValueError, words)


@rows(
    "Priors: settings",
    settings("of an unknown solver", "solver.name", "newton", "newton"),
    settings("of a solver without a name", "solver", {}, "name"),
    settings("of a solver that is text", "solver", "em"),
    settings("of an unknown option of the solver", "solver", lambda old: {**old, "depth": 3}, "depth"),
    settings("with a text as number", "tv_dimensions", "three", "tv_dimensions: got 'three'"),
    settings("with a number as choice", "standardize", 7, "standardize: got 7"),
    settings("of an unknown step", "preprocess", ["strip"], "strip"),
)
def test_settings_that_no_version_knows_are_refused(bad_input, tmp_path):
    bad_input.check(tmp_path)


def _use(make: Any) -> Any:
    return lambda folder: lc.load_prior(make(folder))


def _in_training(folder: Path) -> Path:
    sound_prior(folder).rename(folder / "model")
    (folder / CONFIG).write_text("{}")
    return folder


def _locked(file: str) -> Any:
    def use(_: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:  # which others than its owner may enter, unlike tmp_path
            os.chmod(folder, 0o755)
            directory = sound_prior(Path(folder))
            with as_plain_user(directory / file):
                lc.load_prior(directory)

    return use


@rows(
    "Priors: directories",
    BadInput("an empty directory", _use(lambda folder: folder), ValueError, (f"{CONFIG}: missing", AGAIN)),
    BadInput(
        "a file as directory",
        _use(lambda folder: sound_prior(folder) / CONFIG),
        FileNotFoundError,
        ("a directory with",),
    ),
    BadInput("no directory", _use(lambda folder: folder / "none"), FileNotFoundError, ("expected a prior",)),
    BadInput(
        "the folder of a training run", _use(_in_training), ValueError, ("training run; its model is in .*/model",)
    ),
    *(
        BadInput(
            f"no permission to read {file}", _locked(file), PermissionError, (rf"{file}: cannot be read \(permission",)
        )
        for file in (CONFIG, CALIBRATION, WEIGHTS)
    ),
)
def test_a_directory_that_is_none_is_named(bad_input, tmp_path):
    bad_input.check(tmp_path)


def test_a_command_says_it_in_one_line(tmp_path, capsys):
    directory = sound_prior(tmp_path)
    put(CONFIG, "grid.voxel_size", "wide")(directory)
    assert main(["restore", str(directory), "-o", str(tmp_path / "out"), "--prior", str(directory)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {directory / CONFIG}: grid.voxel_size: got 'wide', expected a finite number; if")


def test_half_precision_is_taken(tmp_path):
    directory = sound_prior(tmp_path)
    weights(lambda tensors: tensors.update({_NAME: tensors[_NAME].half()}))(directory)
    without_origin(directory)
    with pytest.warns(UserWarning, match="does not say which model"):
        loaded = load_model(directory)
    assert loaded.output.bias.dtype == torch.float32
