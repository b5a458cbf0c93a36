"""Diagonal Gaussians over spatial latents: samples, densities and divergences, summed in nats."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_VARIANCE_BOUND = 20.0
"""Bound of ``|log sigma^2|`` of a latent, far outside of what trained models have: keeps KL terms finite in float32."""


class Gaussian(NamedTuple):
    """``N(mean, diag exp(log_variance))``, each ``[..., C, h, w]``; the last three axes are one vector."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def bounded(cls, mean: Tensor, log_variance: Tensor) -> Gaussian:
        """A Gaussian whose log-variance is clamped to ``+-LOG_VARIANCE_BOUND``."""
        return cls(mean, log_variance.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND))

    def sample(self, noise: Tensor | None) -> Tensor:
        """Reparameterised sample from standard normal `noise` of the mean's shape; the mean without."""
        return self.mean if noise is None else self.mean + noise * torch.exp(0.5 * self.log_variance)

    def log_density(self, z: Tensor) -> Tensor:
        """``log N(z; mean, variance)``, ``[...]``."""
        squared = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * _sum(squared + self.log_variance + math.log(2.0 * math.pi))

    def kl(self, other: Gaussian | None = None) -> Tensor:
        """``KL(self || other)``, ``[...]``; to ``N(0, I)`` without `other`. Broadcasts."""
        ratio, distance = self.log_variance, self.mean.square()
        if other is not None:
            ratio = self.log_variance - other.log_variance
            distance = (self.mean - other.mean).square() * torch.exp(-other.log_variance)
        # expm1(r) - r >= 0 even where rounding would make exp(r) - 1 - r negative.
        return 0.5 * _sum(distance + torch.expm1(ratio) - ratio)


def _sum(values: Tensor) -> Tensor:
    return values.flatten(-3).sum(-1)
