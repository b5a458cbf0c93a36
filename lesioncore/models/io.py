"""Models as directories: ``model.safetensors``, ``config.json``, ``calibration.json`` and a model card. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lesioncore import prior_names
from lesioncore.calibration.record import Calibration
from lesioncore.data.files import replace_directory, write_json
from lesioncore.data.grid import SliceGrid
from lesioncore.models.hub import fetch, is_hub_name
from lesioncore.models.plugins import load_plugin
from lesioncore.models.prior import Prior, PriorMetadata
from lesioncore.models.registry import classes_of, kind_of
from lesioncore.preprocess.pipeline import check_steps
from lesioncore.preprocess.scale import scale_from_dict
from lesioncore.prior_names import CALIBRATION, CARD, CONFIG, MODEL, available_priors, embedded_priors, plugin_priors

FORMAT = 1
"""Version of the directory's layout."""


def load_prior(name: str | os.PathLike[str]) -> Prior:
    """Load a prior.

    Parameters
    ----------
    name : str or path
        Name of an embedded prior such as ``"phantom-t2"``; or a directory written by :func:`save_model`; or the name of
        a prior that another installed package offers (:mod:`lesioncore.models.plugins`). The first that there is, in
        this order. ``"hf://owner/name@revision"`` is a prior on the Hugging Face hub (:mod:`lesioncore.models.hub`).

    Returns
    -------
    Prior
        On the CPU; one of this package is in evaluation mode and has its ``metadata`` set.

    Raises
    ------
    FileNotFoundError
        If there is no prior of that name.
    ValueError
        If a file is missing, damaged, of a newer format, or does not fit the others; the message names it.
    TypeError
        If the directory holds a model that is no prior, or another package's entry point returns none.
    ImportError, RuntimeError
        If another package's prior cannot be imported, or fails to load; or one on the hub cannot be fetched.
    """
    directory = model_directory(name)
    if directory is None:
        if name in plugin_priors():
            return load_plugin(str(name))
        raise FileNotFoundError(
            f"name: got {os.fspath(name)!r}, expected a prior: one of {sorted(available_priors())}, a directory with"
            f" {CONFIG} and {MODEL}, or hf://owner/name"
        )
    model = _load(directory)
    if not isinstance(model, Prior):
        raise TypeError(
            f"name: {os.fspath(name)!r} holds a model of kind {kind_of(model)!r} ({type(model).__name__}), which has no"
            " ELBO and cannot restore; use it with lesioncore.detectors.load_detector"
        )
    return model


def load_model(name: str | os.PathLike[str]) -> nn.Module:
    """Load a model of any registered kind (:mod:`lesioncore.models.registry`).

    Parameters
    ----------
    name : str or path
        Name of an embedded prior, a directory written by :func:`save_model`, or ``"hf://owner/name@revision"``.

    Returns
    -------
    nn.Module
        In evaluation mode on the CPU, with ``metadata`` set.

    Raises
    ------
    FileNotFoundError
        If there is neither an embedded prior nor a directory of that name.
    ValueError
        If a file is missing, damaged, of a newer format, or does not fit the others; the message names it.
    ImportError, RuntimeError
        If one on the hub cannot be fetched.
    """
    directory = model_directory(name)
    if directory is None:
        raise FileNotFoundError(
            f"name: got {os.fspath(name)!r}, expected a model: a directory with {CONFIG} and {MODEL}, one of"
            f" {embedded_priors()}, or hf://owner/name"
        )
    return _load(directory)


def _load(directory: Path) -> nn.Module:
    values = _read_json(directory / CONFIG)
    if "format" not in values and (directory / "model" / CONFIG).is_file():
        raise ValueError(f"name: {directory} is the folder of a training run; its model is in {directory / 'model'}")
    if values.get("format") != FORMAT:
        raise ValueError(
            f"{directory / CONFIG}: got format {values.get('format')!r}, expected {FORMAT}; a newer lesioncore may be"
            " needed"
        )
    try:
        model_class, config_class = classes_of(values.get("kind"))
    except ValueError as error:
        raise ValueError(f"{directory / CONFIG}: {error}") from error
    try:
        model = model_class(config_class(**values["architecture"]))
        grid = (
            None if values["grid"] is None else SliceGrid(values["grid"]["voxel_size"], tuple(values["grid"]["shape"]))
        )
        intensity = None if values["intensity"] is None else scale_from_dict(values["intensity"])
        calibration_file = directory / CALIBRATION
        calibration = None
        if calibration_file.exists():
            stored = _read_json(calibration_file)
            try:
                calibration = Calibration.from_dict(stored)
            except ValueError as error:
                raise ValueError(f"{calibration_file}: {error}") from error
        steps = check_steps(values["preprocessing"])
        metadata = PriorMetadata(values["name"], values["modality"], grid, intensity, calibration, preprocessing=steps)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{directory}: {CONFIG} or {CALIBRATION} is incomplete or damaged: {error}") from error
    weights = directory / MODEL
    if not weights.is_file():
        raise ValueError(f"{weights}: missing; a model's directory holds {MODEL}, {CONFIG}, {CALIBRATION} and {CARD}")
    try:
        tensors = load_file(weights)
        model.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{weights}: does not fit {CONFIG}: {error}") from error
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(
            f"{weights}: got NaN or infinite weights in {len(broken)} tensors, such as {broken[0]}, expected finite"
            " ones; copy the file again, or train again"
        )
    digest = hashlib.sha256(weights.read_bytes() + (directory / CONFIG).read_bytes()).hexdigest()
    model.metadata = replace(metadata, fingerprint=digest)  # type: ignore[assignment]
    return model.eval()


