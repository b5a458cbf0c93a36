"""Robust centre and spread of a scan's healthy deviations, which lesions hardly affect."""

from __future__ import annotations

import numpy as np
from torch import Tensor

_QUANTILE = 0.7
_OUTLIER = 4.0  # spreads
_ROUNDS = 20  # at most


def robust_centre(values: Tensor) -> float:
    """Median of the values without outliers, which lie more than four times the spread from 0; 0 without values.

    Parameters
    ----------
    values : Tensor
        Signed deviations of a brain's voxels, any shape.
    """
    flat = values.detach().flatten().double().cpu()
    inliers = flat[flat.abs() <= _OUTLIER * robust_spread(flat)]
    return float(np.median(inliers.numpy())) if len(inliers) else 0.0


def robust_spread(values: Tensor) -> float:
    """Spread of the values without outliers: the 70 % quantile of their size.

    Outliers lie more than four times the spread from 0. They are removed and the spread computed again until there are
    none, so that a lesion hardly affects it. The spread of no values is 0.

    Parameters
    ----------
    values : Tensor
        Signed deviations of a brain's voxels, any shape.
    """
    size = np.sort(values.detach().abs().flatten().double().cpu().numpy())
    inliers, spread = len(size), 0.0
    for _ in range(_ROUNDS):
        if inliers == 0:
            return 0.0
        spread = float(np.quantile(size[:inliers], _QUANTILE))
        fewer = int(np.searchsorted(size, _OUTLIER * spread, side="right"))
        if fewer == inliers:
            break
        inliers = fewer
    return spread
