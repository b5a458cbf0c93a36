"""Detectors by name, and the methods that a model offers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

from lesioncore.detectors.base import Detector
from lesioncore.detectors.intensity import EqualizedThreshold, IntensityThreshold
from lesioncore.detectors.mean import MeanDistance
from lesioncore.detectors.residual import AnoGANDetector, MAPDetector, ProjectionDetector
from lesioncore.detectors.unet import UNetDetector
from lesioncore.models.anogan import AnoGAN
from lesioncore.models.healthy_mean import HealthyMean
from lesioncore.models.io import load_model, load_prior
from lesioncore.models.prior import Prior
from lesioncore.models.unet import UNet
from lesioncore.scoring.options import Scoring

METHODS = {
    "map": "MAP restoration under a prior (VAE, GMVAE and others with an ELBO)",
    "projection": "distance to a model's own reconstruction (VAE, GMVAE, AAE, AnoGAN), smoothed on request",
    "unet": "lesion probability of a supervised U-Net",
    "mean-distance": "distance to the healthy mean image",
    "intensity": "threshold of the standardised intensity; takes a model's intensity scale alone",
    "equalized": "threshold of the histogram-equalised intensity; takes no model at all",
}
"""Names of all methods, with a description of each."""


def load_detector(name: str | os.PathLike[str], method: str | None = None, **options: Any) -> Detector:
    """Load a model and make a detector of it.

    Parameters
    ----------
    name : str or path
        Name of a prior or directory of a model, as for :func:`lesioncore.load_prior` and :func:`lesioncore.load_model`.
    method : str, optional
        One of `METHODS` that the model offers; when absent, its first: ``"map"`` for a prior, ``"projection"`` for
        other models that reconstruct, and a U-Net's or a healthy mean's only one.
    **options
        Options of the method's class, such as ``sign=1``, ``config=RestoreConfig(...)`` for ``"map"`` or
        ``smoothing=4.0`` (mm) for ``"projection"``.

    Returns
    -------
    Detector
        Detector, calibrated if the directory holds thresholds for these settings.

    Raises
    ------
    FileNotFoundError
        If there is no prior or model of that name.
    ValueError
        If the model does not offer the method, a file is damaged, or an option is out of its range.
    TypeError
        If the method does not take an option.
    """
    model: Any
    try:
        model = load_model(name)
    except FileNotFoundError:
        model = load_prior(name)  # a prior of another package, or an error that lists the priors
    return make_detector(model, method, **options)


def make_detector(model: Any, method: str | None = None, **options: Any) -> Detector:
    """Make a detector of a model in memory.

    Parameters
    ----------
    model : object
        Model or prior.
    method, **options
        As for :func:`load_detector`.

    Returns
    -------
    Detector
        Calibrated if the model's metadata holds thresholds for these settings.

    Raises
    ------
    ValueError, TypeError
        As for :func:`load_detector`.
    """
    offered = _offered(model)
    method = next(iter(offered)) if method is None else method
    if method not in offered:
        raise ValueError(
            f"method: got {method!r}, expected one that {type(model).__name__} offers: {', '.join(offered)}"
        )
    check_options(method, options, options_of(offered[method]))
    argument = getattr(model, "metadata", None) if method in ("intensity", "equalized") else model
    return offered[method](argument, **options)


def options_of(detector: Callable[..., Detector]) -> list[str]:
    """Names of a detector's options, beside its model."""
    parameters = list(inspect.signature(detector).parameters.values())[1:]
    names = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    if len(names) < len(parameters):  # **options goes to Scoring, of AnoGANDetector by way of ProjectionDetector
        names += [*options_of(ProjectionDetector)] if detector is AnoGANDetector else []
        names += [field.name for field in fields(Scoring)]
    return list(dict.fromkeys(names))


def check_options(method: str, options: Iterable[str], allowed: Sequence[str]) -> None:
    """Raise ``TypeError`` if a method does not take one of the options."""
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise TypeError(f"options: got {', '.join(unknown)}, but {method!r} takes {', '.join(allowed)}")


def _offered(model: Any) -> dict[str, Callable[..., Detector]]:
    """Return the methods that a model offers, the default first."""
    offered: dict[str, Callable[..., Detector]] = {}
    if isinstance(model, UNet):
        offered["unet"] = UNetDetector
    elif isinstance(model, HealthyMean):
        offered["mean-distance"] = MeanDistance
    elif isinstance(model, AnoGAN):
        offered["projection"] = AnoGANDetector
    else:
        if isinstance(model, Prior):
            offered["map"] = MAPDetector
        if hasattr(model, "reconstruct"):
            offered["projection"] = ProjectionDetector
    return {**offered, "intensity": IntensityThreshold, "equalized": EqualizedThreshold}
