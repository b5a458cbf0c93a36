"""Detectors that differ only in how they score a scan, and compute its deviation once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lesioncore.data.stack import SliceStack
from lesioncore.detectors import DeviationDetector, MAPDetector, ProjectionDetector
from lesioncore.detectors.deviation import scoring_by
from lesioncore.detectors.sign import Sign
from lesioncore.models import PriorMetadata
from lesioncore.restoration.config import RestoreConfig


class DeviationCache:
    """The last deviation of one prior with each of its settings.

    Make one for each prior, and give it to the detectors that share it.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, list[Tensor]]] = {}

    def get(self, settings: object, stacks: Sequence[SliceStack], compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        """What `compute` found last with these settings if it was on these stacks, else what it finds now."""
        name = json.dumps(settings)
        scan = hashlib.sha256(b"".join(stack.slices.numpy().tobytes() for stack in stacks)).hexdigest()
        if self._last.get(name, ("", []))[0] != scan:
            self._last[name] = scan, compute()
        return self._last[name][1]


class SharedRestoration(MAPDetector):
    """MAP restoration whose deviation others with the same settings and weight share, such as signed and unsigned."""

    def __init__(self, prior: Any, config: RestoreConfig | None = None, *, cache: DeviationCache) -> None:
        super().__init__(prior, config)
        self.cache = cache

    def deviation_stacks(self, stacks: Sequence[SliceStack], **options: Any) -> list[Tensor]:
        scored_alike = replace(
            self.config, sign=0, spread_map=False, asymmetry=0.0, edge_preserving=False, standardize=False
        )
        settings = [self.name, scored_alike.settings(), self.tv_weight]
        return self.cache.get(settings, stacks, partial(super().deviation_stacks, stacks, **options))


class SharedProjection(ProjectionDetector):
    """Projection whose deviation others share."""

    def __init__(self, model: Any, *, cache: DeviationCache, **options: Any) -> None:
        super().__init__(model, **options)
        self.cache = cache

    def deviation_stacks(self, stacks: Sequence[SliceStack], **options: Any) -> list[Tensor]:
        return self.cache.get(self.name, stacks, partial(super().deviation_stacks, stacks, **options))


class GridIntensity(DeviationDetector):
    """Intensity on the grid of a prior, so that the spread map and the other side are there for it as well."""

    name = "intensity"

    def __init__(self, metadata: PriorMetadata, sign: Sign, **options: Any) -> None:
        super().__init__(scoring_by(sign, **options))
        self.metadata = metadata

    def deviation_stacks(self, stacks: Sequence[SliceStack], **_: Any) -> list[Tensor]:
        return [torch.where(stack.mask, stack.slices, 0.0) for stack in stacks]
