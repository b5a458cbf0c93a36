"""Detail of a scan that is finer than the prior's grid, in the restored image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_UNCHANGED, _CHANGED = 2.0, 4.0
"""Changes, in spreads of the residual, up to which all detail is kept and from which on it is bounded."""


def changed_share(residual: Tensor, spread: float) -> Tensor:
    """Where a restoration changed a scan by more than it changes healthy tissue, from 0 (nowhere) to 1.

    A pixel has the largest change among its neighbours, so that the border of a lesion belongs to it.

    Parameters
    ----------
    residual : Tensor
        ``[N, 1, H, W]``, z-scores, 0 outside the brain.
    spread : float
        Spread of the residual, z-scores; where it is 0, all that changed counts as changed.
    """
    change = F.max_pool3d(residual.abs()[:, 0][None], 3, 1, 1)[0][:, None]
    share = ((change / max(spread, 1e-6) - _UNCHANGED) / (_CHANGED - _UNCHANGED)).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def bounded_detail(detail: Tensor, share: Tensor, brain: Tensor) -> Tensor:
    """Bound detail where the scan was changed.

    The prior's image of a place without its lesion is as coarse as the prior's grid. The scan's finer detail there is
    in part the lesion's: its texture, and its border as a thin double contour. It is bounded by the detail that is
    usual in this brain, so that noise and fine structure stay and the lesion's marks do not.

    Parameters
    ----------
    detail : Tensor
        ``[X, Y, Z]``, z-scores: scan minus the scan on the prior's grid.
    share : Tensor
        ``[X, Y, Z]``, from :func:`changed_share`.
    brain : Tensor
        ``[X, Y, Z]`` bool.

    Returns
    -------
    Tensor
        ``[X, Y, Z]``: `detail` to the bit where `share` is 0.
    """
    usual = 1.4826 * float(detail[brain].abs().median())  # the standard deviation, were it Gaussian
    return torch.where(share > 0, torch.lerp(detail, detail.clamp(-usual, usual), share), detail)
