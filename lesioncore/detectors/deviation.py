"""Detectors whose score is the size of a signed deviation, smoothed in space."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lesioncore.calibration.healthy import HealthyScores
from lesioncore.calibration.measure import healthy_scores
from lesioncore.data.arrays import ArrayT
from lesioncore.data.stack import SliceStack
from lesioncore.detectors.base import Detector, Progress, ScanScore, Sign, check_sign
from lesioncore.restoration.run import spread_map_of
from lesioncore.restoration.scan import Scan
from lesioncore.scoring.asymmetry import check_asymmetry
from lesioncore.scoring.deviation import Deviation, deviation, score_of
from lesioncore.scoring.spread_map import SpreadMap


class DeviationDetector(Detector):
    """Detector whose score is the size of a signed deviation from what is healthy.

    A subclass gives :meth:`deviation_stacks`. The deviation is smoothed, measured by the scan's own spread if wanted
    and brought to the scan's voxels before its size is taken, so that deviations of either sign cancel where they are
    averaged.

    Parameters
    ----------
    sign : {1, -1}, optional
        Score ``sign * deviation``, for lesions known to be brighter (1) or darker (-1) than healthy tissue; the
        absolute deviation when absent.
    smoothing : float
        Standard deviation, mm, of a Gaussian that smooths the deviation in three dimensions
        (:func:`lesioncore.scoring.smoothing.smooth`).
    standardize : bool
        Bring the deviation to the scan's own centre and spread (:func:`lesioncore.scoring.deviation.deviation`), so
        that thresholds hold on other scanners.
    spread_map : bool
        Divide the deviation of registered scans by healthy people's spread at each place
        (:class:`lesioncore.scoring.spread_map.SpreadMap`), which :meth:`thresholds` finds and the calibration of the
        metadata keeps.
    asymmetry : float
        Share in [0, 1] of what both sides of a registered brain have in common that is taken off
        (:func:`lesioncore.scoring.asymmetry.lower_symmetric`).
    edge_preserving : bool
        Bound the smoothed deviation by each place's own (:func:`lesioncore.scoring.smoothing.keep_edges`), so that
        smoothing carries none beyond a lesion's border. For deviations with little noise, such as those of MAP
        restoration.

    Raises
    ------
    ValueError
        If `sign` is another number, `smoothing` negative or not finite, or `asymmetry` out of its range.
    """

    def __init__(
        self,
        sign: Sign = None,
        smoothing: float = 0.0,
        standardize: bool = False,
        spread_map: bool = False,
        asymmetry: float = 0.0,
        edge_preserving: bool = False,
    ) -> None:
        self.sign = check_sign(sign)
        self.smoothing = check_smoothing(smoothing)
        self.standardize = standardize
        self.spread_map = spread_map
        check_asymmetry(asymmetry)
        self.asymmetry = asymmetry
        self.edge_preserving = edge_preserving

    @abstractmethod
    def deviation_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """Signed deviation of slices on the detector's own grid, not smoothed; arguments as for `score_stacks`."""

    def score_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        return [self._size(d.values) for d in self._deviations(stacks, device, progress)]

    def settings(self) -> dict[str, Any]:
        own = {**super().settings(), "sign": self.sign, "standardize": self.standardize}
        later = {
            "spread_map": self.spread_map,
            "asymmetry": self.asymmetry,
            "edge_preserving": self.edge_preserving,
        }
        return {**own, **{name: value for name, value in later.items() if value}}  # older calibrations lack them

    def score_scans(
        self, scans: Sequence[Scan], *, device: torch.device, progress: Progress | None = None
    ) -> list[ScanScore]:
        deviations = self._deviations(scans, device, progress)
        return [
            ScanScore(self._size(scan.residual(d.values)), d.spread) for scan, d in zip(scans, deviations, strict=True)
        ]

    def _healthy_scores(
        self, stacks: Iterable[SliceStack], device: torch.device, progress: Callable[[int], None]
    ) -> tuple[HealthyScores, SpreadMap | None]:
        if not self.spread_map:
            return super()._healthy_scores(stacks, device, progress)
        kept, residuals = [], []
        for done, stack in enumerate(stacks, start=1):
            kept.append(stack)
            residuals += self.deviation_stacks([stack], device=device)
            progress(done)
        scores, spread_map = healthy_scores(
            residuals,
            kept,
            smoothing=self.smoothing,
            standardize=self.standardize,
            spread_map=True,
            asymmetry=self.asymmetry,
            edge_preserving=self.edge_preserving,
        )
        return scores[self.sign or 0, self.asymmetry], spread_map

    def _deviations(
        self, stacks: Sequence[SliceStack], device: str | torch.device, progress: Progress | None
    ) -> list[Deviation]:
        spread_map = spread_map_of(self.metadata, self.spread_map)
        residuals = self.deviation_stacks(stacks, device=device, progress=progress)
        return [
            deviation(
                residual,
                stack,
                smoothing=self.smoothing,
                standardize=self.standardize,
                spread_map=spread_map,
                asymmetry=self.asymmetry,
                edge_preserving=self.edge_preserving,
            )
            for residual, stack in zip(residuals, stacks, strict=True)
        ]

    def _size(self, values: ArrayT) -> ArrayT:
        return score_of(values, self.sign or 0)


def check_smoothing(smoothing: float) -> float:
    """Return `smoothing` (mm), or raise ``ValueError`` if it is negative or not finite."""
    if not 0 <= smoothing < math.inf:
        raise ValueError(f"smoothing: got {smoothing}, expected a standard deviation of at least 0 mm")
    return float(smoothing)
