"""Variational autoencoder prior (method: Chen et al., MedIA 2020, sections 2.1 and 3.2, Fig. 3)."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lesioncore.priors.base import PriorMetadata


@dataclass(frozen=True)
class VAEConfig:
    """Shape of a :class:`VAE`.

    Parameters
    ----------
    image_shape : tuple of int
        Slice height and width in pixels.
    channels : tuple of int
        Filters of each down-sampling residual block; the decoder mirrors them. The paper's are
        ``(16, 32, 64, 128, 256, 512)`` for 200 x 200 slices, which gives a 2 x 2 latent.
    latent_channels : int
        Channels of the latent (the paper's ``dim_z``).
    negative_slope : float
        Slope of the leaky-ReLU for negative inputs.

    Raises
    ------
    ValueError
        If a block would get an input smaller than its 3 x 3 kernel, or a size is not positive.
    """

    image_shape: tuple[int, int] = (200, 200)
    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    latent_channels: int = 512
    negative_slope: float = 0.2

    def __post_init__(self) -> None:
        # JSON has lists where Python has tuples.
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "channels", tuple(self.channels))
        if len(self.image_shape) != 2 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape: got {self.image_shape}, expected two positive pixel counts (height, width)")
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels: got {self.channels}, expected at least one positive filter count")
        if self.latent_channels < 1:
            raise ValueError(f"latent_channels: got {self.latent_channels}, expected a positive number")
        smallest = min(self.sizes[-1])
        if smallest < 1:
            raise ValueError(
                f"channels: {len(self.channels)} blocks shrink a slice of {self.image_shape[0]} x {self.image_shape[1]}"
                " pixels to nothing; use fewer blocks or larger slices"
            )

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Feature-map sizes, from the image to the latent (unpadded 3 x 3, stride 2: 200, 99, 49, 24, 11, 5, 2)."""
        sizes = [self.image_shape]
        for _ in self.channels:
            height, width = sizes[-1]
            sizes.append(((height - 1) // 2, (width - 1) // 2))
        return sizes

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Latent channels, height and width."""
        return (self.latent_channels, *self.sizes[-1])


class DownBlock(nn.Module):
    """Down-sampling residual block: conv, BN, leaky-ReLU, strided conv, BN, plus a strided projection of the input."""

    pairs = (("conv", "norm"), ("down", "down_norm"))

    def __init__(self, in_channels: int, out_channels: int, negative_slope: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.down = nn.Conv2d(out_channels, out_channels, 3, stride=2, bias=False)
        self.down_norm = nn.BatchNorm2d(out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm(self.conv(x)), self.negative_slope)
        # The unpadded 3 x 3 kernels are centred on pixels 1, 3, 5, ...: the 1 x 1 skip must read the same ones.
        skip = self.skip(x[..., 1:-1, 1:-1])
        return F.leaky_relu(self.down_norm(self.down(h)) + skip, self.negative_slope)


class UpBlock(nn.Module):
    """Mirror of :class:`DownBlock`: the strided convolution becomes bilinear up-sampling and a convolution."""

    pairs = (("conv", "norm"), ("up", "up_norm"))

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int], negative_slope: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.up = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.up_norm = nn.BatchNorm2d(out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.size = size
        self.negative_slope = negative_slope

    def _upsample(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm(self.conv(x)), self.negative_slope)
        # A 1 x 1 convolution commutes with interpolation: projecting before up-sampling is the same and cheaper.
        skip = self._upsample(self.skip(x))
        return F.leaky_relu(self.up_norm(self.up(self._upsample(h))) + skip, self.negative_slope)


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
        channels, sizes, slope = config.channels, config.sizes, config.negative_slope
        inputs = (1, *channels[:-1])
        self.encoder = nn.Sequential(*(DownBlock(i, o, slope) for i, o in zip(inputs, channels, strict=True)))
        self.mean = nn.Conv2d(channels[-1], config.latent_channels, 1)
        self.log_variance = nn.Conv2d(channels[-1], config.latent_channels, 1)
        self.expand = nn.Conv2d(config.latent_channels, channels[-1], 1)
        outputs = (*channels[-2::-1], channels[0])
        self.decoder = nn.Sequential(
            *(UpBlock(i, o, size, slope) for i, o, size in zip(channels[::-1], outputs, sizes[-2::-1], strict=True))
        )
        self.output = nn.Conv2d(channels[0], 1, 3, padding=1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of ``Q(z|X)``, each ``[N, latent_channels, h, w]``.

        Raises
        ------
        ValueError
            If `x` is not ``[N, 1, H, W]`` with the prior's own slice size.
        """
        if x.dim() != 4 or x.shape[1] != 1 or tuple(x.shape[2:]) != self.config.image_shape:
            height, width = self.config.image_shape
            raise ValueError(
                f"x: got shape {tuple(x.shape)}, expected [N, 1, {height}, {width}]; "
                "lesioncore.restore brings volumes to the prior's grid"
            )
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
        for block in (*copy.encoder, *copy.decoder):
            for conv, norm in block.pairs:
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
        return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape of one slice's `noise` in :meth:`elbo`."""
        return self.config.latent_shape
