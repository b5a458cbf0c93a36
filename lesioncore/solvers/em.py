"""Expectation-maximisation solver of the paper's objective: the latents' posterior, then the exact prox of TV."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lesioncore.scoring.smoothing import smooth
from lesioncore.scoring.spread import robust_spread
from lesioncore.solvers.objective import Objective, Problems, ProgressCallback, Solution, check_problem
from lesioncore.solvers.tv_prox import TVProx

_SMOOTHING = 1.5
"""Standard deviation (pixels) of the Gaussian that smooths the residual before outliers are sought, against noise."""


@dataclass(frozen=True)
class EMSolver:
    """Maximise ``J`` alternately over the latents' posterior and the image.

    E-step: ``Q(z) = Q(z|X)`` at the current image. M-step: with Q held fixed, ``E_Q[log P(X|z)]`` is quadratic in X, so
    the best image is known exactly: ``X' = Y - D'`` with ``D' = argmin |D' - (Y - mu_X)|^2 + lambda * TV(D')``, where
    ``mu_X`` is the mean of ``P(X|z)`` under Q. If Q is the true posterior, no step lowers
    ``log P(X) - lambda * TV(X - Y)`` (Dempster et al. 1977), since then ``E_Q[d log P(X|z) / dX] = d log P(X) / dX``
    (Fisher's identity).

    An encoder's Q only approximates the posterior. The gradient of the bound, which the other solvers follow, is also
    taken through the encoder, and so contains small changes of the image that mislead it to explain a lesion. This
    solver differentiates through no network, so a step costs a forward pass alone. The bound itself may fall in a step.

    The first image that the encoder sees contains the lesion. The encoder follows it in part, so that less of it
    remains in the residual. With `outlier`, pixels that deviate by more than healthy ones do count as missing in the
    next step: its E-step sees the model's expectation there (EM for missing data, Dempster et al. 1977, section 4.1),
    so that detected pixels no longer inform the encoder. The M-step sees all pixels as before.

    Parameters
    ----------
    steps : int
        Number of steps. A single step is one TV prox of the residual of the projection, the image that encoder and
        decoder make of the scan.
    inner_iterations : int
        Iterations of the proximal operator's dual in each step, warm-started from the last step.
    outlier : float, optional
        Size of the smoothed ``Y - mu_X`` (Gaussian, 1.5 pixels) above which a pixel and its neighbours in the slice
        count as missing, in units of its spread over the problem's brain
        (:func:`lesioncore.scoring.spread.robust_spread`). With None no pixel is missing.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    fixes_posterior: ClassVar[bool] = True
    steps: int = 5
    inner_iterations: int = 30
    outlier: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps: got {self.steps}, expected a whole number >= 0")
        if self.inner_iterations < 1:
            raise ValueError(f"inner_iterations: got {self.inner_iterations}, expected a whole number >= 1")
        if self.outlier is not None and not (self.outlier > 0 and math.isfinite(self.outlier)):
            raise ValueError(f"outlier: got {self.outlier}, expected a positive number (spreads), or None")

    @torch.no_grad()
    def solve(
        self, y: Tensor, mask: Tensor, objective: Objective, progress: ProgressCallback | None = None
    ) -> Solution:
        """Restore slices; arguments as for :meth:`PaperSolver.solve`, with an ELBO that holds the posterior fixed."""
        check_problem(y, mask)
        y, mask = y.contiguous(), mask.contiguous()
        problems = objective.problems(len(y))
        prox = TVProx(y, mask, objective.tv, problems, self.inner_iterations)
        weights = [y.new_full((1,), 0.5 * objective.tv_weight)] * len(problems.stacks(y))
        d = torch.zeros_like(y)
        missing, expected = torch.zeros_like(mask), y
        history = []
        # The gradient at the last iterate is not needed, but its ELBO closes the recorded curve.
        for step in range(self.steps + 1):
            x = y - d
            seen = x if self.outlier is None else torch.where(missing, expected, x)
            elbo, gradient = objective.elbo(seen)
            # The prox is of the exact TV, so the recorded objective has no smoothing of the isotropic form either.
            total_variation = objective.tv_value(x, y, problems, eps=0.0)
            history.append(problems.sums(elbo) - objective.tv_weight * total_variation)
            if step == self.steps:
                break
            # The gradient is 2 (mu_X - X), since the pixels' variance is 1/2.
            expected = torch.add(seen, gradient, alpha=0.5)
            residual = y - expected
            d = prox(residual, weights)
            if self.outlier is not None:
                missing = _outliers(residual, mask, objective.tv.depth_weight, problems, self.outlier)
            if progress is not None:
                progress(step + 1, self.steps)
        return Solution(y - d, torch.stack(history))


def _outliers(residual: Tensor, mask: Tensor, depth_weight: float, problems: Problems, cutoff: float) -> Tensor:
    """Mask of the pixels that deviate by more than healthy ones of their problem, and of their neighbours in the slice.

    Parameters
    ----------
    residual, mask : Tensor
        ``[N, 1, H, W]`` z-scores, and the brain (bool).
    depth_weight : float
        In-plane over through-plane voxel size.
    problems : Problems
        Groups of slices that have a common spread.
    cutoff : float
        Smallest deviation of an outlier, in spreads.
    """
    depths = [1] * len(residual) if problems.depths is None else list(problems.depths)
    spacing = math.inf if problems.depths is None else 1.0 / depth_weight  # pixels between slices
    outliers = torch.zeros_like(mask)
    for out, part, brain in zip(outliers.split(depths), residual.split(depths), mask.split(depths), strict=True):
        size = smooth(part, brain, (1.0, 1.0, spacing), _SMOOTHING).abs()
        above = (size > cutoff * robust_spread(size[brain])).to(residual.dtype)
        out.copy_((F.max_pool2d(above, 3, stride=1, padding=1) > 0) & brain)
    return outliers
