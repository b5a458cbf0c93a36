"""Residual networks that all models share (method: Chen et al., MedIA 2020, section 3.2, Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of an encoder and of the decoder that mirrors it.

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
    """Down-sampling residual block: conv, BN, leaky-ReLU, strided conv, BN, plus a strided projection of the input.

    Without `norm` the convolutions have biases instead, and a slice's output and gradient do not depend on its batch
    in training mode either.
    """

    pairs = (("conv", "norm"), ("down", "down_norm"))

    def __init__(self, in_channels: int, out_channels: int, negative_slope: float, *, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.down = nn.Conv2d(out_channels, out_channels, 3, stride=2, bias=not norm)
        self.down_norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm(self.conv(x)), self.negative_slope)
        # The unpadded 3 x 3 kernels are centred on pixels 1, 3, 5, ...: the 1 x 1 skip must read the same ones. Picking
        # them by a slice and not by the convolution's stride is the same to the bit, twice as fast on CPUs, and safe:
        # a strided 1 x 1 convolution's weight gradient writes beyond its memory in oneDNN 3.12 (torch 2.13) where
        # fewer than 16 channels lie last and the sizes are even.
        skip = self.skip(x[..., 1:-1:2, 1:-1:2])
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


def make_encoder(config: NetworkConfig, *, norm: bool = True) -> nn.Sequential:
    """Down-sampling blocks: ``[N, 1, H, W]`` to ``[N, channels[-1], h, w]`` (``config.sizes[-1]``)."""
    inputs = (1, *config.channels[:-1])
    return nn.Sequential(
        *(DownBlock(i, o, config.negative_slope, norm=norm) for i, o in zip(inputs, config.channels, strict=True))
    )


def make_decoder(config: NetworkConfig) -> nn.Sequential:
    """Mirror of :func:`make_encoder`: ``[N, channels[-1], h, w]`` to ``[N, channels[0], H, W]``."""
    inputs, outputs = config.channels[::-1], (*config.channels[-2::-1], config.channels[0])
    return nn.Sequential(
        *(
            UpBlock(i, o, size, config.negative_slope)
            for i, o, size in zip(inputs, outputs, config.sizes[-2::-1], strict=True)
        )
    )


def check_slices(x: Tensor, image_shape: tuple[int, int]) -> None:
    """Raise ``ValueError`` unless `x` is ``[N, 1, H, W]`` with the model's own slice size."""
    if x.dim() != 4 or x.shape[1] != 1 or tuple(x.shape[2:]) != image_shape:
        raise ValueError(
            f"x: got shape {tuple(x.shape)}, expected [N, 1, {image_shape[0]}, {image_shape[1]}]; "
            "lesioncore.restore brings volumes to the prior's grid"
        )


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each residual block's batch normalisations into the convolutions before them, in place (evaluation mode)."""
    for block in module.modules():
        if isinstance(block, (DownBlock, UpBlock)):
            for conv, norm in block.pairs:
                if isinstance(getattr(block, norm), nn.Identity):
                    continue
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
