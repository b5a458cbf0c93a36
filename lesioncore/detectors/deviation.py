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
from lesioncore.detectors.base import Detector, Progress, ScanScore
from lesioncore.detectors.sign import Sign, check_sign
from lesioncore.restoration.scan import Scan
from lesioncore.scoring.deviation import Deviation, deviation, score_of
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.spread_map import SpreadMap


class DeviationDetector(Detector):
    """Detector whose score is the size of a signed deviation from what is healthy.

    A subclass implements :meth:`deviation_stacks`. The deviation is smoothed, standardized by the scan's own
    centre and spread if wanted, and resampled to the scan's voxels. All these steps keep its sign, so that opposite
    deviations cancel where they are averaged. Its size is the score.

    Parameters
    ----------
    scoring : Scoring
        How the deviation is scored. A spread map, if wanted, is made by :meth:`thresholds` and stored in the
        calibration of the metadata.
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
        """Compute the signed deviation of slices from what is healthy, not smoothed.

        Parameters
        ----------
        stacks, device, progress
            As for :meth:`score_stacks`.

        Returns
        -------
        list of Tensor
            ``[N, 1, H, W]`` for each stack, on the detector's own grid.
        """

    def score_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        return [self._size(signed.values) for signed in self._deviations(stacks, device, progress)]

    def settings(self) -> dict[str, Any]:
        standardize = self.scoring.standardize
        return {**super().settings(), "sign": self.sign, "standardize": standardize, **self.scoring.added}

    def score_scans(
        self, scans: Sequence[Scan], *, device: torch.device, progress: Progress | None = None
    ) -> list[ScanScore]:
        deviations = self._deviations(scans, device, progress)
        return [
            ScanScore(self._size(scan.residual(signed.values)), signed.spread)
            for scan, signed in zip(scans, deviations, strict=True)
        ]

    def _healthy_scores(
        self, stacks: Iterable[SliceStack], device: torch.device, progress: Callable[[int], None]
    ) -> tuple[HealthyScores, SpreadMap | None]:
        if not self.spread_map:
            return super()._healthy_scores(stacks, device, progress)
        all_stacks, residuals = [], []
        for done, stack in enumerate(stacks, start=1):
            all_stacks.append(stack)
            residuals += self.deviation_stacks([stack], device=device)
            progress(done)
        scores, spread_map = healthy_scores(residuals, all_stacks, self.scoring)
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
    """Return the options of scoring that a detector's arguments stand for.

    Parameters
    ----------
    sign : {1, -1} or None
        Sign of the lesions; None for lesions of either sign.
    **options
        Other fields of :class:`lesioncore.scoring.options.Scoring`.

    Raises
    ------
    ValueError
        If an option is out of its range.
    TypeError
        If `Scoring` does not have an option.
    """
    return Scoring(sign=check_sign(sign) or 0, **options)
