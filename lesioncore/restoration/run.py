"""Runs of restoration: all that is decided once, before any scan is read."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from lesioncore.calibration.record import Calibration
from lesioncore.engine.device import resolve_device
from lesioncore.engine.precision import precision_for
from lesioncore.metrics.limits import LIMITS
from lesioncore.models.prior import PriorMetadata, metadata_of
from lesioncore.restoration.config import RestoreConfig
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.spread_map import SpreadMap


@dataclass(frozen=True, kw_only=True)
class Run:
    """A configuration with all options decided for one prior and device, and the calibration that holds for it.

    Public functions make it by :meth:`of` and pass it on, so that the functions below them do not decide options again.

    Attributes
    ----------
    metadata : PriorMetadata
        The prior's metadata.
    config : RestoreConfig
        The configuration with all options decided.
    tv_weight : float
        Data-consistency weight lambda (paper Eq. 6): the configuration's, else the calibration's.
    scoring : Scoring
        How residuals are scored; its smoothing is the configuration's, else the calibration's.
    calibration : Calibration or None
        The prior's calibration if it was made for these settings.
    device : torch.device
        Device on which the prior computes.
    precision : str
        Number format that the prior's network multiplies in.
    """

    metadata: PriorMetadata
    config: RestoreConfig
    tv_weight: float
    scoring: Scoring
    calibration: Calibration | None
    device: torch.device
    precision: str

    @classmethod
    def of(
        cls,
        prior: Any,
        config: RestoreConfig | None = None,
        device: str | torch.device = "auto",
        *,
        tv_weight: float | None = None,
    ) -> Run:
        """Decide the options that a configuration does not give, for a prior on a device.

        Parameters
        ----------
        prior : Prior
            Any object with ``elbo(x) -> [N]``.
        config : RestoreConfig, optional
            Solver and objective.
        device : str or torch.device
            ``"auto"`` takes a CUDA device where there is one, else the CPU.
        tv_weight : float, optional
            Weight to take where `config` gives none, instead of the prior's calibrated weight.

        Raises
        ------
        ValueError
            If there is no weight, the device does not exist, or it or the prior does not have the precision.
        TypeError
            If `prior` has no ``elbo``.
        """
        config = (config or RestoreConfig()).for_prior(prior)
        metadata, target = metadata_of(prior), resolve_device(device)
        calibration = metadata.calibration
        if calibration is not None and calibration.tv_weight is None:  # it is another detector's
            calibration = None
        weight = config.tv_weight if config.tv_weight is not None else tv_weight
        if weight is None and calibration is not None:
            weight = calibration.tv_weight
        if weight is None:
            raise ValueError(
                f"tv_weight: prior {metadata.name!r} carries no calibration of restoration; give"
                " RestoreConfig(tv_weight=...) or run lesioncore.calibrate on healthy scans"
            )
        smoothing = config.smoothing
        if smoothing is None:
            smoothing = 0.0 if calibration is None else calibration.smoothing
        return cls(
            metadata=metadata,
            config=config,
            tv_weight=weight,
            scoring=config.scoring(smoothing),
            calibration=calibration and calibration.for_settings(config.settings(), weight, smoothing),
            device=target,
            precision=precision_for(config.precision, target, prior),
        )

    def on(self, device: str | torch.device, prior: Any) -> Run:
        """The same run on another device; `prior` is the run's.

        Raises
        ------
        ValueError
            If the device does not exist, or it or the prior does not have the precision.
        """
        target = resolve_device(device)
        return replace(self, device=target, precision=precision_for(self.config.precision, target, prior))

    @property
    def spread_map(self) -> SpreadMap | None:
        """The calibration's map of healthy people's spread, if scores are divided by it.

        Raises
        ------
        ValueError
            If scores are to be divided by a map, and there is none.
        """
        return self.metadata.spread_map(self.scoring.spread_map)

    def decided(self, seed: int | None) -> dict[str, Any]:
        """All options that decide the result of a scan, in the form of the sidecar (JSON-able)."""
        thresholds = self.calibration and {f"{limit:g}": self.calibration.threshold(limit) for limit in LIMITS}
        return {
            "Prior": self.metadata.name,
            "PriorFingerprint": self.metadata.fingerprint,
            "CalibrationFingerprint": self.metadata.calibration and self.metadata.calibration.fingerprint,
            "Settings": self.config.settings(),
            "Normalized": self.config.normalized,
            "TVWeight": self.tv_weight,
            "Smoothing": self.scoring.smoothing,
            "Thresholds": thresholds,
            "PostProcessing": asdict(self.config.postprocessing),
            "Seed": seed,
            "Precision": self.precision,
        }

    def warn_of_settings(self, *, stacklevel: int) -> None:
        """Warn if the prior has a calibration, but it does not hold for this run."""
        calibration = self.metadata.calibration
        if self.calibration is not None or calibration is None or calibration.tv_weight is None:
            return
        calibrated = {
            **_flattened(calibration.settings),
            "tv_weight": calibration.tv_weight,
            "smoothing": calibration.smoothing,
        }
        given = {
            **_flattened(self.config.settings()),
            "tv_weight": self.tv_weight,
            "smoothing": self.scoring.smoothing,
        }
        if given["solver"] != calibrated["solver"]:  # the other options depend on the solver
            given, calibrated = {"solver": given["solver"]}, {"solver": calibrated["solver"]}
        differences = []
        for name in dict.fromkeys([*given, *calibrated]):
            ours, theirs = (repr(values[name]) if name in values else "off" for values in (given, calibrated))
            if ours != theirs:
                differences.append(f"{name} {ours}, not {theirs}")
        warnings.warn(
            f"prior {self.metadata.name!r} was calibrated with other settings ({'; '.join(differences)}): its"
            " thresholds do not hold, so the result has no masks. lesioncore.calibrate makes thresholds for these"
            " settings.",
            stacklevel=stacklevel + 1,
        )


@dataclass(frozen=True, kw_only=True)
class RunRecord(Run):
    """A finished run, for the saved sidecar.

    Attributes
    ----------
    backend : str or None
        How the prior's gradient was computed (:attr:`lesioncore.engine.gradient.ElboGradient.backend`).
    seed : int or None
        Seed of the latent samples; None where the latents' mean was taken.
    seconds : float
        Wall-clock time for each scan.
    """

    backend: str | None
    seed: int | None
    seconds: float

    @classmethod
    def after(cls, run: Run, **facts: Any) -> RunRecord:
        """The record of a run, with the facts that are known after it: backend, seed and seconds."""
        return cls(**{field.name: getattr(run, field.name) for field in fields(Run)}, **facts)

    def without_thresholds(self) -> RunRecord:
        """The same record without a calibration, for a scan for which the thresholds do not hold."""
        return replace(self, calibration=None)


def _flattened(settings: dict[str, Any]) -> dict[str, Any]:
    """Flatten settings: the solver's options beside the others, and its name as ``solver``."""
    solver = dict(settings["solver"])
    return {**settings, "solver": solver.pop("name"), **solver}
