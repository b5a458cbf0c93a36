"""From a residual to the deviation that is scored: smoothed in space, in units of healthy spread."""

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


@dataclass(frozen=True)
class Deviation:
    """Deviations that a detector scores, and their spread.

    Attributes
    ----------
    values : Tensor
        ``[N, 1, H, W]``, signed: z-scores, or multiples of their own spread about the scan's own centre where these are
        the unit.
    spread : float
        Spread (z-scores) of the smoothed residual over the brain (:func:`lesioncore.scoring.spread.robust_spread`),
        divided by the spread map if there is one, before `asymmetry` lowers it.
    """

    values: Tensor
    spread: float


def deviation(residual: Tensor, stack: SliceStack, scoring: Scoring, spread_map: SpreadMap | None = None) -> Deviation:
    """Smooth a scan's residual and, if wanted, bring it to the scan's own centre and spread and to that of each place.

    How much of a healthy brain a prior leaves unexplained differs between scanners, resolutions and ways to cut out the
    brain, and so does how far the brain as a whole is brighter or darker than the prior expects: the thresholds of one
    scanner do not hold for the next. Most of any brain is healthy: centre and spread of its residual are the scan's own
    measure of both.

    Parameters
    ----------
    residual : Tensor
        ``[N, 1, H, W]``, signed, z-scores.
    stack : SliceStack
        The scan that it belongs to.
    scoring : Scoring
        How; the sign is left to :func:`score_of`.
    spread_map : SpreadMap, optional
        Divide by its relative spread, if the scan is registered. Given where `scoring` wants one.
    """
    values = smooth(residual, stack.mask, stack.voxel_size, scoring.smoothing)
    standardize = scoring.standardize and stack.voxel_size is not None
    if standardize:
        values = _centred(values, stack.mask)
    if spread_map is not None and stack.registered:
        values = values / spread_map.relative(values.shape)
    spread = unit = robust_spread(values[stack.mask])
    if scoring.asymmetry and stack.registered:
        assert stack.voxel_size is not None  # of registered scans
        values = lower_symmetric(values, stack.mask, stack.voxel_size, spread, scoring.asymmetry)
        unit = robust_spread(values[stack.mask])
    if standardize and unit > 0:
        values = values / unit
    if scoring.edge_preserving:
        own = residual
        if standardize:
            own = _centred(own, stack.mask)
            own = own / (robust_spread(own[stack.mask]) or 1.0)
        values = keep_edges(values, own)
    return Deviation(values, spread)


def _centred(values: Tensor, mask: Tensor) -> Tensor:
    """The brain's values about their centre, 0 elsewhere."""
    return torch.where(mask, values - robust_centre(values[mask]), 0.0)


def score_of(values: ArrayT, sign: int) -> ArrayT:
    """Scores of signed deviations: themselves for bright lesions (1), negated for dark (-1), their size (0)."""
    return abs(values) if sign == 0 else sign * values
