"""The network of brain extraction, and the intensities that it takes."""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CHANNELS = (32, 64, 96, 96)
"""The network's features at 4, 8, 16 and 32 mm."""
WEIGHTS = Path(__file__).parent / "weights" / "brain.safetensors"


class BrainNetwork(nn.Module):
    """A 3-D U-Net whose features live at 4 mm and coarser, with one thin layer at 2 mm.

    Its logits are a sum over the scales, each adding what it sees to those of the coarser ones: the deep features then
    learn from the first step on, which made the training several times faster.

    Parameters
    ----------
    channels : tuple of int
        Features at 4, 8, 16, ... mm.
    fine : int
        Features at 2 mm.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS, fine: int = 7) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        self.stem = nn.Sequential(_block(8, channels[0]), _block(channels[0], channels[0]))
        self.down = nn.ModuleList(nn.Sequential(_block(a, b, stride=2), _block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(_block(a + b, a) for a, b in pairs)
        self.scales = nn.ModuleList(nn.Conv3d(count, 2, 1) for count in channels)
        self.blocks = nn.Conv3d(channels[0], 8 * 2, 1)
        self.fine = nn.Conv3d(channels[0], 8 * fine, 1)
        self.last = nn.Sequential(nn.Conv3d(fine + 1, 8, 3, padding=1), nn.LeakyReLU(0.01), nn.Conv3d(8, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, 2, X, Y, Z]`` of brain and core from scans ``[N, 1, X, Y, Z]`` after :func:`normalize`.

        The lengths are to be multiples of :attr:`multiple`.
        """
        features = [self.stem(_to_channels(x))]
        for down in self.down:
            features.append(down(features[-1]))
        y = features.pop()
        logits = self.scales[-1](y)
        for scale, up in zip(reversed(self.scales[:-1]), reversed(self.up), strict=True):
            y = up(torch.cat([_enlarged(y), features.pop()], 1))
            logits = _enlarged(logits) + scale(y)
        logits = _enlarged(logits) + _from_channels(self.blocks(y))
        fine = _from_channels(self.fine(y))
        return logits + self.last(torch.cat([x.to(fine.dtype), fine], 1))

    @property
    def multiple(self) -> int:
        """Number of which a volume's lengths have to be multiples."""
        return 2 ** (len(self.down) + 1)


def normalize(volume: Tensor) -> Tensor:
    """Bring a scan's intensities to where the network has seen them, by a gain and an offset.

    0 is the first percentile, and 1 the 90th of what is above a tenth of the range; values end at 3.

    Parameters
    ----------
    volume : Tensor
        Any shape, finite.
    """
    sample = volume.reshape(-1)
    sample = sample[:: max(1, sample.numel() // 60_000)].float().sort().values
    low, high = (float(sample[int(share * (len(sample) - 1))]) for share in (0.01, 0.999))
    signal = sample[sample > low + 0.1 * (high - low)]
    top = float(signal[int(0.9 * (len(signal) - 1))]) if len(signal) else high
    return ((volume.float() - low) / max(top - low, 1e-6 * max(abs(low), abs(top)), 1e-30)).clamp(-1, 3)


@lru_cache(maxsize=2)
def load_network(path: str | os.PathLike[str] = WEIGHTS, device: str = "cpu") -> BrainNetwork:
    """Read the network's weights, once."""
    network = BrainNetwork()
    network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return network.to(device).eval()


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.InstanceNorm3d(outputs, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
    )


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0)


def _to_channels(x: Tensor) -> Tensor:
    """Blocks of 2 x 2 x 2 voxels become channels: ``[N, 8 C, X / 2, Y / 2, Z / 2]``."""
    n, c, a, b, d = x.shape
    x = x.reshape(n, c, a // 2, 2, b // 2, 2, d // 2, 2)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, 8 * c, a // 2, b // 2, d // 2)


def _from_channels(x: Tensor) -> Tensor:
    """The inverse of :func:`_to_channels`."""
    n, c, a, b, d = x.shape
    x = x.reshape(n, c // 8, 2, 2, 2, a, b, d).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(n, c // 8, 2 * a, 2 * b, 2 * d)
