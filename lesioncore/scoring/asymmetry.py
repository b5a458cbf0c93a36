"""Reduction of deviations that both sides of the brain share, as anatomy does and tumours and strokes do not."""

from __future__ import annotations

import torch
from torch import Tensor

from lesioncore.scoring.smoothing import smooth

_SMOOTHING = 6.0
"""Standard deviation (mm) of the Gaussian that smooths the mirror image, since the sides correspond only roughly."""

_LARGEST = 2.0
"""Largest deviation of the other side that is taken off, in spreads: a larger one may be a lesion there."""


def lower_symmetric(
    values: Tensor, mask: Tensor, voxel_size: tuple[float, float, float], spread: float, share: float
) -> Tensor:
    """Bring deviations nearer to 0 where their mirror image deviates in the same direction.

    A positive deviation d becomes ``max(d - share * min(a, 2 * spread), 0)``, where ``a`` is the smoothed mirror image
    of the positive deviations. Negative deviations are treated likewise, with their signs reversed.

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
        Share in [0, 1] of the other side's deviation that is taken off. That deviation is smoothed (Gaussian, 6 mm) and
        bounded by twice the spread.

    Returns
    -------
    Tensor
        ``[N, 1, H, W]``; no value changes its sign, and those outside the brain are 0.
    """
    lowered = values
    for sign in (1.0, -1.0):
        size = (sign * values).clamp_min(0)
        opposite = smooth(size.flip(2), mask.flip(2), voxel_size, _SMOOTHING).clamp_max(_LARGEST * spread)
        lowered = torch.where(size > 0, sign * (size - share * opposite).clamp_min(0), lowered)
    return torch.where(mask, lowered, 0.0)


def check_asymmetry(share: float | None) -> float | None:
    """Return `share`, or raise ``ValueError`` if it is neither in [0, 1] nor None."""
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"asymmetry: got {share}, expected a share in [0, 1]")
    return share
