"""Coarse noise on the encoder's input, so that the model learns the healthy tissue under a lesion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lesioncore.training.augment import smooth


@dataclass(frozen=True)
class Corruption:
    """Smooth noise added to the encoder's input alone; the likelihood stays that of the healthy slice.

    A model trained so reconstructs the anatomy of a slice but not what does not belong there: with enough latents to
    follow the anatomy, one trained without reproduces lesions as well. The noise is coarse, of about a lesion's width,
    since finer noise is averaged away (Kascenas et al., MIDL 2022, for denoising autoencoders; the bound is that of Im
    et al., AAAI 2017).

    Parameters
    ----------
    strength : float
        Largest standard deviation (z-score) of the noise; each slice draws its own, uniform from 0. 0 switches it off.
    spacing : float
        Distance of the noise's nodes, in pixels.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    strength: float = 0.0
    spacing: float = 9.0

    def __post_init__(self) -> None:
        if not self.strength >= 0 or not self.spacing >= 1:
            raise ValueError(
                f"strength, spacing: got {self.strength}, {self.spacing}, expected >= 0 and at least 1 pixel"
            )


def corrupt(
    slices: Tensor,
    labels: Tensor,
    config: Corruption,
    uniform: Callable[..., Tensor],
    normal: Callable[..., Tensor],
) -> Tensor:
    """Add coarse noise to the brain of each slice.

    Parameters
    ----------
    slices, labels : Tensor
        ``[n, 1, H, W]`` z-scores, and uint8 labels: 0 background, else brain. They are left as they are.
    config : Corruption
        Strength and coarseness.
    uniform, normal : callable
        As for :func:`lesioncore.training.augment.augment`.

    Returns
    -------
    Tensor
        ``[n, 1, H, W]``; equal to `slices` outside the brain.
    """
    if config.strength == 0:
        return slices
    shape = (slices.shape[2], slices.shape[3])
    nodes = normal(1, *(max(2, round(length / config.spacing) + 1) for length in shape))
    strength = config.strength * uniform(1, 1, 1)
    return torch.where(labels > 0, slices + strength * smooth(nodes, shape), slices)
