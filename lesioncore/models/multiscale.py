"""Variational autoencoder with latents at every size of its feature maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lesioncore.models.gaussian import Gaussian
from lesioncore.models.networks import check_slices
from lesioncore.models.prior import PriorMetadata
from lesioncore.models.registry import register_model
from lesioncore.models.vae import VAE, VAEConfig


@dataclass(frozen=True)
class MultiscaleVAEConfig(VAEConfig):
    """Shape of a :class:`MultiscaleVAE`.

    Parameters
    ----------
    image_shape, channels, latent_channels, negative_slope, learned_variance
        As for :class:`VAEConfig`.
    finer_channels : tuple of int
        Channels of the latents behind each down-sampling block but the last, whose latent has `latent_channels`; from
        the finest map to the coarsest.

    Raises
    ------
    ValueError
        As for ``VAEConfig``, or if there is not one positive number for each block but the last.
    """

    finer_channels: tuple[int, ...] = (2, 4, 8, 8, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "finer_channels", tuple(self.finer_channels))
        if len(self.finer_channels) != len(self.channels) - 1 or any(count < 1 for count in self.finer_channels):
            raise ValueError(
                f"finer_channels: got {self.finer_channels}, expected {len(self.channels) - 1} positive numbers, one"
                " for each block but the last"
            )

    @property
    def latent_shapes(self) -> list[tuple[int, int, int]]:
        """Channels, height and width of each map of latents, the finest first."""
        counts = (*self.finer_channels, self.latent_channels)
        return [(count, *size) for count, size in zip(counts, self.sizes[1:], strict=True)]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """All latents as one vector."""
        return (sum(count * height * width for count, height, width in self.latent_shapes), 1, 1)


class MultiscaleVAE(VAE):
    """A :class:`VAE` whose latent vector is laid out over maps of several sizes, each ``N(0, I)``.

    A latent of 2 x 2 or 5 x 5 places cannot say where each sulcus runs, so that a VAE's reconstruction is blurred there
    and every sulcus looks like a lesion. Here each down-sampling block but the last has latents of its own, made from
    its features, which enter the decoder where its features have that size. The model is a VAE all the same: one
    Gaussian posterior, one KL term, a vector ``z`` of ``[N, K, 1, 1]`` for all maps. Trained with
    :class:`lesioncore.training.corruption.Corruption`, the encoder leaves coarse deviations out of the fine latents.

    Parameters as for :class:`VAE`, with a :class:`MultiscaleVAEConfig`.
    """

    config: MultiscaleVAEConfig

    def __init__(self, config: MultiscaleVAEConfig, metadata: PriorMetadata | None = None) -> None:
        super().__init__(config, metadata)
        pairs = list(zip(config.channels, config.finer_channels, strict=False))
        self.finer_mean = nn.ModuleList(nn.Conv2d(features, latents, 1) for features, latents in pairs)
        self.finer_log_variance = nn.ModuleList(nn.Conv2d(features, latents, 1) for features, latents in pairs)
        self.finer_expand = nn.ModuleList(nn.Conv2d(latents, features, 1) for features, latents in pairs)

    def encode(self, x: Tensor) -> Gaussian:
        """Mean and log-variance of ``Q(z|X)``, each ``[N, K, 1, 1]``; errors as for :meth:`VAE.encode`."""
        check_slices(x, self.config.image_shape)
        features = [x]
        for block in self.encoder:
            features.append(block(features[-1]))

        def vector(heads: list[nn.Module]) -> Tensor:
            maps = [head(h).flatten(1) for head, h in zip(heads, features[1:], strict=True)]
            return torch.cat(maps, 1)[..., None, None].to(x.dtype)

        return Gaussian.bounded(
            vector([*self.finer_mean, self.mean]), vector([*self.finer_log_variance, self.log_variance])
        )

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x).mean)

    def _output(self, z: Tensor) -> Tensor:
        shapes = self.config.latent_shapes
        parts = z.flatten(1).split([count * height * width for count, height, width in shapes], 1)
        *finer, coarsest = (part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))
        h = self.expand(coarsest)
        for block in self.decoder:
            h = block(h)
            if finer:
                h = h + self.finer_expand[len(finer) - 1](finer.pop())
        return self.output(h).to(z.dtype)


register_model("multiscale-vae", MultiscaleVAE, MultiscaleVAEConfig)
