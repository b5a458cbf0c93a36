"""Proximal gradient solver of the paper's objective: a gradient step on the ELBO, then the exact prox of TV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lesioncore import _ops
from lesioncore.solvers.objective import Objective, ProgressCallback, Solution, check_problem

_SUFFICIENT = 1e-4
"""Share of ``|D' - D|^2 / tau`` by which a step must lower the objective (Armijo's rule)."""

_ROUNDING = 16.0
"""Rounding of a summed objective in units of the dtype's relative precision: a rise below it is no rise."""


@dataclass(frozen=True)
class ProxSolver:
    """Minimise ``-J`` over the residual ``D = Y - X`` (0 outside the mask) by proximal gradient steps.

    ``V = D - tau * dELBO/dX``, then ``D' = argmin 1/2 |D' - V|^2 + tau * lambda * TV(D')``. The subgradient of the
    paper's solver chatters where D is locally flat; the proximal operator does not. Each slice (or the stack, when
    coupled in depth) has its own ``tau``: a step that fails to lower ``-J`` is taken back and tau halved, so the
    objective never gets worse.

    Parameters
    ----------
    steps : int
        Number of steps; each costs one gradient of the ELBO.
    step_size : float
        First ``tau``.
    inner_iterations : int
        Iterations of the proximal operator's dual in each step, warm-started from the last.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    holds_posterior: ClassVar[bool] = False
    steps: int = 10
    step_size: float = 0.25
    inner_iterations: int = 30

    def __post_init__(self) -> None:
        if self.steps < 0 or self.inner_iterations < 1:
            raise ValueError(
                f"steps, inner_iterations: got {self.steps}, {self.inner_iterations}, expected >= 0 and >= 1"
            )
        if not self.step_size > 0:
            raise ValueError(f"step_size: got {self.step_size}, expected a positive number")

    @torch.no_grad()
    def solve(
        self, y: Tensor, mask: Tensor, objective: Objective, progress: ProgressCallback | None = None
    ) -> Solution:
        """Restore slices; arguments as for :meth:`PaperSolver.solve`."""
        check_problem(y, mask)
        y, mask = y.contiguous(), mask.contiguous()
        stacks, tv = objective.tv.stacks, objective.tv
        problems = stacks(y).shape[0]
        per_problem = (problems, 1, 1, 1)

        # The prox is of the exact TV, so the isotropic form is judged without its smoothing too.
        def cost(x: Tensor, elbo: Tensor) -> Tensor:
            total_variation = objective.tv_value(x, y, eps=0.0)
            return objective.tv_weight * total_variation - objective.elbo_of_problems(elbo)

        d = torch.zeros_like(y)
        trial, moved = torch.empty_like(d), torch.empty_like(d)
        dual = _ops.dual_like(stacks(y), tv.depth_weight)
        tau = y.new_full((problems,), self.step_size)
        rounding = _ROUNDING * torch.finfo(y.dtype).eps
        elbo, gradient = objective.elbo(y)
        value = cost(y, elbo)
        history = [-value]
        for step in range(self.steps):
            torch.sub(stacks(d), stacks(gradient) * tau.view(per_problem), out=stacks(moved))
            _ops.tv_prox_(
                stacks(moved),
                stacks(mask),
                tau * objective.tv_weight,
                dual,
                out=stacks(trial),
                depth_weight=tv.depth_weight,
                isotropic=tv.isotropic,
                iterations=self.inner_iterations,
            )
            x = y - trial
            elbo, trial_gradient = objective.elbo(x)
            trial_value = cost(x, elbo)
            change = (stacks(trial) - stacks(d)).square().flatten(1).sum(1)
            better = trial_value <= value - _SUFFICIENT * change / tau + rounding * value.abs()
            keep = better.view(per_problem)
            stacks(d).copy_(torch.where(keep, stacks(trial), stacks(d)))
            stacks(gradient).copy_(torch.where(keep, stacks(trial_gradient), stacks(gradient)))
            value = torch.where(better, trial_value, value)
            tau = torch.where(better, tau, 0.5 * tau)
            history.append(-value)
            if progress is not None:
                progress(step + 1, self.steps)
        return Solution(y - d, torch.stack(history))
