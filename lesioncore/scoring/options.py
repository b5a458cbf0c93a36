"""Options by which a residual becomes a detection map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from lesioncore.choices import Sign
from lesioncore.scoring.asymmetry import check_asymmetry

LARGEST_SMOOTHING = 100.0
"""Largest standard deviation, mm: a brain is hardly wider than its kernel, so that nothing of a lesion is left."""


@dataclass(frozen=True)
class Scoring:
    """Options by which a residual becomes a detection map (:func:`lesioncore.scoring.deviation.deviation`).

    Parameters
    ----------
    smoothing : float
        Standard deviation, mm, of a Gaussian in three dimensions (:func:`lesioncore.scoring.smoothing.smooth`).
    standardize : bool
        Standardize the residual by the scan's own centre and spread (:mod:`lesioncore.scoring.spread`), so that
        thresholds hold on other scanners. Slices without geometry are left as they are, since they may come from
        different scans.
    spread_map : bool
        Divide the residual of a registered scan by healthy people's spread at each place
        (:class:`lesioncore.scoring.spread_map.SpreadMap`).
    asymmetry : float
        Share in [0, 1] of the deviation common to both sides of a registered brain that is taken off
        (:func:`lesioncore.scoring.asymmetry.lower_symmetric`).
    edge_preserving : bool
        Bound the smoothed residual at each pixel by the unsmoothed one
        (:func:`lesioncore.scoring.smoothing.keep_edges`), so that smoothing carries no deviation beyond a lesion's
        border. This suits residuals with little noise, such as those of MAP restoration.
    sign : {1, -1, 0}
        1 scores pixels that are brighter than expected, -1 darker ones, 0 both.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    smoothing: float = 0.0
    standardize: bool = False
    spread_map: bool = False
    asymmetry: float = 0.0
    edge_preserving: bool = False
    sign: Sign = 0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing <= LARGEST_SMOOTHING:
            raise ValueError(
                f"smoothing: got {self.smoothing}, expected a standard deviation of 0 to {LARGEST_SMOOTHING:g} mm"
            )
        check_asymmetry(self.asymmetry)
        if self.sign not in get_args(Sign):
            raise ValueError(f"sign: got {self.sign!r}, expected 1 (bright lesions), -1 (dark lesions) or 0 (either)")

    @property
    def added(self) -> dict[str, Any]:
        """The options beyond smoothing and standardization that are on (JSON-able).

        Options that are off are left out of a calibration's settings, so that calibrations from before an option
        existed still match.
        """
        options = {name: getattr(self, name) for name in ("spread_map", "asymmetry", "edge_preserving")}
        return {name: value for name, value in options.items() if value}
