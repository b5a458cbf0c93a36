"""Centre and spread of a scan's healthy deviations, whatever lesions add to them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

_QUANTILE = 0.7
_OUTLIER = 4.0
_ROUNDS = 20


def robust_centre(values: Tensor) -> float:
    """Median of the values that are no outliers: within four times their spread about 0. 0 without values.

    Parameters
    ----------
    values : Tensor
        Signed deviations of a brain's voxels, any shape.
    """
    flat = values.detach().flatten().double().cpu()
    inliers = flat[flat.abs() <= _OUTLIER * robust_spread(flat)]
    return float(np.median(inliers.numpy())) if len(inliers) else 0.0


def robust_spread(values: Tensor) -> float:
    """Spread of the values that are no outliers: the 70 % quantile of their size.

    Outliers lie beyond four times the spread; they are left out until that changes nothing, so that a lesion hardly
    matters. 0 without values.

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
