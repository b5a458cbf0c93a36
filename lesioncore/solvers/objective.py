"""The restoration objective ``J(X) = -lambda * TV(X - Y) + ELBO(X)``, and the solution that every solver returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lesioncore.engine.gradient import ElboGradient
from lesioncore.ops.tv import tv_value

ProgressCallback = Callable[[int, int], None]
"""Called as ``progress(steps_done, steps_in_all)`` after each step."""


@dataclass(frozen=True)
class TotalVariation:
    """Form of the total variation of the residual in the data term (method: paper section 2.2.1).

    Parameters
    ----------
    isotropic : bool
        ``sum sqrt(dx^2 + dy^2 + eps^2)`` instead of the anisotropic ``sum |dx| + |dy|``.
    eps : float
        Smoothing of the isotropic form, in z-scores; the proximal solver uses the exact form (eps = 0) instead.
    depth_weight : float
        Weight of the through-plane difference, usually in-plane over through-plane voxel size; 0 treats each slice
        by itself, as the paper does.

    Raises
    ------
    ValueError
        If `eps` is not positive, or `depth_weight` is negative.
    """

    isotropic: bool = False
    eps: float = 1e-3
    depth_weight: float = 0.0

    def __post_init__(self) -> None:
        if not self.eps > 0 or not math.isfinite(self.eps):
            raise ValueError(f"eps: got {self.eps}, expected a positive number (z-scores)")
        if not self.depth_weight >= 0 or not math.isfinite(self.depth_weight):
            raise ValueError(f"depth_weight: got {self.depth_weight}, expected 0 (2-D) or a positive number (3-D)")


@dataclass(frozen=True)
class Problems:
    """Grouping of N slices into B problems, each of which has an objective of its own.

    Parameters
    ----------
    depths : tuple of int, optional
        Number of slices of each stack that is coupled in depth, one stack after the other; each stack is a problem.
        When absent, each slice is one.
    """

    depths: tuple[int, ...] | None = None

    def stacks(self, slices: Tensor) -> list[Tensor]:
        """Views of slices ``[N, 1, H, W]`` for the operators: each coupled stack, ``[1, D, H, W]``, else all slices."""
        if self.depths is None:
            return [slices]
        return [part.view(1, len(part), *part.shape[2:]) for part in slices.split(self.depths)]

    def per_stack(self, values: Tensor) -> list[Tensor]:
        """Split values ``[B]`` of the problems as :meth:`stacks` splits their slices."""
        return [values] if self.depths is None else list(values.split(1))

    def sums(self, values: Tensor) -> Tensor:
        """Sum values ``[N]`` of the slices over each problem, ``[B]``."""
        return values if self.depths is None else torch.stack([part.sum() for part in values.split(self.depths)])

    def of_slices(self, values: Tensor) -> Tensor:
        """Repeat values ``[B]`` of the problems for each of their slices, ``[N]``."""
        if self.depths is None:
            return values
        depths = torch.tensor(self.depths, device=values.device)
        return values.repeat_interleave(depths, output_size=sum(self.depths))

    def only(self, selected: Tensor) -> Problems:
        """The grouping of the selected problems, bool ``[B]``."""
        if self.depths is None:
            return self
        return Problems(tuple(depth for depth, kept in zip(self.depths, selected.tolist(), strict=True) if kept))


@dataclass
class Objective:
    """``J(X) = -tv_weight * TV(X - Y) + ELBO(X)``, to be maximised (paper Eq. 6).

    Parameters
    ----------
    elbo : ElboGradient
        The prior's ELBO and its gradient.
    tv_weight : float
        The data-consistency weight lambda; larger weights keep the restoration closer to the observation.
    tv : TotalVariation
        Form of the data term.
    depths : sequence of int, optional
        Number of slices of each stack, one stack after the other, where slices are coupled in depth. When absent, all
        slices are one stack.

    Raises
    ------
    ValueError
        If `tv_weight` is negative or not finite.
    """

    elbo: ElboGradient
    tv_weight: float
    tv: TotalVariation = field(default_factory=TotalVariation)
    depths: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not self.tv_weight >= 0 or not math.isfinite(self.tv_weight):
            raise ValueError(f"tv_weight: got {self.tv_weight}, expected a finite number >= 0")

    def problems(self, count: int) -> Problems:
        """Group `count` slices into problems; ``ValueError`` if `depths` do not add up to them."""
        if self.tv.depth_weight == 0:
            return Problems()
        depths = (count,) if self.depths is None else tuple(self.depths)
        if sum(depths) != count:
            raise ValueError(f"depths: got {depths}, expected {count} slices in all")
        return Problems(depths)

    def tv_value(self, x: Tensor, y: Tensor, problems: Problems, *, eps: float | None = None) -> Tensor:
        """``TV(X - Y)`` of each problem, ``[B]``; `eps` replaces that of `tv` if given."""
        values = [
            tv_value(
                restored,
                observed,
                depth_weight=self.tv.depth_weight,
                isotropic=self.tv.isotropic,
                eps=self.tv.eps if eps is None else eps,
            )
            for restored, observed in zip(problems.stacks(x), problems.stacks(y), strict=True)
        ]
        return torch.cat(values)


@dataclass(frozen=True)
class Solution:
    """Restored slices, and the objective at each step.

    Parameters
    ----------
    restored : Tensor
        ``[N, 1, H, W]`` z-scores, equal to the observation outside the mask.
    objective : Tensor
        ``[steps + 1, B]``: ``J`` of each problem (slice, or stack when coupled in depth), in nats, at the observation
        and after each step.
    backend : str
        How the prior's gradient was computed, as :attr:`lesioncore.engine.gradient.ElboGradient.backend`; None when
        unknown.
    seconds : float
        Wall-clock time: an equal share of the time of all stacks that were solved together.
    """

    restored: Tensor
    objective: Tensor
    backend: str | None = None
    seconds: float = 0.0


def check_problem(y: Tensor, mask: Tensor) -> None:
    """Raise ``ValueError`` unless `y` is finite and of shape ``[N, 1, H, W]``, and `mask` bool and of that shape."""
    if y.dim() != 4 or y.shape[1] != 1 or not y.is_floating_point():
        raise ValueError(f"y: got {tuple(y.shape)} {y.dtype}, expected floating point [N, 1, H, W]")
    if mask.shape != y.shape or mask.dtype != torch.bool:
        raise ValueError(f"mask: got {tuple(mask.shape)} {mask.dtype}, expected bool {tuple(y.shape)}")
    if not torch.isfinite(y).all():
        raise ValueError("y: got NaN or infinite values, expected none; clean the image first")
