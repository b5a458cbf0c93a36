"""Expectation-maximisation solver of the paper's objective: the latents' posterior, then the exact prox of TV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lesioncore.solvers.objective import Objective, ProgressCallback, Solution, check_problem
from lesioncore.solvers.tv_prox import TVProx


@dataclass(frozen=True)
class EMSolver:
    """Maximise ``J`` in turns over the latents' posterior and the image.

    E-step: ``Q(z) = Q(z|X)`` at the present image. M-step: with Q held, ``E_Q[log P(X|z)]`` is quadratic in X, so the
    best image is exact: ``X' = Y - D'`` with ``D' = argmin |D' - (Y - mu_X)|^2 + lambda * TV(D')`` and ``mu_X`` the
    mean of ``P(X|z)`` under Q. Where Q is the true posterior no step lowers ``log P(X) - lambda * TV(X - Y)`` (Dempster
    et al. 1977), for then ``E_Q[d log P(X|z) / dX] = d log P(X) / dX`` (Fisher's identity).

    An encoder's Q is only close to the posterior, and the gradient of the bound that the other solvers take contains
    how to mislead the encoder: small changes of the image that make it explain a lesion. Here nothing is differentiated
    through a network, which makes a step a forward pass alone. The bound itself may fall in a step.

    Parameters
    ----------
    steps : int
        Number of steps; the first alone is one TV prox of the projection's residual.
    inner_iterations : int
        Iterations of the proximal operator's dual in each step, warm-started from the last.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    holds_posterior: ClassVar[bool] = True
    steps: int = 5
    inner_iterations: int = 30

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps: got {self.steps}, expected a whole number >= 0")
        if self.inner_iterations < 1:
            raise ValueError(f"inner_iterations: got {self.inner_iterations}, expected a whole number >= 1")

    @torch.no_grad()
    def solve(
        self, y: Tensor, mask: Tensor, objective: Objective, progress: ProgressCallback | None = None
    ) -> Solution:
        """Restore slices; arguments as for :meth:`PaperSolver.solve`, with an ELBO that holds the posterior."""
        check_problem(y, mask)
        y, mask = y.contiguous(), mask.contiguous()
        problems = objective.problems(len(y))
        prox = TVProx(y, mask, objective.tv, problems, self.inner_iterations)
        weights = [y.new_full((1,), 0.5 * objective.tv_weight)] * len(problems.stacks(y))
        d = torch.zeros_like(y)
        history = []
        # The gradient at the last iterate is not needed, but its ELBO closes the recorded curve.
        for step in range(self.steps + 1):
            x = y - d
            elbo, gradient = objective.elbo(x)
            # The prox is of the exact TV, so the isotropic form is judged without its smoothing too.
            total_variation = objective.tv_value(x, y, problems, eps=0.0)
            history.append(problems.sums(elbo) - objective.tv_weight * total_variation)
            if step == self.steps:
                break
            # The gradient is 2 (mu_X - X) where the pixels' variance is 1/2, so this step lands on Y - mu_X.
            d = prox(torch.sub(d, gradient, alpha=0.5), weights)
            if progress is not None:
                progress(step + 1, self.steps)
        return Solution(y - d, torch.stack(history))
