"""Gaussian-mixture variational autoencoder prior (method: Chen et al., MedIA 2020, section 2.1.2, Eq. 1-2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lesioncore.models.gaussian import Gaussian
from lesioncore.models.latent import LatentConfig, LatentModel
from lesioncore.models.prior import PriorMetadata
from lesioncore.models.registry import register_model


@dataclass(frozen=True)
class GMVAEConfig(LatentConfig):
    """Shape of a :class:`GMVAE`.

    Parameters
    ----------
    image_shape, channels, latent_channels, negative_slope, learned_variance
        As for :class:`~lesioncore.models.latent.LatentConfig`.
    components : int
        Components c of the mixture; the paper has 1, 3, 6 and 9.
    w_channels : int
        Channels of the latent ``w``, from which the components are made; it has the height and width of ``z``.
    hidden_channels : int
        Width of the hidden layer from ``w`` to the components.

    Raises
    ------
    ValueError
        If a size is not positive, or as for ``NetworkConfig``.
    """

    components: int = 9
    w_channels: int = 32
    hidden_channels: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("components", "w_channels", "hidden_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a positive number")


class GMVAE(LatentModel):
    """VAE whose latent ``z`` has a mixture of Gaussians as its prior, with a fixed observation variance of 1/2.

    ``P(w) = N(0, I)``; one component ``k`` for the whole slice, ``P(k) = 1/c``;
    ``P(z|w,k) = N(mu_k(w), diag sigma_k^2(w))``; ``P(X|z) = N(mu_X(z), 1/2 I)``. ``Q(z|X)`` and ``Q(w|X)`` are diagonal
    Gaussians, and the posterior of the component follows from Bayes' rule. Encoder and decoder are those of the
    :class:`~lesioncore.models.vae.VAE`. Parameters as for :class:`~lesioncore.models.latent.LatentModel`, with a
    :class:`GMVAEConfig`.
    """

    config: GMVAEConfig

    def __init__(self, config: GMVAEConfig, metadata: PriorMetadata | None = None) -> None:
        super().__init__(config, metadata)
        self.w_mean = nn.Conv2d(config.channels[-1], config.w_channels, 1)
        self.w_log_variance = nn.Conv2d(config.channels[-1], config.w_channels, 1)
        outputs = config.components * config.latent_channels
        self.component_hidden = nn.Conv2d(config.w_channels, config.hidden_channels, 1)
        self.component_mean = nn.Conv2d(config.hidden_channels, outputs, 1)
        self.component_log_variance = nn.Conv2d(config.hidden_channels, outputs, 1)

    def encode(self, x: Tensor) -> tuple[Gaussian, Gaussian]:
        """``Q(z|X)``, ``[N, latent_channels, h, w]``, and ``Q(w|X)``, ``[N, w_channels, h, w]``.

        Raises
        ------
        ValueError
            If `x` is not ``[N, 1, H, W]`` with the prior's own slice size.
        """
        h = self.features(x)
        heads = (self.mean, self.log_variance, self.w_mean, self.w_log_variance)
        z_mean, z_log_variance, w_mean, w_log_variance = (head(h).to(x.dtype) for head in heads)
        return Gaussian.bounded(z_mean, z_log_variance), Gaussian.bounded(w_mean, w_log_variance)

    def components(self, w: Tensor) -> Gaussian:
        """``P(z|w,k)`` for all k: mean and log-variance, ``[N, components, latent_channels, h, w]`` (paper Eq. 1)."""
        h = F.leaky_relu(self.component_hidden(w), self.config.negative_slope)
        sizes = (self.config.components, self.config.latent_channels)
        mean, log_variance = (
            head(h).to(w.dtype).unflatten(1, sizes) for head in (self.component_mean, self.component_log_variance)
        )
        return Gaussian.bounded(mean, log_variance)

    def posterior(self, z: Tensor, w: Tensor) -> Tensor:
        """``P(k|z,w)`` of each slice by Bayes' rule, ``[N, components]``.

        Parameters
        ----------
        z : Tensor
            ``[N, latent_channels, h, w]``, such as the mean of ``Q(z|X)``.
        w : Tensor
            ``[N, w_channels, h, w]``, such as the mean of ``Q(w|X)``.
        """
        return _log_posterior(z, self.components(w)).exp()

    def elbo_terms(
        self,
        x: Tensor,
        noise: Tensor | None = None,
        *,
        learned_variance: bool = False,
        encoded: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Log-likelihood and costs of each slice (paper Eq. 2), ``[N]`` nats each, summed over pixels and latents.

        Parameters as for :meth:`LatentModel.elbo_terms`; `noise` is that of ``z`` and of ``w``, one after the other in
        the channels.

        Returns
        -------
        dict
            ``"log_likelihood"``: ``log P(X|z)``. ``"kl_z"``: ``sum_k P(k|z,w) KL(Q(z|X) || P(z|w,k))``. ``"kl_w"``:
            ``KL(Q(w|X) || P(w))``. ``"kl_k"``: ``KL(P(k|z,w) || P(k))``, at most ``log(components)``.
        """
        z_posterior, w_posterior = self.encode(x if encoded is None else encoded)
        z_noise, w_noise = (None, None) if noise is None else self._split(noise)
        z, w = z_posterior.sample(z_noise), w_posterior.sample(w_noise)
        components = self.components(w)
        log_posterior = _log_posterior(z, components)
        posterior = log_posterior.exp()
        divergences = Gaussian(*(part.unsqueeze(1) for part in z_posterior)).kl(components)
        return {
            "log_likelihood": self.log_likelihood(x, z, learned_variance=learned_variance),
            "kl_z": (posterior * divergences).sum(1),
            "kl_w": w_posterior.kl(),
            "kl_k": (posterior * log_posterior).sum(1) + math.log(self.config.components),
        }

    def sample(self, noise: Tensor, k: Tensor | None = None) -> Tensor:
        """Draw from the model: the mean of ``P(X|z)``, ``[N, 1, H, W]``.

        Parameters
        ----------
        noise : Tensor
            Standard normal ``[N, *noise_shape]``.
        k : Tensor, optional
            Component of each slice, ``[N]``, from 0. All components in turn when absent.
        """
        if k is None:
            k = torch.arange(len(noise), device=noise.device) % self.config.components
        z_noise, w = self._split(noise)
        rows = torch.arange(len(noise), device=noise.device)
        chosen = Gaussian(*(part[rows, k] for part in self.components(w)))
        return self.decode(chosen.sample(z_noise))

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.config.latent_shape
        return (channels + self.config.w_channels, height, width)

    def _split(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Noise of z and of w."""
        z, w = noise.split([self.config.latent_channels, self.config.w_channels], dim=1)
        return z, w


def _log_posterior(z: Tensor, components: Gaussian) -> Tensor:
    """``log P(k|z,w)``, ``[N, components]``; ``P(k)`` is the same for all and cancels."""
    return torch.log_softmax(components.log_density(z.unsqueeze(1)), dim=1)


register_model("gmvae", GMVAE, GMVAEConfig)
