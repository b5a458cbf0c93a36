"""Detectors that score each voxel by its intensity alone, without a model of anatomy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lesioncore.data.stack import SliceStack
from lesioncore.detectors.base import Detector, Progress
from lesioncore.detectors.deviation import DeviationDetector, scoring_by
from lesioncore.detectors.sign import Sign, check_sign
from lesioncore.models.prior import PriorMetadata


class IntensityThreshold(DeviationDetector):
    """Z-score of the intensity on the reference subject's scale, after landmark standardisation.

    Parameters
    ----------
    metadata : PriorMetadata, optional
        Its intensity scale makes the z-scores; without a scale the scan's values are scored. Its grid is not used, so
        that scans are scored on their own voxels.
    sign : {1, -1}, optional
        Bright or dark lesions; when absent, the score is the distance to the reference's mean, ``|z|``.
    smoothing, standardize
        As for :class:`lesioncore.scoring.options.Scoring`.
    """

    name = "intensity"

    def __init__(
        self,
        metadata: PriorMetadata | None = None,
        *,
        sign: Sign = None,
        smoothing: float = 0.0,
        standardize: bool = False,
    ) -> None:
        super().__init__(scoring_by(sign, smoothing=smoothing, standardize=standardize))
        self.metadata = _without_grid(metadata, self.name)

    def deviation_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        return [torch.where(stack.mask, stack.slices, 0.0) for stack in stacks]


class EqualizedThreshold(Detector):
    """Histogram-equalised intensity: the rank of a voxel's intensity within the brain of its own scan, in [0, 1].

    A simple threshold with which learned detectors of bright lesions have been compared (Meissen et al., 2021,
    "Challenging current semi-supervised anomaly segmentation methods for brain MRI"). Equal intensities share their
    mean rank, so the score is the same after any strictly increasing change of the intensities.

    Parameters
    ----------
    metadata : PriorMetadata, optional
        As for :class:`IntensityThreshold`.
    sign : {1, -1}, optional
        Score the rank from the darkest (1) or from the brightest (-1) voxel; when absent, how far the rank lies from
        the middle, ``|2 rank - 1|``.
    """

    name = "equalized"
    bounded = True

    def __init__(self, metadata: PriorMetadata | None = None, *, sign: Sign = None) -> None:
        self.sign = check_sign(sign)
        self.metadata = _without_grid(metadata, self.name)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "sign": self.sign}

    def score_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        scores = []
        for stack in stacks:
            score = torch.zeros_like(stack.slices)
            rank = mean_ranks(stack.slices[stack.mask])
            if self.sign is None:
                rank = (2 * rank - 1).abs()
            elif self.sign == -1:
                rank = 1 - rank
            score[stack.mask] = rank.to(score.dtype)
            scores.append(score)
        return scores


def mean_ranks(values: Tensor) -> Tensor:
    """Share of values that are smaller, plus half the share of equal ones: ``[n]`` to ``[n]`` float64 in (0, 1)."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    return ((counts.cumsum(0) - 0.5 * counts) / len(values))[inverse]


def _without_grid(metadata: PriorMetadata | None, name: str) -> PriorMetadata:
    return PriorMetadata(name) if metadata is None else replace(metadata, grid=None)