def save_model(
    model: nn.Module,
    directory: str | os.PathLike[str],
    *,
    card: str,
    training: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model of any registered kind as a directory, complete or not at all.

    Parameters
    ----------
    model : nn.Module
        A prior or another model (:mod:`lesioncore.models.registry`), with its ``metadata`` set.
    directory : path
        Where to write.
    card : str
        The model card (Markdown): data, licence, metrics, limits.
    training : dict, optional
        How it was trained (JSON-able), kept in ``config.json``.
    overwrite : bool
        Replace an existing model's directory.

    Raises
    ------
    FileExistsError
        If `directory` exists and `overwrite` is false, or it exists and is no model's directory.
    TypeError
        If the model's class is not registered.
    ValueError
        If the model has no metadata.
    """
    kind = kind_of(model)
    metadata: Any = model.metadata
    if metadata is None:
        raise ValueError("model: its metadata is None; set model.metadata = PriorMetadata(name, ...) before saving")
    target = Path(directory)
    if target.exists() and not (overwrite and (target / CONFIG).is_file()):
        raise FileExistsError(f"directory: {target} exists; remove it, or give overwrite=True to replace a model")
    config: Any = model.config
    values = {
        "format": FORMAT,
        "kind": kind,
        "name": metadata.name,
        "modality": metadata.modality,
        "architecture": asdict(config),
        "grid": None if metadata.grid is None else asdict(metadata.grid),
        "intensity": None if metadata.intensity is None else metadata.intensity.to_dict(),
        "preprocessing": list(metadata.preprocessing),
        "training": training,
    }
    with replace_directory(target) as folder:
        weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        save_file(weights, folder / MODEL)
        write_json(folder / CONFIG, values, indent=1, number_rows=True)
        if metadata.calibration is not None:
            write_json(folder / CALIBRATION, metadata.calibration.to_dict(), indent=1, number_rows=True)
        (folder / CARD).write_text(card)
    return target


_RECALIBRATED = """
## Calibrated anew

The weight, the smoothing and the thresholds of this copy (`calibration.json`) are from {subjects} other healthy people;
what is said above of the calibration holds for the original.
"""


def save_calibration(
    name: str | os.PathLike[str], calibration: Calibration, directory: str | os.PathLike[str] | None = None
) -> Path:
    """Give a model's directory, or a copy of it, another calibration; a copy's card says so.

    Parameters
    ----------
    name : str or path
        As for :func:`load_model`.
    calibration : Calibration
        From :func:`lesioncore.calibrate` or :meth:`lesioncore.Detector.thresholds`.
    directory : path, optional
        Where the copy goes; the model's own directory is changed when absent.

    Returns
    -------
    Path
        The directory with the calibration.

    Raises
    ------
    FileNotFoundError
        If there is no model of that name.
    FileExistsError
        If `directory` exists.
    ValueError
        If it is absent and the model is an embedded one, or on the hub.
    """
    if directory is None and is_hub_name(name):
        raise ValueError(f"directory: {name} is on the hub and stays; name a folder for a copy")
    source = model_directory(name)
    if source is None or not (source / CONFIG).is_file():
        raise FileNotFoundError(f"name: got {os.fspath(name)!r}, expected the name or directory of a model")
    if directory is None:
        if source.parent == prior_names.EMBEDDED:
            raise ValueError(f"directory: {source.name} is part of lesioncore and stays; name a folder for a copy")
        write_json(source / CALIBRATION, calibration.to_dict(), indent=1, number_rows=True)
        return source
    target = Path(directory)
    if target.exists():
        raise FileExistsError(f"directory: {target} exists; remove it, or choose another")
    with replace_directory(target) as folder:
        for file in (MODEL, CONFIG, CARD):
            shutil.copyfile(source / file, folder / file)
        with (folder / CARD).open("a") as card:
            card.write(_RECALIBRATED.format(subjects=calibration.subjects))
        write_json(folder / CALIBRATION, calibration.to_dict(), indent=1, number_rows=True)
    return target


def model_directory(name: str | os.PathLike[str]) -> Path | None:
    """Directory of an embedded prior's name, of a model on the hub (fetched), or of a path, if it is one."""
    if is_hub_name(name):
        return fetch(os.fspath(name))
    directory = prior_names.EMBEDDED / name if name in embedded_priors() else Path(name)
    return directory if directory.is_dir() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing; a model's directory holds {MODEL}, {CONFIG} and {CARD}") from error
    except ValueError as error:
        raise ValueError(f"{path}: is no valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: got {type(values).__name__}, expected an object")
    return values
