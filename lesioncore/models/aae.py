"""Adversarial autoencoder (Makhzani et al., arXiv 1511.05644; for lesions: Chen & Konukoglu, arXiv 1806.04972)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lesioncore.models.adversarial import AdversarialConfig, image_to_latent, latent_to_image
from lesioncore.models.networks import check_slices
from lesioncore.models.prior import PriorMetadata
from lesioncore.models.registry import register_model


@dataclass(frozen=True)
class AAEConfig(AdversarialConfig):
    """Shape of an :class:`AAE`; parameters as for :class:`~lesioncore.models.adversarial.AdversarialConfig`."""


class AAE(nn.Module):
    """Deterministic autoencoder whose latents of healthy slices are spread as ``N(0, I)``.

    It is trained by :class:`lesioncore.training.adversarial.AAELearner` and detects by projection
    (:class:`lesioncore.detectors.ProjectionDetector`).

    Parameters
    ----------
    config : AAEConfig
        Shape of the networks.
    metadata : PriorMetadata, optional
        Grid, intensities and thresholds that belong to the weights.
    """

    def __init__(self, config: AAEConfig, metadata: PriorMetadata | None = None) -> None:
        super().__init__()
        self.config = config
        self.metadata = metadata
        self.encoder = image_to_latent(config)
        self.decoder = latent_to_image(config)

    def encode(self, x: Tensor) -> Tensor:
        """Latent ``[N, *config.latent_shape]`` of slices ``[N, 1, H, W]``.

        Raises
        ------
        ValueError
            If `x` is not ``[N, 1, H, W]`` with the model's own slice size.
        """
        check_slices(x, self.config.image_shape)
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Slices ``[N, 1, H, W]`` of latents ``[N, *config.latent_shape]``."""
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Prior projection: decode the latent of `x`, ``[N, 1, H, W]``."""
        return self.decode(self.encode(x))


register_model("aae", AAE, AAEConfig)
