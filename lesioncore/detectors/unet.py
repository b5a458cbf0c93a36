"""Supervised U-Net: an upper bound with which methods without labels are compared (paper Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lesioncore.data.stack import SliceStack
from lesioncore.detectors.base import Detector, Progress
from lesioncore.detectors.slices import map_slices
from lesioncore.engine.batches import check_batch_size
from lesioncore.models.prior import PriorMetadata
from lesioncore.models.unet import UNet


class UNetDetector(Detector):
    """Probability of lesion that a :class:`UNet` gives.

    Parameters
    ----------
    model : UNet
        From :func:`lesioncore.load_detector`, or trained.
    batch_size : int, optional
        Slices in one pass through the model; bounds memory. What suits the device when absent.
    """

    name = "unet"
    bounded = True

    def __init__(self, model: UNet, *, batch_size: int | None = None) -> None:
        self.model = model
        self.batch_size = check_batch_size(batch_size)
        self.metadata = model.metadata or PriorMetadata(self.name)

    def score_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        return map_slices(
            lambda x, _: self.model(x).sigmoid(),
            stacks,
            self.model,
            device=device,
            batch_size=self.batch_size,
            progress=progress,
        )
