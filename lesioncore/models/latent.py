"""Base of VAE and GMVAE: encoder and decoder, the distribution of the pixels, projection, folding."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from lesioncore.models.networks import NetworkConfig, check_slices, make_decoder, make_encoder
from lesioncore.models.prior import PriorMetadata, elbo_of_terms
from lesioncore.models.residual import inference_copy

PIXEL_LOG_VARIANCE = (-6.0, 4.0)
"""Range of a learned pixel log-variance: standard deviations from 0.05 (finer than a scan's noise) to 7.4 z-scores.
Without it the likelihood of a constant background would have no upper bound."""

ModelT = TypeVar("ModelT", bound="LatentModel")


@dataclass(frozen=True)
class LatentConfig(NetworkConfig):
    """Shape of a latent-variable model.

    Parameters
    ----------
    image_shape, channels, latent_channels, negative_slope
        As for :class:`~lesioncore.models.networks.NetworkConfig`.
    learned_variance : bool
        A second output channel learns a log-variance for each pixel. Only training can use it, as the authors' public
        code did; the ELBO that restores always has variance 1/2.
    """

    learned_variance: bool = False


class LatentModel(nn.Module, ABC):
    """Encoder, decoder and ``P(X|z) = N(mu_X(z), 1/2 I)``; a subclass adds the latents' distributions.

    Parameters
    ----------
    config : LatentConfig
        Shape of the networks.
    metadata : PriorMetadata, optional
        Grid, intensities and calibration that belong to the weights.
    """

    def __init__(self, config: LatentConfig, metadata: PriorMetadata | None = None) -> None:
        super().__init__()
        self.config = config
        self.metadata = metadata
        channels = config.channels
        self.encoder = make_encoder(config)
        self.mean = nn.Conv2d(channels[-1], config.latent_channels, 1)
        self.log_variance = nn.Conv2d(channels[-1], config.latent_channels, 1)
        self.expand = nn.Conv2d(config.latent_channels, channels[-1], 1)
        self.decoder = make_decoder(config)
        self.output = nn.Conv2d(channels[0], 2 if config.learned_variance else 1, 3, padding=1)

    def features(self, x: Tensor) -> Tensor:
        """Last features of the encoder, from which the latents' parameters are made, ``[N, channels[-1], h, w]``.

        Raises
        ------
        ValueError
            If `x` is not ``[N, 1, H, W]`` with the model's own slice size.
        """
        check_slices(x, self.config.image_shape)
        # Sums over pixels and latents are taken in the input's precision, whatever autocast makes of the convolutions.
        return self.encoder(x).to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Mean ``mu_X(z)`` of ``P(X|z)``, ``[N, 1, H, W]``."""
        return self._output(z)[:, :1]

    def reconstruct(self, x: Tensor) -> Tensor:
        """Prior projection ``mu_X(mu_z(X))``, ``[N, 1, H, W]``."""
        return self.decode(self.mean(self.features(x)))

    def log_likelihood(self, x: Tensor, z: Tensor, *, learned_variance: bool = False) -> Tensor:
        """``log P(X|z)`` of each slice, ``[N]`` nats.

        Parameters
        ----------
        x : Tensor
            ``[N, 1, H, W]`` z-scores.
        z : Tensor
            ``[N, latent_channels, h, w]``.
        learned_variance : bool
            With the learned variance of each pixel, its logarithm clamped to `PIXEL_LOG_VARIANCE`, instead of 1/2.

        Raises
        ------
        ValueError
            If a learned variance is asked for and the model has none.
        """
        if learned_variance and not self.config.learned_variance:
            raise ValueError(
                "learned_variance: got True, but the model learns no variance; make it with"
                f" {type(self.config).__name__}(learned_variance=True)"
            )
        output = self._output(z)
        squared = (x - output[:, :1]).square()
        if not learned_variance:
            return -squared.flatten(1).sum(1) - 0.5 * math.prod(x.shape[1:]) * math.log(math.pi)
        log_variance = output[:, 1:].clamp(*PIXEL_LOG_VARIANCE)
        terms = squared * torch.exp(-log_variance) + log_variance + math.log(2.0 * math.pi)
        return -0.5 * terms.flatten(1).sum(1)

    @abstractmethod
    def elbo_terms(
        self,
        x: Tensor,
        noise: Tensor | None = None,
        *,
        learned_variance: bool = False,
        encoded: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``"log_likelihood"`` and the costs that the ELBO takes from it, ``[N]`` nats each.

        Parameters
        ----------
        x : Tensor
            ``[N, 1, H, W]`` z-scores.
        noise : Tensor, optional
            Standard normal ``[N, *noise_shape]`` for a reparameterised sample of the latents; their means when absent.
        learned_variance : bool
            As for :meth:`log_likelihood`; for training.
        encoded : Tensor, optional
            What the encoder is shown instead of `x`, ``[N, 1, H, W]``; for training. ``Q(z|X)`` may be any
            distribution, so what results is a lower bound of ``log P(X)`` as well.
        """

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape of one slice's `noise`."""

    @abstractmethod
    def sample(self, noise: Tensor) -> Tensor:
        """Draw from the model: standard normal ``[N, *noise_shape]`` to the mean of ``P(X|z)``, ``[N, 1, H, W]``."""

    def elbo(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Evidence lower bound of each slice, ``[N]`` nats (paper section 2.1); see :meth:`elbo_terms`."""
        return elbo_of_terms(self.elbo_terms(x, noise))

    def fixed_posterior_elbo(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The ELBO, differentiable in `x` with the latents' posterior held: its gradient is ``2 (mu_X(z) - X)``."""
        return elbo_of_terms(self.elbo_terms(x, noise, encoded=x.detach()))

    def for_inference(self: ModelT) -> ModelT:
        """A copy for restoration, with frozen weights: see :func:`lesioncore.models.residual.inference_copy`."""
        return inference_copy(self)

    def _output(self, z: Tensor) -> Tensor:
        return self.output(self.decoder(self.expand(z))).to(z.dtype)
