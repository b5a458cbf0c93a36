"""A run of restoration: everything that is decided once, before any scan is read."""

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
    """A configuration as it is for one prior: what solves, what scores, and which thresholds hold.

    Made by :meth:`of` at the door, and handed down from there: nothing below asks the prior or its calibration again.

    Attributes
    ----------
    metadata : PriorMetadata
        The prior's.
    config : RestoreConfig
        With all options decided.
    tv_weight : float
        Data-consistency weight lambda (paper Eq. 6): the configuration's, else the calibration's.
    scoring : Scoring
        How residuals are scored; its smoothing is the configuration's, else the calibration's.
    calibration : Calibration or None
        The prior's calibration if it was made for these settings.
    device : torch.device
        Where the prior computes.
    precision : str
        What its network multiplies in there.
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
        """Decide what is open in a configuration for a prior on a device.

        Parameters
        ----------
        prior : Prior
            Any object with ``elbo(x) -> [N]``.
        config : RestoreConfig, optional
            Solver and objective.
        device : str or torch.device
            ``"auto"`` takes a CUDA device where there is one, else the CPU.
        tv_weight : float, optional
            Weight to take where `config` gives none, in place of the prior's calibrated one.

        Raises
        ------
        ValueError
            If there is no weight, no such device, or the device or prior has no such precision.
        TypeError
            If `prior` has no ``elbo``.
        """
        config = (config or RestoreConfig()).for_prior(prior)
        metadata, target = metadata_of(prior), resolve_device(device)
        calibration = metadata.calibration
        if calibration is not None and calibration.tv_weight is None:  # another detector's
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
        """The same run on a device.

        Raises
        ------
        ValueError
            If there is no such device, or it or the prior has no such precision.
        """
        target = resolve_device(device)
        return replace(self, device=target, precision=precision_for(self.config.precision, target, prior))

    @property
    def spread_map(self) -> SpreadMap | None:
        """The calibration's map of healthy people's spread, if scores are divided by it.

        Raises
        ------
        ValueError
            If they are to be, and there is none.
        """
        return self.metadata.spread_map(self.scoring.spread_map)

    def decided(self, seed: int | None) -> dict[str, Any]:
        """What decides the result of a scan, as the sidecar has it (JSON-able)."""
        thresholds = self.calibration and {f"{limit:g}": self.calibration.threshold(limit) for limit in LIMITS}
        return {
            "Prior": self.metadata.name,
            "PriorFingerprint": self.metadata.fingerprint,
            "Settings": self.config.settings(),
            "TVWeight": self.tv_weight,
            "Smoothing": self.scoring.smoothing,
            "Thresholds": thresholds,
            "PostProcessing": asdict(self.config.postprocessing),
            "Seed": seed,
            "Precision": self.precision,
        }

    def warn_of_settings(self, *, stacklevel: int) -> None:
        """Warn of a calibration that does not hold, if there is one."""
        calibration = self.metadata.calibration
        if self.calibration is not None or calibration is None or calibration.tv_weight is None:
            return
        calibrated = {
            **_in_one_level(calibration.settings),
            "tv_weight": calibration.tv_weight,
            "smoothing": calibration.smoothing,
        }
        given = {
            **_in_one_level(self.config.settings()),
            "tv_weight": self.tv_weight,
            "smoothing": self.scoring.smoothing,
        }
        if given["solver"] != calibrated["solver"]:  # then all else differs too
            given, calibrated = {"solver": given["solver"]}, {"solver": calibrated["solver"]}
        other = []
        for name in dict.fromkeys([*given, *calibrated]):
            ours, theirs = (repr(values[name]) if name in values else "off" for values in (given, calibrated))
            if ours != theirs:
                other.append(f"{name} {ours}, not {theirs}")
        warnings.warn(
            f"prior {self.metadata.name!r} was calibrated with other settings ({'; '.join(other)}): its thresholds do"
            " not hold, so the result has no masks. lesioncore.calibrate makes thresholds for these settings.",
            stacklevel=stacklevel + 1,
        )


@dataclass(frozen=True, kw_only=True)
class RunRecord(Run):
    """A run that has been: goes into the saved sidecar.

    Attributes
    ----------
    backend : str or None
        What computed the prior's gradient.
    seed : int or None
        Of the latent samples, if there were any.
    seconds : float
        Wall-clock time for each scan.
    """

    backend: str | None
    seed: int | None
    seconds: float

    @classmethod
    def after(cls, run: Run, **facts: Any) -> RunRecord:
        """The record of a run, with what it alone could tell."""
        return cls(**{field.name: getattr(run, field.name) for field in fields(Run)}, **facts)

    def without_thresholds(self) -> RunRecord:
        """The same for a scan for which the thresholds do not hold."""
        return replace(self, calibration=None)


def _in_one_level(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in one level, the solver's name as ``solver``."""
    solver = dict(settings["solver"])
    return {**settings, "solver": solver.pop("name"), **solver}
