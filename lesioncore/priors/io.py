"""Priors as directories: ``model.safetensors``, ``config.json``, ``calibration.json`` and a model card. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lesioncore.calibration import Calibration
from lesioncore.data.grid import SliceGrid
from lesioncore.preprocess.intensity import IntensityScale
from lesioncore.priors.base import PriorMetadata
from lesioncore.priors.vae import VAE, VAEConfig

FORMAT = 1
"""Version of the directory's layout."""

EMBEDDED = Path(__file__).parent / "embedded"
"""Where the priors that come with the package lie."""

MODEL, CONFIG, CALIBRATION, CARD = "model.safetensors", "config.json", "calibration.json", "README.md"


def embedded_priors() -> list[str]:
    """Names of the priors that come with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CONFIG}"))


def load_prior(name: str | os.PathLike[str]) -> VAE:
    """Load a prior.

    Parameters
    ----------
    name : str or path
        Name of an embedded prior such as ``"phantom-t2"``, or a directory written by :func:`save_prior`.

    Returns
    -------
    VAE
        In evaluation mode on the CPU, with ``metadata`` set.

    Raises
    ------
    FileNotFoundError
        If there is neither an embedded prior nor a directory of that name.
    ValueError
        If a file is missing, damaged, of a newer format, or does not fit the others; the message names it.
    """
    directory = EMBEDDED / name if isinstance(name, str) and name in embedded_priors() else Path(name)
    if not directory.is_dir():
        raise FileNotFoundError(
            f"name: no prior {os.fspath(name)!r}; expected one of {embedded_priors()} or a directory with {CONFIG} and"
            f" {MODEL}"
        )
    values = _read_json(directory / CONFIG)
    if values.get("format") != FORMAT or values.get("kind") != "vae":
        raise ValueError(
            f"{directory / CONFIG}: format {values.get('format')!r} of kind {values.get('kind')!r}, expected format"
            f" {FORMAT} of kind 'vae'; a newer lesioncore may be needed"
        )
    try:
        model = VAE(VAEConfig(**values["architecture"]))
        grid = (
            None if values["grid"] is None else SliceGrid(values["grid"]["voxel_size"], tuple(values["grid"]["shape"]))
        )
        intensity = None if values["intensity"] is None else IntensityScale.from_dict(values["intensity"])
        calibration_file = directory / CALIBRATION
        calibration = Calibration.from_dict(_read_json(calibration_file)) if calibration_file.exists() else None
        metadata = PriorMetadata(values["name"], values["modality"], grid, intensity, calibration)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{directory}: {CONFIG} or {CALIBRATION} is incomplete or damaged: {error}") from error
    weights = directory / MODEL
    if not weights.is_file():
        raise ValueError(f"{weights}: missing; a prior directory holds {MODEL}, {CONFIG}, {CALIBRATION} and {CARD}")
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{weights}: does not fit {CONFIG}: {error}") from error
    digest = hashlib.sha256(weights.read_bytes() + (directory / CONFIG).read_bytes()).hexdigest()
    model.metadata = replace(metadata, fingerprint=digest)
    return model.eval()


def save_prior(
    prior: VAE,
    directory: str | os.PathLike[str],
    *,
    card: str,
    training: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a prior as a directory, complete or not at all.

    Parameters
    ----------
    prior : VAE
        With its ``metadata`` set.
    directory : path
        Where to write.
    card : str
        The model card (Markdown): data, licence, metrics, limits.
    training : dict, optional
        How it was trained (JSON-able), kept in ``config.json``.
    overwrite : bool
        Replace an existing prior directory.

    Raises
    ------
    FileExistsError
        If `directory` exists and `overwrite` is false, or it exists and is no prior directory.
    ValueError
        If the prior has no metadata.
    """
    if prior.metadata is None:
        raise ValueError("prior: its metadata is None; set VAE.metadata (name, grid, intensity) before saving")
    target = Path(directory)
    if target.exists() and not (overwrite and (target / CONFIG).is_file()):
        raise FileExistsError(f"directory: {target} exists; remove it, or give overwrite=True to replace a prior")
    metadata = prior.metadata
    values = {
        "format": FORMAT,
        "kind": "vae",
        "name": metadata.name,
        "modality": metadata.modality,
        "architecture": asdict(prior.config),
        "grid": None if metadata.grid is None else asdict(metadata.grid),
        "intensity": None if metadata.intensity is None else metadata.intensity.to_dict(),
        "training": training,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        weights = {key: value.detach().cpu().contiguous() for key, value in prior.state_dict().items()}
        save_file(weights, temporary / MODEL)
        _write_json(values, temporary / CONFIG)
        if metadata.calibration is not None:
            _write_json(metadata.calibration.to_dict(), temporary / CALIBRATION)
        (temporary / CARD).write_text(card)
        # Readable by others whatever the temporary directory's and safetensors' own modes.
        temporary.chmod(0o755)
        for file in temporary.iterdir():
            file.chmod(0o644)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing; a prior directory holds {MODEL}, {CONFIG}, {CALIBRATION}") from error
    except ValueError as error:
        raise ValueError(f"{path}: is no valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds {type(values).__name__}, expected an object")
    return values


def _write_json(values: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n")
