"""Map of the spread of healthy people's residuals by place of the template."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

_CUBE = 4  # pixels and slices along an edge of a cube, which shares one spread
_LARGEST = 4.0  # spreads; larger scores are clipped, so that no single person dominates a place


@dataclass(frozen=True, eq=False)
class SpreadMap:
    """Spread of healthy people's scores by place: sums over cubes of the slices of registered scans.

    A prior leaves more unexplained at the cortex and around vessels than within white matter, in everyone. Maps of
    several people, or sites, add up (``a + b``); none holds an image.

    Attributes
    ----------
    squares : ndarray
        float32 ``[N / 4, H / 4, W / 4]`` (rounded up): squared scores of the brain's pixels in each cube, summed up.
    counts : ndarray
        float32 of the same shape: number of those pixels.
    """

    squares: npt.NDArray[np.float32]
    counts: npt.NDArray[np.float32]

    @classmethod
    def of(cls, scores: Tensor, mask: Tensor) -> SpreadMap:
        """Map of one person.

        Parameters
        ----------
        scores, mask : Tensor
            ``[N, 1, H, W]``: signed scores in units of the person's own spread, and the brain (bool).
        """
        values = torch.where(mask, scores.clamp(-_LARGEST, _LARGEST), 0.0)
        return cls(_sums(values.square()), _sums(mask.to(values.dtype)))

    def __add__(self, other: SpreadMap) -> SpreadMap:
        self._check(other.squares.shape)
        return SpreadMap(self.squares + other.squares, self.counts + other.counts)

    def __sub__(self, other: SpreadMap) -> SpreadMap:
        """The map without a person who is in it."""
        self._check(other.squares.shape)
        return SpreadMap(np.maximum(self.squares - other.squares, 0), np.maximum(self.counts - other.counts, 0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpreadMap):
            return NotImplemented
        return np.array_equal(self.squares, other.squares) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]

    def relative(self, shape: torch.Size) -> Tensor:
        """Spread at each pixel as a multiple of the whole brain's, interpolated between the cubes' middles.

        Parameters
        ----------
        shape : torch.Size
            ``[N, 1, H, W]``, of a registered scan's slices.

        Returns
        -------
        Tensor
            float32 of `shape`: ``sqrt((squares + m) / (counts + 1)) / sqrt(m)`` with the whole brain's mean square m,
            so that it is 1 where nobody's brain is.

        Raises
        ------
        ValueError
            If the map is that of slices of another shape.
        """
        self._check(tuple(-(-length // _CUBE) for length in (shape[0], *shape[2:])))
        count = self.counts.sum()
        mean = self.squares.sum() / count if count > 0 else 0.0
        if mean <= 0:
            return torch.ones(shape)
        spread = np.sqrt((self.squares / mean + 1) / (self.counts + 1), dtype=np.float32)
        cubes = torch.from_numpy(spread)[None, None]
        pixels = F.interpolate(cubes, scale_factor=float(_CUBE), mode="trilinear", align_corners=False)
        return pixels[0, 0, : shape[0], : shape[2], : shape[3]].unsqueeze(1).contiguous()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the numbers are little-endian float16, compressed and in base 64.

        Halves have 11 bits, an error of a spread of a 4,000th; the counts are stored as shares of the largest.
        """
        largest = float(self.counts.max()) or 1.0
        return {
            "shape": list(self.squares.shape),
            "largest_count": largest,
            "squares": _packed(self.squares / largest),
            "counts": _packed(self.counts / largest),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SpreadMap:
        """Inverse of :meth:`to_dict`."""
        largest = values["largest_count"]
        squares, counts = (_unpacked(values[name], values["shape"]) * largest for name in ("squares", "counts"))
        return cls(squares, counts)

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape != self.squares.shape:
            raise ValueError(f"spread map: got slices of {shape} cubes, expected {self.squares.shape}; calibrate again")


def _sums(values: Tensor) -> npt.NDArray[np.float32]:
    """Sums over cubes of ``[N, 1, H, W]``; those at the far edges may be smaller."""
    volume = values[:, 0].double()
    ends = [part for length in reversed(volume.shape) for part in (0, -length % _CUBE)]
    sums = F.avg_pool3d(F.pad(volume, ends)[None, None], _CUBE)[0, 0] * _CUBE**3
    return sums.float().numpy()


def _packed(values: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(zlib.compress(values.astype("<f2").tobytes(), 9)).decode()


def _unpacked(text: str, shape: list[int]) -> npt.NDArray[np.float32]:
    halves = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f2")
    return halves.astype(np.float32).reshape(shape)
