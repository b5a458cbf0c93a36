"""Map of the spread of healthy people's residuals at each place of the template."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from lesioncore.data.json_form import check_form

_CUBE = 4
"""Edge length, in pixels and slices, of the cubes that share one spread."""

_LARGEST = 4.0
"""Size, in spreads, at which scores are clipped, so that no single person dominates a place."""


_MOST_CUBES = 2**20
"""Cubes that a map may have: ten times those of a whole head at 1 mm."""


class SpreadMapForm(TypedDict):
    """A map in ``calibration.json``."""

    shape: tuple[int, int, int]
    largest_count: float
    squares: str
    counts: str


@dataclass(frozen=True, eq=False)
class SpreadMap:
    """Spread of healthy people's scores at each place, from sums over cubes of the slices of registered scans.

    In every brain, a prior leaves more unexplained at the cortex and around vessels than within white matter. Maps of
    several people or sites are merged by addition (``a + b``); a map holds no image.

    Attributes
    ----------
    squares : ndarray
        float32 ``[N / 4, H / 4, W / 4]`` (rounded up): sum of the squared scores of the brain's pixels in each cube.
    counts : ndarray
        float32 of the same shape: number of these pixels.
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
            float32 of `shape`: ``sqrt((squares + m) / (counts + 1)) / sqrt(m)`` with m the mean square over the whole
            brain. The added m and 1 make it 1 where no person has brain.

        Raises
        ------
        ValueError
            If the map was made from slices of another shape.
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

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what :meth:`to_dict` stores, whatever the compression."""
        digest = hashlib.sha256(repr((self.squares.shape, self._largest_count)).encode())
        for values in (self.squares, self.counts):
            digest.update(_halves(values / self._largest_count))
        return digest.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, with the arrays as little-endian float16, compressed and encoded in base 64.

        Both arrays are divided by the largest count, to fit the range of float16. Its 11 significant bits give a spread
        an error of at most about a 4,000th.
        """
        largest = self._largest_count
        return {
            "shape": list(self.squares.shape),
            "largest_count": largest,
            "squares": _packed(self.squares / largest),
            "counts": _packed(self.counts / largest),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SpreadMap:
        """Inverse of :meth:`to_dict`.

        Raises
        ------
        ValueError
            If the values have another form, or are no sums and counts of such a shape.
        """
        check_form(values, SpreadMapForm, "spread_map")
        shape, largest = values["shape"], values["largest_count"]
        if min(shape) < 1 or math.prod(shape) > _MOST_CUBES:
            raise ValueError(f"spread_map.shape: got {shape}, expected positive numbers of at most {_MOST_CUBES} cubes")
        if not largest > 0:
            raise ValueError(f"spread_map.largest_count: got {largest}, expected a positive number")
        sums = []
        for name in ("squares", "counts"):
            array = _unpacked(values[name], shape, f"spread_map.{name}") * np.float32(largest)
            if not np.isfinite(array).all() or array.min() < 0:
                raise ValueError(f"spread_map.{name}: got negative or infinite numbers or NaN, expected sums >= 0")
            sums.append(array)
        return cls(*sums)

    @property
    def _largest_count(self) -> float:
        return float(self.counts.max()) or 1.0

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape != self.squares.shape:
            raise ValueError(f"spread map: got slices of {shape} cubes, expected {self.squares.shape}; calibrate again")


def _sums(values: Tensor) -> npt.NDArray[np.float32]:
    """Sums of ``[N, 1, H, W]`` over cubes; those at the far edges are padded with 0."""
    volume = values[:, 0].double()
    padding = [width for length in reversed(volume.shape) for width in (0, -length % _CUBE)]
    sums = F.avg_pool3d(F.pad(volume, padding)[None, None], _CUBE)[0, 0] * _CUBE**3
    return sums.float().numpy()


def _packed(values: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(zlib.compress(_halves(values), 9)).decode()


def _halves(values: npt.NDArray[np.float32]) -> bytes:
    return values.astype("<f2").tobytes()


def _unpacked(text: str, shape: Sequence[int], where: str) -> npt.NDArray[np.float32]:
    size = 2 * math.prod(shape)
    try:
        # Bounded, since a short text can decompress to any length.
        content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{where}: is damaged: {error}") from error
    if len(content) != size:
        raise ValueError(f"{where}: got another number of bytes than {size}, expected two for each cube of {shape}")
    return np.frombuffer(content, "<f2").astype(np.float32).reshape(shape)
