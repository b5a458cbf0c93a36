"""What healthy people tell about a prior or another detector: data-consistency weight and detection thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from lesioncore.healthy import HealthyScores

_LATER_SETTINGS = {"kl_weight": 1.0}
"""Settings of restoration that files written before them lack, and the value that they had."""

_LATER_OPTIONS = {"prox": {"tolerance": 0.0}}
"""The same for options of the solvers."""


@dataclass(frozen=True)
class Calibration:
    """Weight and thresholds of one prior with one solver, or of another detector, from healthy people alone.

    Made by :func:`lesioncore.calibrate` or :meth:`lesioncore.Detector.thresholds`, stored as ``calibration.json`` in a
    prior's directory.

    Parameters
    ----------
    settings : dict
        What the figures belong to: objective and solver (:meth:`lesioncore.RestoreConfig.settings`), or
        :meth:`lesioncore.Detector.settings`.
    tv_weight : float or None
        Data-consistency weight lambda of the objective (paper Eq. 6); None for a detector without one.
    healthy : HealthyScores
        Scores of the healthy people, in the score's units: multiples of each scan's own spread, or z-scores where the
        settings do not standardize.
    smoothing : float
        Standard deviation, mm, of the Gaussian that smooths the residual before it is scored.
    curve : tuple of dict
        The search for `tv_weight`: one row for each weight tried.
    criterion : str
        How `tv_weight` was chosen from the curve.
    """

    settings: dict[str, Any]
    tv_weight: float | None
    healthy: HealthyScores
    smoothing: float = 0.0
    curve: tuple[dict[str, float], ...] = ()
    criterion: str = "given"
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "curve", tuple(self.curve))

    def holds(self, settings: Mapping[str, Any], tv_weight: float | None, smoothing: float) -> bool:
        """Whether the thresholds are for these settings, weight and smoothing."""
        return (self.settings, self.tv_weight, self.smoothing) == (settings, tv_weight, smoothing)

    @property
    def of_volumes(self) -> bool:
        """Whether the scores depend on the scan's other slices, so that slices without geometry have others."""
        settings = self.settings
        return self.smoothing > 0 or settings.get("tv_dimensions") == 3 or bool(settings.get("standardize"))

    @property
    def subjects(self) -> int:
        """Number of healthy people behind the thresholds."""
        return len(self.healthy.subjects)

    @property
    def pixels(self) -> int:
        """Number of their brain pixels."""
        return self.healthy.pixels

    def threshold(self, fpr: float, risk: float | None = None) -> float:
        """Smallest threshold that at most the share `fpr` of the healthy pixels exceeds (paper section 2.2.3).

        With `risk` it bounds people: see :meth:`lesioncore.healthy.HealthyScores.threshold`, whose errors it has.
        """
        return self.healthy.threshold(fpr, risk)

    def rank(self, score: np.ndarray) -> np.ndarray:
        """Fraction of the healthy pixels that score lower, in [0, 1], float32."""
        return self.healthy.rank(score)

    def unusual(
        self,
        scores: np.ndarray,
        bend: float | None = None,
        extent: tuple[float, float, float] | None = None,
        spread: float | None = None,
    ) -> list[str]:
        """Say in what a scan is unlike the calibration's: see :meth:`lesioncore.healthy.HealthyScores.unusual`."""
        return self.healthy.unusual(scores, bend, extent, spread)

    def merge(self, other: Calibration) -> Calibration:
        """Thresholds of both calibrations' people, such as those of two sites; no scan is needed.

        Raises
        ------
        ValueError
            If the two are not of the same settings and weight.
        """
        if not other.holds(self.settings, self.tv_weight, self.smoothing):
            raise ValueError(
                f"other: got a calibration for {other.settings} with tv_weight {other.tv_weight} and smoothing"
                f" {other.smoothing}, expected one for {self.settings} with tv_weight {self.tv_weight} and smoothing"
                f" {self.smoothing}; give both calls of calibrate the same RestoreConfig(tv_weight=..., smoothing=...)"
            )
        return replace(self, healthy=self.healthy + other.healthy)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "healthy": self.healthy.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Inverse of :meth:`to_dict`; settings that an older version did not write get the value that they had.

        Raises
        ------
        ValueError
            If the thresholds are those of a version that kept no summary of the scores.
        """
        if "thresholds" in values:
            raise ValueError("the calibration was made by an older version of lesioncore; calibrate the prior again")
        settings = values["settings"]
        if "solver" in settings:  # other detectors have settings of their own
            solver = settings["solver"]
            options = {**_LATER_OPTIONS.get(solver.get("name"), {}), **solver}
            settings = {**_LATER_SETTINGS, **settings, "solver": options}
        return cls(**{**values, "settings": settings, "healthy": HealthyScores.from_dict(values["healthy"])})
