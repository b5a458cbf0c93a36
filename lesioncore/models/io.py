"""Models as directories: ``model.safetensors``, ``config.json``, ``calibration.json`` and a model card. No pickle."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from lesioncore import prior_names
from lesioncore.calibration.record import Calibration
from lesioncore.data.files import replace_directory, write_json
from lesioncore.models.calibration_origin import with_origin
from lesioncore.models.directory import FORMAT, fingerprint, read_model
from lesioncore.models.hub import fetch, is_hub_name
from lesioncore.models.plugins import load_plugin
from lesioncore.models.prior import Prior
from lesioncore.models.registry import kind_of
from lesioncore.prior_names import CALIBRATION, CARD, CONFIG, MODEL, embedded_priors, plugin_priors
from lesioncore.words import people


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
        raise FileNotFoundError(f"name: {prior_names.unknown(os.fspath(name))}")
    model = read_model(directory)
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
    return read_model(directory)


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
            _write_calibration(folder, metadata.calibration)
        (folder / CARD).write_text(card, encoding="utf-8")
    return target


_RECALIBRATED = """
## Calibrated anew

The weight, the smoothing and the thresholds of this copy (`calibration.json`) are from {people};
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
        _write_calibration(source, calibration)
        return source
    target = Path(directory)
    if target.exists():
        raise FileExistsError(f"directory: {target} exists; remove it, or choose another")
    with replace_directory(target) as folder:
        for file in (MODEL, CONFIG, CARD):
            shutil.copyfile(source / file, folder / file)
        with (folder / CARD).open("a", encoding="utf-8") as card:
            card.write(_RECALIBRATED.format(people=people(calibration.subjects, "other healthy")))
        _write_calibration(folder, calibration)
    return target


def model_directory(name: str | os.PathLike[str]) -> Path | None:
    """Directory of an embedded prior's name, of a model on the hub (fetched), or of a path, if it is one."""
    if is_hub_name(name):
        return fetch(os.fspath(name))
    directory = prior_names.EMBEDDED / name if name in embedded_priors() else Path(name)
    return directory if directory.is_dir() else None


def _write_calibration(directory: Path, calibration: Calibration) -> None:
    values = with_origin(calibration, fingerprint(directory))
    write_json(directory / CALIBRATION, values, indent=1, number_rows=True)
