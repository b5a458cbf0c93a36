"""From a residual to the deviation that is scored: smoothed in space, measured by the scan's own spread."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lesioncore.scan import SliceStack
from lesioncore.smoothing import smooth
from lesioncore.spread import robust_spread


@dataclass(frozen=True)
class Deviation:
    """What a detector scores.

    Attributes
    ----------
    values : Tensor
        ``[N, 1, H, W]``, signed: z-scores, or multiples of `spread` where the scan's own spread is the unit.
    spread : float
        Spread (z-scores) of the smoothed residual over the brain (:func:`lesioncore.spread.robust_spread`).
    """

    values: Tensor
    spread: float


def deviation(residual: Tensor, stack: SliceStack, *, smoothing: float, standardize: bool) -> Deviation:
    """Smooth a scan's residual and, if wanted, divide it by its own spread.

    How much of a healthy brain a prior leaves unexplained differs between scanners, resolutions and ways to cut out the
    brain, and the thresholds of one scanner do not hold for the next. Most of any brain is healthy: the spread of its
    residual is the scan's own measure of that.

    Parameters
    ----------
    residual : Tensor
        ``[N, 1, H, W]``, signed, z-scores.
    stack : SliceStack
        The scan that it belongs to.
    smoothing : float
        Standard deviation, mm, of a Gaussian in three dimensions (:func:`lesioncore.smoothing.smooth`).
    standardize : bool
        Divide by the spread. Slices without geometry are left as they are: they may be anyone's.
    """
    values = smooth(residual, stack.mask, stack.voxel_size, smoothing)
    spread = robust_spread(values[stack.mask])
    divide = standardize and stack.voxel_size is not None and spread > 0
    return Deviation(values / spread if divide else values, spread)
