"""Calibrations of priors and other detectors: data-consistency weight and detection thresholds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypedDict

import numpy as np

from lesioncore.calibration.healthy import HealthyForm, HealthyScores
from lesioncore.choices import Sign
from lesioncore.data.json_form import Unbounded, check_form
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.spread_map import SpreadMap, SpreadMapForm


class OtherForm(TypedDict):
    """Healthy people's scores with another sign or asymmetry, in ``calibration.json``."""

    sign: Sign
    asymmetry: float
    healthy: HealthyForm


class CalibrationForm(TypedDict):
    """``calibration.json``."""

    settings: dict[str, Any]
    tv_weight: float | None
    healthy: HealthyForm
    smoothing: float
    curve: list[dict[str, Unbounded]]
    criterion: str
    notes: dict[str, Any]
    others: list[OtherForm]
    spread_map: SpreadMapForm | None


@dataclass(frozen=True)
class Calibration:
    """Weight and thresholds of one prior with one solver, or of another detector, from healthy people alone.

    It is made by :func:`lesioncore.calibrate` or :meth:`lesioncore.Detector.thresholds`, and stored as
    ``calibration.json`` in a prior's directory.

    Parameters
    ----------
    settings : dict
        The settings that weight and thresholds hold for: objective and solver
        (:meth:`lesioncore.RestoreConfig.settings`), or :meth:`lesioncore.Detector.settings`.
    tv_weight : float or None
        Data-consistency weight lambda of the objective (paper Eq. 6); None for a detector without one.
    healthy : HealthyScores
        Scores of the healthy people with the sign and asymmetry of the settings, in the score's units: multiples of
        each scan's own spread, or z-scores where the settings do not standardize.
    smoothing : float
        Standard deviation, mm, of the Gaussian that smooths the residual before it is scored.
    curve : tuple of dict
        The search for `tv_weight`: one row for each weight and smoothing tried.
    criterion : str
        How `tv_weight` was chosen from the curve.
    notes : dict
        Further facts about the calibration (JSON-able); no computation depends on them.
    others : dict of (int, float) to HealthyScores
        The same people's scores for other pairs of a sign and an asymmetry (:class:`lesioncore.RestoreConfig`), where
        they are known.
    spread_map : SpreadMap, optional
        The healthy people's spread at each place, by which scores are divided where the settings say so.
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
        """The calibration with the sign and asymmetry of these settings if its thresholds are for them, else None."""
        calibration = self._by(*_scored_by(settings))
        return calibration if calibration.matches(settings, tv_weight, smoothing) else None

    def _by(self, sign: int, asymmetry: float) -> Calibration:
        """The calibration with the healthy scores of a sign and an asymmetry; this one where they are not known."""
        if (sign, asymmetry) not in self.others:
            return self
        others = {**self.others, _scored_by(self.settings): self.healthy}
        healthy = others.pop((sign, asymmetry))
        settings = {name: value for name, value in self.settings.items() if name not in ("sign", "asymmetry")}
        scored_by = {name: value for name, value in (("asymmetry", asymmetry), ("sign", sign)) if value}
        return replace(self, settings=settings | scored_by, healthy=healthy, others=others)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that results depend on: not of the search for weight and smoothing, and not of the notes."""
        values = {name: value for name, value in self.to_dict().items() if name not in ("curve", "criterion", "notes")}
        values["spread_map"] = None if self.spread_map is None else self.spread_map.fingerprint
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def of_volumes(self) -> bool:
        """Whether a slice's scores depend on its whole volume, so that they do not hold for slices without geometry."""
        settings = self.settings
        return self.smoothing > 0 or settings.get("tv_dimensions") == 3 or bool(settings.get("standardize"))

    @property
    def subjects(self) -> int:
        """Number of healthy people behind the thresholds."""
        return len(self.healthy.subjects)

    @property
    def pixels(self) -> int:
        """Number of the healthy people's brain pixels."""
        return self.healthy.pixels

    def threshold(self, fpr: float, risk: float | None = None) -> float:
        """Smallest threshold that at most the share `fpr` of the healthy pixels exceeds (paper section 2.2.3).

        With `risk` it bounds each person's share: see :meth:`lesioncore.calibration.healthy.HealthyScores.threshold`,
        which raises the same errors.
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
        """Describe how a scan differs from the calibration's; see :meth:`HealthyScores.unusual`.

        Signed scores are compared by their size where the healthy people's is known, since their median is about 0 in
        any scan.
        """
        unsigned = self._by(0, _scored_by(self.settings)[1])
        return unsigned.healthy.unusual(np.abs(scores) if unsigned is not self else scores, bend, extent, spread)

    def merge(self, other: Calibration) -> Calibration:
        """Merge two calibrations, such as those of two sites, into one of all their people; no scan is needed.

        The spread maps are added. The scores of each calibration remain those that its own map gave; the more people a
        calibration has, the less its map differs from the merged one.

        Raises
        ------
        ValueError
            If the two differ in settings, weight or smoothing, or a scan is in both.
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
        """Inverse of :meth:`to_dict`.

        Raises
        ------
        ValueError
            If the values have another form, or a number is out of its range; the message says which.
        """
        check_form(values, CalibrationForm)
        if values["tv_weight"] is not None and values["tv_weight"] < 0:
            raise ValueError(f"tv_weight: got {values['tv_weight']}, expected a number >= 0")
        Scoring(smoothing=values["smoothing"])  # checks it
        spread_map = values["spread_map"]
        parts = {
            "healthy": HealthyScores.from_dict(values["healthy"]),
            "others": {_scored_by(row): HealthyScores.from_dict(row["healthy"]) for row in values["others"]},
            "spread_map": None if spread_map is None else SpreadMap.from_dict(spread_map),
        }
        return cls(**{**values, **parts})


def _scored_by(settings: Mapping[str, Any]) -> tuple[int, float]:
    """Sign and asymmetry of settings, from which options that are off are absent."""
    return settings.get("sign") or 0, float(settings.get("asymmetry") or 0.0)
