"""Variational autoencoder prior (method: Chen et al., MedIA 2020, sections 2.1 and 3.2, Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lesioncore.models.gaussian import Gaussian
from lesioncore.models.latent import LatentConfig, LatentModel
from lesioncore.models.registry import register_model


@dataclass(frozen=True)
class VAEConfig(LatentConfig):
    """Shape of a :class:`VAE`; parameters as for :class:`~lesioncore.models.latent.LatentConfig`."""


class VAE(LatentModel):
    """Variational autoencoder with a fixed observation variance of 1/2.

    ``P(X|z) = N(mu_X(z), 1/2 I)``, ``Q(z|X)`` a diagonal Gaussian, ``P(z) = N(0, I)``. Parameters as for
    :class:`~lesioncore.models.latent.LatentModel`, with a :class:`VAEConfig`.
    """

    config: VAEConfig

    def encode(self, x: Tensor) -> Gaussian:
        """Mean and log-variance of ``Q(z|X)``, each ``[N, latent_channels, h, w]``.

        Raises
        ------
        ValueError
            If `x` is not ``[N, 1, H, W]`` with the prior's own slice size.
        """
        h = self.features(x)
        return Gaussian.bounded(self.mean(h).to(x.dtype), self.log_variance(h).to(x.dtype))

    def elbo_terms(
        self,
        x: Tensor,
        noise: Tensor | None = None,
        *,
        learned_variance: bool = False,
        encoded: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``"log_likelihood"`` and one cost, ``"kl"``: ``KL(Q(z|X) || P(z))``; ``[N]`` nats each, summed over pixels
        and latents. Parameters as for :meth:`LatentModel.elbo_terms`.
        """
        posterior = self.encode(x if encoded is None else encoded)
        z = posterior.sample(noise)
        return {
            "log_likelihood": self.log_likelihood(x, z, learned_variance=learned_variance),
            "kl": posterior.kl(),
        }

    def sample(self, noise: Tensor) -> Tensor:
        return self.decode(noise)

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        return self.config.latent_shape


register_model("vae", VAE, VAEConfig)
