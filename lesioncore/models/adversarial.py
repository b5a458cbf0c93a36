"""Networks between a slice and its latent, shared by the adversarially trained models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from lesioncore.models.networks import NetworkConfig, make_decoder, make_encoder

Latent = Literal["spatial", "dense"]


@dataclass(frozen=True)
class AdversarialConfig(NetworkConfig):
    """Shape of an encoder, its latent and the decoder that mirrors it.

    Parameters
    ----------
    image_shape, channels, latent_channels, negative_slope
        As for :class:`~lesioncore.models.networks.NetworkConfig`.
    latent : {"spatial", "dense"}
        Whether the latent is a map of the last block's size, or one vector, fully connected to that map.

    Raises
    ------
    ValueError
        As for ``NetworkConfig``, or if `latent` is none of the two.
    """

    latent: Latent = "spatial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent not in get_args(Latent):
            raise ValueError(f"latent: got {self.latent!r}, expected 'spatial' (a map) or 'dense' (a vector)")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Latent channels, height and width; a dense latent is a map of one pixel."""
        return super().latent_shape if self.latent == "spatial" else (self.latent_channels, 1, 1)


def image_to_latent(config: AdversarialConfig) -> nn.Sequential:
    """Encoder: ``[N, 1, H, W]`` to ``[N, *config.latent_shape]``."""
    return nn.Sequential(make_encoder(config), nn.Conv2d(config.channels[-1], config.latent_channels, _kernel(config)))


def latent_to_image(config: AdversarialConfig) -> nn.Sequential:
    """Decoder: ``[N, *config.latent_shape]`` to ``[N, 1, H, W]``."""
    return nn.Sequential(
        nn.ConvTranspose2d(config.latent_channels, config.channels[-1], _kernel(config)),
        make_decoder(config),
        nn.Conv2d(config.channels[0], 1, 3, padding=1),
    )


def _kernel(config: AdversarialConfig) -> tuple[int, int]:
    """A kernel of one pixel, or of the whole map, which makes the convolution a fully connected layer."""
    return (1, 1) if config.latent == "spatial" else config.sizes[-1]
