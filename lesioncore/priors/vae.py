"""Variational autoencoder prior (method: Chen et al., MedIA 2020, sections 2.1 and 3.2, Fig. 3)."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lesioncore.priors.base import PriorMetadata
from lesioncore.priors.networks import NetworkConfig, check_slices, fold_batch_norms, make_decoder, make_encoder


@dataclass(frozen=True)
class VAEConfig(NetworkConfig):
    """Shape of a :class:`VAE`; parameters as for :class:`~lesioncore.priors.networks.NetworkConfig`."""


class VAE(nn.Module):
    """Variational autoencoder with a fixed observation variance of 1/2.

    ``P(X|z) = N(mu_X(z), 1/2 I)``, ``Q(z|X)`` a diagonal Gaussian, ``P(z) = N(0, I)``.

    Parameters
    ----------
    config : VAEConfig
        Shape of the networks.
    metadata : PriorMetadata, optional
        Grid, intensities and calibration that belong to the weights.
    """

    def __init__(self, config: VAEConfig, metadata: PriorMetadata | None = None) -> None:
        super().__init__()
        self.config = config
        self.metadata = metadata
        channels = config.channels
        self.encoder = make_encoder(config)
        self.mean = nn.Conv2d(channels[-1], config.latent_channels, 1)
        self.log_variance = nn.Conv2d(channels[-1], config.latent_channels, 1)
        self.expand = nn.Conv2d(config.latent_channels, channels[-1], 1)
        self.decoder = make_decoder(config)
        self.output = nn.Conv2d(channels[0], 1, 3, padding=1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of ``Q(z|X)``, each ``[N, latent_channels, h, w]``.

        Raises
        ------
        ValueError
            If `x` is not ``[N, 1, H, W]`` with the prior's own slice size.
        """
        check_slices(x, self.config.image_shape)
        h = self.encoder(x)
        return self.mean(h), self.log_variance(h)

    def decode(self, z: Tensor) -> Tensor:
        """Mean ``mu_X(z)`` of ``P(X|z)``, ``[N, 1, H, W]``."""
        return self.output(self.decoder(self.expand(z)))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Prior projection ``mu_X(mu_z(X))``, ``[N, 1, H, W]``."""
        return self.decode(self.encode(x)[0])

    def elbo_terms(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reconstruction term ``log P(X|z)`` and ``KL(Q(z|X) || P(z))`` of each slice.

        Parameters
        ----------
        x : Tensor
            ``[N, 1, H, W]`` z-scores.
        noise : Tensor, optional
            Standard normal ``[N, *latent_shape]`` for a reparameterised sample of ``z``; its mean when absent.

        Returns
        -------
        log_likelihood, kl : Tensor
            ``[N]`` each, nats, summed over pixels and latents.
        """
        mean, log_variance = self.encode(x)
        z = mean if noise is None else mean + noise * torch.exp(0.5 * log_variance)
        pixels = math.prod(x.shape[1:])
        log_likelihood = -(x - self.decode(z)).square().flatten(1).sum(1) - 0.5 * pixels * math.log(math.pi)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).flatten(1).sum(1)
        return log_likelihood, kl

    def elbo(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Evidence lower bound of each slice, ``[N]`` nats (paper section 2.1); see :meth:`elbo_terms`."""
        log_likelihood, kl = self.elbo_terms(x, noise)
        return log_likelihood - kl

    def folded(self) -> VAE:
        """A copy for restoration: each batch normalisation folded into the convolution before it, weights frozen."""
        copy = deepcopy(self).eval().requires_grad_(False)
        copy.metadata = None
        fold_batch_norms(copy)
        return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape of one slice's `noise` in :meth:`elbo`."""
        return self.config.latent_shape
