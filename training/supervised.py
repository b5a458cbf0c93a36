"""Supervised segmentation with labels (paper Tables 1 and 2: the U-Net's cross-entropy)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from lesioncore.models.unet import UNet
from lesioncore.training.learner import Batch, Learner, UpdateContext


class SupervisedLearner(Learner):
    """Minimise the binary cross-entropy of lesion against healthy brain; background does not count.

    A slice's loss is the sum over its brain pixels, divided by the number of all its pixels: every brain pixel weighs
    the same in whatever slice it lies, and a slice's loss does not depend on the rest of its batch.

    Parameters
    ----------
    model : UNet
        Gives logits, ``[N, 1, H, W]``.
    positive_weight : float
        Weight of a lesion pixel; that of a healthy one is 1. Above 1, lesions that are few among the pixels are found
        earlier in training, and the probabilities rise above the true ones.

    Raises
    ------
    ValueError
        If `positive_weight` is not a positive finite number.
    """

    def __init__(self, model: UNet, *, positive_weight: float = 1.0) -> None:
        super().__init__(model)
        if not 0 < positive_weight < math.inf:
            raise ValueError(f"positive_weight: got {positive_weight}, expected a positive finite number")
        self.positive_weight = positive_weight

    def update(self, batch: Batch, context: UpdateContext) -> Mapping[str, Tensor]:
        logits = self.model(batch.slices)
        loss = self._loss(logits, batch.labels).mean()
        context.minimise("model", loss)
        return {"loss": loss.detach(), "dice": _dice(logits.detach(), batch.labels).mean()}

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        """``"loss"``, and ``"dice"`` of pixels whose probability of lesion is above 1/2, of each slice."""
        logits = self.model(batch.slices)
        return {"loss": self._loss(logits, batch.labels), "dice": _dice(logits, batch.labels)}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        lesion = (labels == 2).to(logits.dtype)
        weight = (labels == 1) + self.positive_weight * lesion
        entropy = F.binary_cross_entropy_with_logits(logits, lesion, reduction="none")
        return (weight * entropy).flatten(1).sum(1) / labels[0].numel()


def _dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice similarity coefficient of each slice inside the brain, 1 where there is no lesion and none is detected."""
    detected, lesion = ((logits > 0) & (labels > 0)).flatten(1), (labels == 2).flatten(1)
    total = detected.sum(1) + lesion.sum(1)
    return torch.where(total > 0, 2 * (detected & lesion).sum(1) / total.clamp_min(1), 1.0)
