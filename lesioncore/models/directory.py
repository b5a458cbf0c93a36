"""Reading of a model's directory, whose files are data: bounded and checked before anything is made of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lesioncore.calibration.record import Calibration
from lesioncore.data.grid import SliceGrid
from lesioncore.data.json_files import read_object
from lesioncore.data.json_form import check_form
from lesioncore.data.text_files import check_file
from lesioncore.models.calibration_origin import check_origin, without_origin
from lesioncore.models.prior import PriorMetadata
from lesioncore.models.registry import classes_of
from lesioncore.preprocess.pipeline import check_steps
from lesioncore.preprocess.scale import scale_from_dict
from lesioncore.prior_names import CALIBRATION, CARD, CONFIG, MODEL
from lesioncore.torch_modes import own_modes

FORMAT = 1
"""Version of the directory's layout."""

LARGEST = {MODEL: 4 * 2**30, CONFIG: 16 * 2**20, CALIBRATION: 256 * 2**20, CARD: 2**20}
"""Bytes that the files may have: about a thousand times those of the embedded priors."""

_FLOATING = ("F32", "F16", "BF16")
"""Types of stored weights that float32 holds without loss."""

_AGAIN = "copy the directory again from its source"


class _GridForm(TypedDict):
    voxel_size: float
    shape: tuple[int, int]


class _ConfigForm(TypedDict):
    format: int
    kind: str
    name: str
    modality: str | None
    architecture: dict[str, Any]
    grid: _GridForm | None
    intensity: dict[str, Any] | None
    preprocessing: list[str]
    training: dict[str, Any] | None


@own_modes()
def read_model(directory: Path) -> nn.Module:
    """Read a model with its metadata.

    Raises
    ------
    ValueError
        If a file is missing, damaged, too large, of a newer format, or does not fit the others; the message names it
        and says what to do.
    OSError
        If a file cannot be read.
    """
    path = directory / CONFIG
    with _explained(path):
        values = read_object(path, LARGEST[CONFIG])
        if "format" not in values and (directory / "model" / CONFIG).is_file():
            raise ValueError(f"is in the folder of a training run; its model is in {directory / 'model'}")
        if values.get("format") != FORMAT:
            raise ValueError(
                f"got format {values.get('format')!r}, expected {FORMAT}; a newer lesioncore may be needed"
            )
        check_form(values, _ConfigForm)
        model_class, config_class = classes_of(values["kind"])
        check_form(values["architecture"], config_class, "architecture")
        config, metadata = config_class(**values["architecture"]), _metadata(values)
        shape = tuple(getattr(config, "image_shape", ()))
        if metadata.grid is not None and shape and shape != tuple(metadata.grid.shape):
            raise ValueError(f"architecture.image_shape: got {shape}, expected that of the grid, {metadata.grid.shape}")
        with torch.device("meta"):  # which allocates nothing: the weights are to be as large as the configuration says
            expected = model_class(config).state_dict()
    weights = read_weights(directory / MODEL, expected)
    model: Any = model_class(config)
    model.load_state_dict(weights)
    own = fingerprint(directory)
    calibration = _read_calibration(directory / CALIBRATION, own)
    model.metadata = replace(metadata, fingerprint=own, calibration=calibration)
    return model.eval()


def fingerprint(directory: Path) -> str:
    """SHA-256 of a model's weights and configuration, as they are stored."""
    return hashlib.sha256((directory / MODEL).read_bytes() + (directory / CONFIG).read_bytes()).hexdigest()


def _read_calibration(path: Path, prior: str) -> Calibration | None:
    """Read the calibration of a model, given its fingerprint; None where there is none."""
    if not path.exists():
        return None
    with _explained(path):
        values = read_object(path, LARGEST[CALIBRATION])
        calibration = Calibration.from_dict(without_origin(values))
    check_origin(path, values, calibration, prior)
    return calibration


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights of a network.

    Parameters
    ----------
    path : Path
        A file of safetensors.
    expected : mapping of str to Tensor
        The network's tensors, of which shapes and kinds of numbers alone are looked at.

    Raises
    ------
    ValueError, OSError
        As for :func:`read_model`; also if a weight is NaN or infinite.
    """
    with _explained(path):
        check_file(path, LARGEST[MODEL])
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            for name, tensor in expected.items():
                if name not in names:
                    raise ValueError(f"has no weights {name}, which {CONFIG} asks for")
                stored = file.get_slice(name)
                if tuple(stored.get_shape()) != tuple(tensor.shape):
                    raise ValueError(
                        f"{name}: got shape {tuple(stored.get_shape())}, expected {tuple(tensor.shape)} by {CONFIG}"
                    )
                kinds = _FLOATING if tensor.is_floating_point() else ("I64",)
                if stored.get_dtype() not in kinds:
                    raise ValueError(f"{name}: got numbers of type {stored.get_dtype()}, expected {' or '.join(kinds)}")
            if unknown := sorted(names - set(expected)):
                raise ValueError(f"has the weights {unknown[0]}, which no model of {CONFIG} has")
            weights = {name: file.get_tensor(name) for name in expected}
        for name, tensor in weights.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{name}: has NaN or infinite weights")
            if name.endswith("running_var") and tensor.min() < 0:
                raise ValueError(f"{name}: has negative variances")
    return weights


def _metadata(values: Mapping[str, Any]) -> PriorMetadata:
    """Metadata of a configuration of this form, without its calibration."""
    modality, grid, intensity = values["modality"], values["grid"], values["intensity"]
    if modality is not None and re.fullmatch("[0-9A-Za-z]+", modality) is None:
        raise ValueError(f"modality: got {modality[:40]!r}, expected a suffix of BIDS, such as T2w")
    return PriorMetadata(
        values["name"],
        modality,
        None if grid is None else SliceGrid(grid["voxel_size"], (grid["shape"][0], grid["shape"][1])),
        None if intensity is None else scale_from_dict(intensity),
        preprocessing=check_steps(values["preprocessing"]),
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise what goes wrong with a file as ``ValueError`` or ``OSError`` that names it and says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: missing; a model's directory holds {MODEL}, {CONFIG}, {CALIBRATION} and {CARD}; {_AGAIN}"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(f"{path}: cannot be read ({reason}); check the file and its permissions") from error
    # Classes that are made of the file's values may raise anything; torch has its own words for sizes that overflow.
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, SafetensorError) as error:
        text = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {text}; if the file is damaged, {_AGAIN}") from error
