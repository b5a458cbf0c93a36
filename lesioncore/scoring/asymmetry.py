"""Reduction of deviations that both sides of the brain share: anatomy is symmetric, tumours and strokes are not."""

from __future__ import annotations

import torch
from torch import Tensor

from lesioncore.scoring.smoothing import smooth

_SMOOTHING = 6.0  # mm: sides correspond no better than that
_LARGEST = 2.0  # spreads; what lies beyond is no healthy deviation, and may be a lesion of the other side


def lower_symmetric(
    values: Tensor, mask: Tensor, voxel_size: tuple[float, float, float], spread: float, share: float
) -> Tensor:
    """Bring deviations nearer to 0 where the place's mirror image deviates in the same direction.

    Parameters
    ----------
    values, mask : Tensor
        ``[N, 1, H, W]``: signed deviations and the brain (bool), on slices whose axis H runs from left to right with
        the midplane in its middle, as those of registered scans do.
    voxel_size : tuple of float
        Size of a pixel along H and W and the distance of the slices, mm.
    spread : float
        Spread of the values.
    share : float
        Share of the other side's deviation, in [0, 1], that is taken off: what of it points the same way, smoothed
        (Gaussian, 6 mm) and at most twice the spread. Nothing crosses 0.

    Returns
    -------
    Tensor
        ``[N, 1, H, W]``.
    """
    lowered = values
    for sign in (1.0, -1.0):
        size = (sign * values).clamp_min(0)
        across = smooth(size.flip(2), mask.flip(2), voxel_size, _SMOOTHING).clamp_max(_LARGEST * spread)
        lowered = torch.where(size > 0, sign * (size - share * across).clamp_min(0), lowered)
    return torch.where(mask, lowered, 0.0)


def check_asymmetry(share: float | None) -> float | None:
    """Return a share as it came, or raise ``ValueError`` if it is neither in [0, 1] nor None."""
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"asymmetry: got {share}, expected a share in [0, 1]")
    return share
