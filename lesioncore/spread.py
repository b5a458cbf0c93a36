"""The spread of a scan's healthy deviations, whatever lesions add to it."""

from __future__ import annotations

import numpy as np
from torch import Tensor

_QUANTILE = 0.7
_OUTLIER = 4.0
_ROUNDS = 20


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
