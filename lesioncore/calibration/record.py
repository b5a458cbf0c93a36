"""The calibration of a prior or another detector: data-consistency weight and detection thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from lesioncore.calibration.healthy import HealthyScores
from lesioncore.scoring.spread_map import SpreadMap


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
        settings do not standardize. Of the sign and asymmetry that the settings have.
    others : dict of (int, float) to HealthyScores
        The same people's scores by other signs and asymmetries (:class:`lesioncore.RestoreConfig`), where they are
        known.
    spread_map : SpreadMap, optional
        The healthy people's spread by place, by which scores are divided where the settings say so.
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
    others: dict[tuple[int, float], HealthyScores] = field(default_factory=dict)
    spread_map: SpreadMap | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "curve", tuple(self.curve))

    def matches(self, settings: Mapping[str, Any], tv_weight: float | None, smoothing: float) -> bool:
        """Whether the thresholds are for these settings, weight and smoothing."""
        return (self.settings, self.tv_weight, self.smoothing) == (settings, tv_weight, smoothing)

    def for_settings(
        self, settings: Mapping[str, Any], tv_weight: float | None, smoothing: float
    ) -> Calibration | None:
        """The calibration by sign and asymmetry of these settings if the thresholds are for them, else None."""
        calibration = self._by(*_scored_by(settings))
        return calibration if calibration.matches(settings, tv_weight, smoothing) else None

    def _by(self, sign: int, asymmetry: float) -> Calibration:
        """The calibration whose scores have a sign and an asymmetry; itself where that is not known."""
        if (sign, asymmetry) not in self.others:
            return self
        others = {**self.others, _scored_by(self.settings): self.healthy}
        healthy = others.pop((sign, asymmetry))
        settings = {name: value for name, value in self.settings.items() if name not in ("sign", "asymmetry")}
        scored_by = {name: value for name, value in (("asymmetry", asymmetry), ("sign", sign)) if value}
        return replace(self, settings=settings | scored_by, healthy=healthy, others=others)

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

        With `risk` it bounds people: see :meth:`lesioncore.calibration.healthy.HealthyScores.threshold`, whose errors
        it has.
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
        """Say in what a scan is unlike the calibration's; see :meth:`HealthyScores.unusual`.

        Compared is the size of the scores where it is known: signed ones have a median about 0 in any scan.
        """
        either = self._by(0, _scored_by(self.settings)[1])
        return either.healthy.unusual(np.abs(scores) if either is not self else scores, bend, extent, spread)

    def merge(self, other: Calibration) -> Calibration:
        """Thresholds of both calibrations' people, such as those of two sites; no scan is needed.

        The spread maps add up. Scores of a calibration that has one are those by its own people's map, from which the
        common one differs the less the more people there are.

        Raises
        ------
        ValueError
            If the two are not of the same settings and weight.
        """
        if not other.matches(self.settings, self.tv_weight, self.smoothing):
            raise ValueError(
                f"other: got a calibration for {other.settings} with tv_weight {other.tv_weight} and smoothing"
                f" {other.smoothing}, expected one for {self.settings} with tv_weight {self.tv_weight} and smoothing"
                f" {self.smoothing}; give both calls of calibrate the same RestoreConfig(tv_weight=..., smoothing=...)"
            )
        spread_map = self.spread_map
        if spread_map is not None and other.spread_map is not None:
            spread_map = spread_map + other.spread_map
        return replace(
            self,
            healthy=self.healthy + other.healthy,
            others={
                which: scores + other.others[which] for which, scores in self.others.items() if which in other.others
            },
            spread_map=spread_map,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "healthy": self.healthy.to_dict(),
            "others": [
                {"sign": sign, "asymmetry": asymmetry, "healthy": scores.to_dict()}
                for (sign, asymmetry), scores in self.others.items()
            ],
            "spread_map": None if self.spread_map is None else self.spread_map.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Inverse of :meth:`to_dict`."""
        spread_map = values["spread_map"]
        parts = {
            "healthy": HealthyScores.from_dict(values["healthy"]),
            "others": {_scored_by(row): HealthyScores.from_dict(row["healthy"]) for row in values["others"]},
            "spread_map": None if spread_map is None else SpreadMap.from_dict(spread_map),
        }
        return cls(**{**values, **parts})


def _scored_by(settings: Mapping[str, Any]) -> tuple[int, float]:
    """Sign and asymmetry of settings, which leave out what is off."""
    return settings.get("sign") or 0, float(settings.get("asymmetry") or 0.0)
