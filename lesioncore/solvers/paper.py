"""The paper's solver: gradient ascent with the subgradient of TV (paper Eq. 4-6, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lesioncore.ops.tv import restore_step_
from lesioncore.solvers.objective import Objective, ProgressCallback, Solution, check_problem


@dataclass(frozen=True)
class PaperSolver:
    """Gradient ascent from ``X_0 = Y``: ``X += alpha_i * m * clip(dELBO/dX - lambda * dTV(X - Y)/dX)``.

    Parameters
    ----------
    steps : int
        Number of steps.
    step_size : float
        ``alpha_i`` of the first `first_steps` steps.
    late_step_size : float
        ``alpha_i`` of all later steps.
    first_steps : int
        Number of steps with the first step size.
    clip : float
        Bound on each element of the gradient; the authors' code has 50 for the VAE and 100 for the GMVAE.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    fixes_posterior: ClassVar[bool] = False
    steps: int = 500
    step_size: float = 5e-3
    late_step_size: float = 3e-3
    first_steps: int = 100
    clip: float = 50.0

    def __post_init__(self) -> None:
        for name in ("steps", "first_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a whole number >= 0")
        for name in ("step_size", "late_step_size", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a positive number")

    @torch.no_grad()
    def solve(
        self, y: Tensor, mask: Tensor, objective: Objective, progress: ProgressCallback | None = None
    ) -> Solution:
        """Restore slices.

        Parameters
        ----------
        y : Tensor
            Observed slices ``[N, 1, H, W]``, z-scores.
        mask : Tensor
            Brain mask, bool, same shape; pixels outside it do not change.
        objective : Objective
            The objective to maximise.
        progress : callable, optional
            Called as ``progress(done, steps)`` after each step.

        Returns
        -------
        Solution
            The restored slices, and the objective at the observation and after each step.

        Raises
        ------
        ValueError
            If `y` or `mask` is of another shape or type, `y` is not finite, or the objective's `depths` do not add up
            to the slices.
        """
        check_problem(y, mask)
        x, y, mask = y.clone(memory_format=torch.contiguous_format), y.contiguous(), mask.contiguous()
        problems, tv = objective.problems(len(y)), objective.tv
        weight = y.new_tensor([objective.tv_weight])
        step_sizes = [y.new_tensor([size]) for size in (self.step_size, self.late_step_size)]
        history = []
        # The gradient at the last iterate is not needed, but its ELBO closes the recorded curve.
        for step in range(self.steps + 1):
            elbo, gradient = objective.elbo(x)
            total_variation = objective.tv_value(x, y, problems)
            history.append(problems.sums(elbo) - objective.tv_weight * total_variation)
            if step == self.steps:
                break
            stacks = (problems.stacks(slices) for slices in (x, y, gradient, mask))
            for restored, observed, ascent, brain in zip(*stacks, strict=True):
                restore_step_(
                    restored,
                    observed,
                    ascent,
                    brain,
                    step_sizes[step >= self.first_steps],
                    weight,
                    clip=self.clip,
                    depth_weight=tv.depth_weight,
                    isotropic=tv.isotropic,
                    eps=tv.eps,
                )
            if progress is not None:
                progress(step + 1, self.steps)
        return Solution(x, torch.stack(history))
