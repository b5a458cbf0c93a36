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
"""Rounding of a summed objective in units of the dtype's relative precision: a rise below it is no rise."""

_GROWTH = 1.5
"""Most by which tau grows in a step. The curvature met along one step may miss the sharpest directions, in which the
next one would overshoot: unbounded, as Barzilai and Borwein have it, a fifth to a quarter of the steps failed."""

_SLOW = 2
"""Slow steps in a row after which a problem is finished: one alone may have had an unlucky tau."""


@dataclass(frozen=True)
class ProxSolver:
    """Minimise ``-J`` over the residual ``D = Y - X`` (0 outside the mask) by proximal gradient steps.

    ``V = D - tau * dELBO/dX``, then ``D' = argmin 1/2 |D' - V|^2 + tau * lambda * TV(D')``. The subgradient of the
    paper's solver chatters where D is locally flat; the proximal operator does not.

    Each slice (or stack, when coupled in depth) is a problem with its own ``tau``: the inverse of the curvature
    ``<s, r> / <s, s>`` along the last step, with s the change of D and r that of the gradient (Barzilai & Borwein
    1988), but at most half as much again as before. A step that fails to lower ``-J`` is taken back and tau at least
    halved, so the objective never gets worse. Finished problems leave the batch.

    Parameters
    ----------
    steps : int
        Number of steps at most; each costs one gradient of the ELBO.
    step_size : float
        First ``tau``.
    inner_iterations : int
        Iterations of the proximal operator's dual in each step, warm-started from the last.
    tolerance : float
        A problem is finished when each of two steps in a row, failed ones not counted, gains at most this share of all
        that was gained. With 0 that is when nothing is gained any more.

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

        The objective of a finished problem stays at its last value in what is returned, so that it does not depend on
        what else is in the batch.
        """
        check_problem(y, mask)
        going = _Going(y.contiguous(), mask, objective, self.step_size, self.inner_iterations)
        restored = going.y.clone()
        values = going.value.clone()
        history = [-values]
        for step in range(self.steps):
            if len(going.value):
                finished = going.step(self.tolerance)
                values[going.indices] = going.value
                if finished.any():
                    restored[going.slices] = going.y - going.d
                    going.keep(~finished)
            history.append(-values)
            if progress is not None:
                progress(step + 1, self.steps)
        restored[going.slices] = going.y - going.d
        return Solution(restored, torch.stack(history))


class _Going:
    """Unfinished problems, with the state of each one's descent."""

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
        """Take a step where it lowers the objective; returns which problems are finished."""
        problems = self.problems
        moved = self.d - self.gradient * self._of_slices(self.tau)
        trial = self.prox(moved, problems.per_stack(self.tau * self.objective.tv_weight))
        value, gradient = self._cost(trial)
        s, r = trial - self.d, gradient - self.gradient
        change, bend = (problems.sums(product.flatten(1).sum(1)) for product in (s.square(), s * r))
        rounding = _ROUNDING * torch.finfo(value.dtype).eps * self.value.abs()
        better = value <= self.value - _SUFFICIENT * change / self.tau + rounding

        inverse = torch.where(bend > 0, change / bend, torch.inf)  # of the curvature; a concave stretch bounds nothing
        halved = torch.minimum(inverse, 0.5 * self.tau).clamp_min(0.1 * self.tau)
        self.tau = torch.where(better, torch.minimum(inverse, _GROWTH * self.tau), halved)

        gained = (self.first - value).clamp_min(0.0)
        slow = self.value - value <= tolerance * gained
        self.slow = torch.where(better, torch.where(slow, self.slow + 1, 0), self.slow)

        self.value = torch.where(better, value, self.value)
        keep = self._of_slices(better)
        self.d, self.gradient = torch.where(keep, trial, self.d), torch.where(keep, gradient, self.gradient)
        return self.slow >= _SLOW

    def keep(self, going: Tensor) -> None:
        """Drop the problems, and their slices, that are not marked: no network or operator sees them again."""
        slices = self.problems.of_slices(going)
        for name in ("y", "d", "gradient", "slices"):
            setattr(self, name, getattr(self, name)[slices])
        for name in ("value", "first", "tau", "slow", "indices"):
            setattr(self, name, getattr(self, name)[going])
        self.prox.keep(going)
        self.problems = self.problems.only(going)

    def _of_slices(self, values: Tensor) -> Tensor:
        """Values of the problems beside their slices, ``[N, 1, 1, 1]``."""
        return self.problems.of_slices(values).view(-1, 1, 1, 1)

    def _cost(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """``-J`` of each problem, and the gradient of its ELBO."""
        x = self.y - d
        elbo, gradient = self.objective.elbo(x, self.slices)
        # The prox is of the exact TV, so the isotropic form is judged without its smoothing too.
        total_variation = self.objective.tv_value(x, self.y, self.problems, eps=0.0)
        return self.objective.tv_weight * total_variation - self.problems.sums(elbo), gradient
