"""Detectors whose score is the size of a signed deviation, smoothed in space."""

from __future__ import annotations

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
from lesioncore.restoration.scan import Scan
from lesioncore.scoring.deviation import Deviation, deviation, score_of
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.spread_map import SpreadMap


class DeviationDetector(Detector):
    """Detector whose score is the size of a signed deviation from what is healthy.

    A subclass gives :meth:`deviation_stacks`. The deviation is smoothed, measured by the scan's own spread if wanted
    and brought to the scan's voxels before its size is taken, so that deviations of either sign cancel where they are
    averaged.

    Parameters
    ----------
    scoring : Scoring
        How the deviation is scored. Where it wants a spread map, :meth:`thresholds` finds it and the calibration of the
        metadata keeps it.
    """

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring
        self.sign: Sign = scoring.sign or None
        self.smoothing, self.spread_map = scoring.smoothing, scoring.spread_map

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
        standardize = self.scoring.standardize
        return {**super().settings(), "sign": self.sign, "standardize": standardize, **self.scoring.added}

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
        scores, spread_map = healthy_scores(residuals, kept, self.scoring)
        return scores[self.scoring.sign, self.scoring.asymmetry], spread_map

    def _deviations(
        self, stacks: Sequence[SliceStack], device: str | torch.device, progress: Progress | None
    ) -> list[Deviation]:
        spread_map = self.metadata.spread_map(self.spread_map)
        residuals = self.deviation_stacks(stacks, device=device, progress=progress)
        return [
            deviation(residual, stack, self.scoring, spread_map)
            for residual, stack in zip(residuals, stacks, strict=True)
        ]

    def _size(self, values: ArrayT) -> ArrayT:
        return score_of(values, self.scoring.sign)


def scoring_by(sign: Sign, **options: Any) -> Scoring:
    """Options of scoring as detectors take them, whose sign is None where either is looked for.

    Raises
    ------
    ValueError
        If an option is out of its range.
    TypeError
        If there is no such option.
    """
    return Scoring(sign=check_sign(sign) or 0, **options)
