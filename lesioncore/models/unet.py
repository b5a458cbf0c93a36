"""Supervised U-Net: the upper bound that methods without labels are held against (paper Tables 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lesioncore.models.networks import NetworkConfig, UpBlock, check_slices, make_encoder
from lesioncore.models.prior import PriorMetadata
from lesioncore.models.registry import register_model


@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """Shape of a :class:`UNet`; parameters as for :class:`~lesioncore.models.networks.NetworkConfig`."""


class UNet(nn.Module):
    """Encoder, bottleneck and decoder of the VAE, with skip connections: ``P(lesion | slice)`` of each pixel.

    Each decoder block takes the features of the same size from the encoder beside its own, and the last convolutions
    take the slice itself.

    Parameters
    ----------
    config : UNetConfig
        Shape of the networks.
    metadata : PriorMetadata, optional
        Grid, intensities and thresholds that belong to the weights.
    """

    def __init__(self, config: UNetConfig, metadata: PriorMetadata | None = None) -> None:
        super().__init__()
        self.config = config
        self.metadata = metadata
        channels, slope = config.channels, config.negative_slope
        self.encoder = make_encoder(config)
        self.reduce = nn.Conv2d(channels[-1], config.latent_channels, 1)
        self.expand = nn.Conv2d(config.latent_channels, channels[-1], 1)
        # Beside the encoder's features of this size come those of the block below, which mirrors it.
        outputs = (*channels[-2::-1], channels[0])
        self.decoder = nn.ModuleList(
            UpBlock(2 * i, o, size, slope)
            for i, o, size in zip(channels[::-1], outputs, config.sizes[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(channels[0] + 1, channels[0], 3, padding=1, bias=False)
        self.head_norm = nn.BatchNorm2d(channels[0])
        self.output = nn.Conv2d(channels[0], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logit of the lesion's probability: ``[N, 1, H, W]`` z-scores to ``[N, 1, H, W]``.

        Raises
        ------
        ValueError
            If `x` is not ``[N, 1, H, W]`` with the model's own slice size.
        """
        check_slices(x, self.config.image_shape)
        features = [x]
        for block in self.encoder:
            features.append(block(features[-1]))
        h = self.expand(self.reduce(features[-1]))
        for block in self.decoder:
            h = block(torch.cat([h, features.pop()], 1))
        h = self.head_norm(self.head(torch.cat([h, features.pop()], 1)))
        return self.output(F.leaky_relu(h, self.config.negative_slope))


register_model("unet", UNet, UNetConfig)
