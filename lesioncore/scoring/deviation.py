"""Deviations that are scored, from residuals: smoothed in space, and in units of healthy spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lesioncore.data.arrays import ArrayT
from lesioncore.data.stack import SliceStack
from lesioncore.scoring.asymmetry import lower_symmetric
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.smoothing import keep_edges, smooth
from lesioncore.scoring.spread import robust_centre, robust_spread
from lesioncore.scoring.spread_map import SpreadMap
from lesioncore.torch_modes import own_modes


@dataclass(frozen=True)
class Deviation:
    """Deviations that a detector scores, and their spread.

    Attributes
    ----------
    values : Tensor
        ``[N, 1, H, W]``, signed: z-scores or, where residuals are standardized, multiples of their own spread about
        their own centre.
    spread : float
        Spread (z-scores) over the brain (:func:`lesioncore.scoring.spread.robust_spread`) of the smoothed residual,
        after its division by the spread map and before the reduction by `asymmetry`.
    """

    values: Tensor
    spread: float


@own_modes()
def deviation(residual: Tensor, stack: SliceStack, scoring: Scoring, spread_map: SpreadMap | None = None) -> Deviation:
    """Smooth a scan's residual and, where `scoring` says so, standardize it by the scan's own centre and spread.

    How much of a healthy brain a prior leaves unexplained differs between scanners, resolutions and methods of brain
    extraction, and so does how far the brain as a whole is brighter or darker than the prior expects. Thresholds of one
    scanner therefore do not hold for another. Since most of any brain is healthy, the centre and spread of its residual
    measure both for each scan.

    The steps are, in this order: smoothing, subtraction of the centre, division by the spread map, reduction of what
    both sides share (`asymmetry`), division by the spread, and the bound by the unsmoothed deviation
    (`edge_preserving`).

    Parameters
    ----------
    residual : Tensor
        ``[N, 1, H, W]``, signed, z-scores.
    stack : SliceStack
        The scan that the residual belongs to.
    scoring : Scoring
        Options; the sign has no effect here, but in :func:`score_of`.
    spread_map : SpreadMap, optional
        Map whose relative spread the residual of a registered scan is divided by; needed where `scoring` has
        `spread_map` set.

    Returns
    -------
    Deviation
        Signed deviations, and their spread.
    """
    values = smooth(residual, stack.mask, stack.voxel_size, scoring.smoothing)
    standardize = scoring.standardize and stack.voxel_size is not None
    if standardize:
        values = _centred(values, stack.mask)
    if spread_map is not None and stack.registered:
        values = values / spread_map.relative(values.shape)
    spread = unit = robust_spread(values[stack.mask])
    if scoring.asymmetry and stack.registered:
        assert stack.voxel_size is not None  # registered scans have one
        values = lower_symmetric(values, stack.mask, stack.voxel_size, spread, scoring.asymmetry)
        unit = robust_spread(values[stack.mask])
    if standardize and unit > 0:
        values = values / unit
    if scoring.edge_preserving:
        unsmoothed = residual
        if standardize:
            unsmoothed = _centred(unsmoothed, stack.mask)
            unsmoothed = unsmoothed / (robust_spread(unsmoothed[stack.mask]) or 1.0)
        values = keep_edges(values, unsmoothed)
    return Deviation(values, spread)


def _centred(values: Tensor, mask: Tensor) -> Tensor:
    """Subtract the robust centre from the brain's values; the others are 0."""
    return torch.where(mask, values - robust_centre(values[mask]), 0.0)


def score_of(values: ArrayT, sign: int) -> ArrayT:
    """Scores of signed deviations: their value for bright lesions (1), its negative for dark (-1), their size (0)."""
    return abs(values) if sign == 0 else sign * values
