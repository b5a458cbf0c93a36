"""What healthy people tell about a prior or another detector: data-consistency weight and detection thresholds."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

_LATER_SETTINGS = {"kl_weight": 1.0}
"""Settings of restoration that files written before them lack, and the value that they had."""


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
    fpr : tuple of float
        False-positive-rate limits, ascending.
    thresholds : tuple of float
        For each limit, the smallest threshold T such that the fraction of healthy brain pixels with a score above T is
        at most the limit (paper section 2.2.3); in the score's units, which are z-scores for ``|D|``.
    subjects, pixels : int
        Size of the healthy set behind the thresholds.
    curve : tuple of dict
        The search for `tv_weight`: one row for each weight tried.
    criterion : str
        How `tv_weight` was chosen from the curve.
    """

    settings: dict[str, Any]
    tv_weight: float | None
    fpr: tuple[float, ...]
    thresholds: tuple[float, ...]
    subjects: int
    pixels: int
    curve: tuple[dict[str, float], ...] = ()
    criterion: str = "given"
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("fpr", "thresholds", "curve"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.fpr) != len(self.thresholds) or not self.fpr:
            raise ValueError(
                f"thresholds: got {len(self.thresholds)} for {len(self.fpr)} FPR limits, expected one for each"
            )
        if list(self.fpr) != sorted(self.fpr) or self.fpr[0] <= 0 or self.fpr[-1] > 1:
            raise ValueError("fpr: expected ascending limits in (0, 1]")

    def threshold(self, fpr: float) -> float:
        """Threshold for an FPR limit: the stored one, or for a limit in between that of the next stricter one.

        Raises
        ------
        ValueError
            If `fpr` is below the strictest stored limit or not below 1.
        """
        # The small slack lets 0.05 find a stored 0.05 that took another way through arithmetic.
        index = bisect_right(self.fpr, fpr * (1 + 1e-9)) - 1
        if not fpr < 1 or index < 0:
            raise ValueError(
                f"fpr: got {fpr}, expected a limit between {self.fpr[0]:g} and 1 that the calibration covers"
            )
        return self.thresholds[index]

    def rank(self, score: np.ndarray) -> np.ndarray:
        """Fraction of healthy brain pixels that score lower, in [0, 1], float32; linear between stored thresholds."""
        thresholds = np.asarray(self.thresholds[::-1])
        quantile = 1.0 - np.asarray(self.fpr[::-1])
        lowest = min(0.0, thresholds[0])  # signed scores may have thresholds below 0
        ranks = np.interp(score, np.concatenate([[lowest], thresholds]), np.concatenate([[0.0], quantile]))
        return ranks.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Inverse of :meth:`to_dict`; settings that an older version did not write get the value that they had."""
        settings = values["settings"]
        if "solver" in settings:  # other detectors have settings of their own
            settings = {**_LATER_SETTINGS, **settings}
        return cls(**{**values, "settings": settings})
