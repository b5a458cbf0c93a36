"""Proximal gradient solver of the paper's objective: a gradient step on the ELBO, then the exact prox of TV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lesioncore.solvers.objective import Objective, ProgressCallback, Solution, check_problem
from lesioncore.solvers.tv_prox import TVProx

_SUFFICIENT = 1e-4
"""Share of ``|D' - D|^2 / tau`` by which a step must lower the objective (Armijo's rule)."""

_ROUNDING = 16.0
"""Rounding error of a summed objective, in units of its dtype's relative precision; a smaller rise is tolerated."""

_GROWTH = 1.5
"""Largest factor by which tau grows in a step. The curvature measured along one step may miss the sharpest directions,
in which the next step would overshoot: without the bound, as Barzilai and Borwein have it, a fifth to a quarter of the
steps failed."""

_SLOW = 2
"""Consecutive slow steps after which a problem is finished, since a single one may be due to an unsuitable tau."""


@dataclass(frozen=True)
class ProxSolver:
    """Minimise ``-J`` over the residual ``D = Y - X`` (0 outside the mask) by proximal gradient steps.

    A step is ``V = D - tau * dELBO/dX``, then ``D' = argmin 1/2 |D' - V|^2 + tau * lambda * TV(D')``. The proximal
    operator does not oscillate where D is locally flat, as the subgradient of the paper's solver does.

    Each slice (or stack, when coupled in depth) is a problem with its own ``tau``: the inverse of the curvature
    ``<s, r> / <s, s>`` along the last step, with s the change of D and r that of the gradient (Barzilai & Borwein
    1988), but at most 1.5 times the last one. A step that fails to lower ``-J`` is undone and tau at least halved, so
    that the objective never gets worse. Finished problems leave the batch.

    Parameters
    ----------
    steps : int
        Largest number of steps; each costs one gradient of the ELBO.
    step_size : float
        First ``tau``.
    inner_iterations : int
        Iterations of the proximal operator's dual in each step, warm-started from the last step.
    tolerance : float
        A problem is finished when each of two consecutive steps, failed ones not counted, gains at most this share of
        the objective's whole gain so far. With 0 it is finished when two steps gain nothing.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    fixes_posterior: ClassVar[bool] = False
    steps: int = 10
    step_size: float = 0.0625
    inner_iterations: int = 30
    tolerance: float = 2e-3

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps: got {self.steps}, expected a whole number >= 0")
        if self.inner_iterations < 1:
            raise ValueError(f"inner_iterations: got {self.inner_iterations}, expected a whole number >= 1")
        if not self.step_size > 0:
            raise ValueError(f"step_size: got {self.step_size}, expected a positive number")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance: got {self.tolerance}, expected a share of the gain, >= 0 and < 1")

    @torch.no_grad()
    def solve(
        self, y: Tensor, mask: Tensor, objective: Objective, progress: ProgressCallback | None = None
    ) -> Solution:
        """Restore slices; arguments as for :meth:`PaperSolver.solve`.

        After a problem has finished, its returned objective stays at the last value, so that it does not depend on the
        rest of the batch.
        """
        check_problem(y, mask)
        active = _ActiveProblems(y.contiguous(), mask, objective, self.step_size, self.inner_iterations)
        restored = active.y.clone()
        values = active.value.clone()
        history = [-values]
        for step in range(self.steps):
            if len(active.value):
                finished = active.step(self.tolerance)
                values[active.indices] = active.value
                if finished.any():
                    restored[active.slices] = active.y - active.d
                    active.keep(~finished)
            history.append(-values)
            if progress is not None:
                progress(step + 1, self.steps)
        restored[active.slices] = active.y - active.d
        return Solution(restored, torch.stack(history))


class _ActiveProblems:
    """The unfinished problems and the state of their descent.

    ``y``, ``d`` and ``gradient`` are ``[N, 1, H, W]``; ``value``, ``first``, ``tau`` and ``slow`` are ``[B]``.
    ``slices`` and ``indices`` are the indices of these slices and problems among those that the solver was given.
    """

    def __init__(self, y: Tensor, mask: Tensor, objective: Objective, step_size: float, inner_iterations: int) -> None:
        self.objective, self.problems = objective, objective.problems(len(y))
        self.prox = TVProx(y, mask, objective.tv, self.problems, inner_iterations)
        self.y, self.d = y, torch.zeros_like(y)
        self.slices = torch.arange(len(y), device=y.device)
        self.value, self.gradient = self._cost(self.d)
        self.indices = torch.arange(len(self.value), device=y.device)
        self.first = self.value
        self.tau = torch.full_like(self.value, step_size)
        self.slow = torch.zeros_like(self.indices)

    def step(self, tolerance: float) -> Tensor:
        """Take a step in each problem where it lowers ``-J``; return which problems are finished, bool ``[B]``."""
        problems = self.problems
        moved = self.d - self.gradient * self._of_slices(self.tau)
        trial = self.prox(moved, problems.per_stack(self.tau * self.objective.tv_weight))
        value, gradient = self._cost(trial)
        s, r = trial - self.d, gradient - self.gradient
        change, curvature = (problems.sums(product.flatten(1).sum(1)) for product in (s.square(), s * r))
        rounding = _ROUNDING * torch.finfo(value.dtype).eps * self.value.abs()
        better = value <= self.value - _SUFFICIENT * change / self.tau + rounding

        # Where the objective is concave along the step, the curvature does not bound tau.
        proposed = torch.where(curvature > 0, change / curvature, torch.inf)
        halved = torch.minimum(proposed, 0.5 * self.tau).clamp_min(0.1 * self.tau)
        self.tau = torch.where(better, torch.minimum(proposed, _GROWTH * self.tau), halved)

        gained = (self.first - value).clamp_min(0.0)
        slow = self.value - value <= tolerance * gained
        self.slow = torch.where(better, torch.where(slow, self.slow + 1, 0), self.slow)

        self.value = torch.where(better, value, self.value)
        accepted = self._of_slices(better)
        self.d, self.gradient = torch.where(accepted, trial, self.d), torch.where(accepted, gradient, self.gradient)
        return self.slow >= _SLOW

    def keep(self, selected: Tensor) -> None:
        """Drop all but the selected problems, bool ``[B]``, and their slices."""
        slices = self.problems.of_slices(selected)
        for name in ("y", "d", "gradient", "slices"):
            setattr(self, name, getattr(self, name)[slices])
        for name in ("value", "first", "tau", "slow", "indices"):
            setattr(self, name, getattr(self, name)[selected])
        self.prox.keep(selected)
        self.problems = self.problems.only(selected)

    def _of_slices(self, values: Tensor) -> Tensor:
        """Repeat values of the problems for each of their slices, ``[N, 1, 1, 1]``."""
        return self.problems.of_slices(values).view(-1, 1, 1, 1)

    def _cost(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """``-J`` of each problem, ``[B]``, and the gradient of the ELBO, ``[N, 1, H, W]``."""
        x = self.y - d
        elbo, gradient = self.objective.elbo(x, self.slices)
        # The prox is of the exact TV, so the objective has no smoothing of the isotropic form either.
        total_variation = self.objective.tv_value(x, self.y, self.problems, eps=0.0)
        return self.objective.tv_weight * total_variation - self.problems.sums(elbo), gradient
