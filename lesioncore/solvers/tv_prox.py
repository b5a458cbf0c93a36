"""Proximal operator of TV for solvers, warm-started at each step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lesioncore.ops.tv import dual_like, tv_prox_
from lesioncore.solvers.objective import Problems, TotalVariation


class TVProx:
    """``argmin_D 1/2 |D - V|^2 + weight * TV(D)`` with ``D = 0`` outside the mask, for each problem.

    Each call starts from the dual of the last one. Only the bounding box of the mask with a border of one pixel is
    computed: beyond it D is 0 and has no part in the TV, so the result is the same to the bit.

    Parameters
    ----------
    y, mask : Tensor
        ``[N, 1, H, W]``: the slices, of which only shape and type are used, and where D may differ from 0 (bool).
    tv : TotalVariation
        Form of the TV, which is taken exactly (eps = 0).
    problems : Problems
        Grouping of the slices.
    iterations : int
        Iterations of the dual in each call.
    """

    def __init__(self, y: Tensor, mask: Tensor, tv: TotalVariation, problems: Problems, iterations: int) -> None:
        inside = mask.flatten(0, 1).any(0)
        self._box = (..., _with_border(inside.any(1)), _with_border(inside.any(0)))
        self._mask = mask[self._box].contiguous()
        self._tv, self._problems, self._iterations = tv, problems, iterations
        self._duals = [dual_like(stack, tv.depth_weight) for stack in problems.stacks(y[self._box])]

    def __call__(self, v: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return D for ``V``, both ``[N, 1, H, W]``; `weights` are those of the problems, split by stacks."""
        inner = v[self._box].contiguous()
        solution = torch.empty_like(inner)
        stacks = (self._problems.stacks(slices) for slices in (inner, self._mask, solution))
        for stack, inside, out, weight, dual in zip(*stacks, weights, self._duals, strict=True):
            tv_prox_(
                stack,
                inside,
                weight,
                dual,
                out=out,
                depth_weight=self._tv.depth_weight,
                isotropic=self._tv.isotropic,
                iterations=self._iterations,
            )
        if solution.shape == v.shape:
            return solution
        whole = torch.zeros_like(v)
        whole[self._box] = solution
        return whole

    def keep(self, selected: Tensor) -> None:
        """Drop all but the selected problems, bool ``[B]``."""
        self._mask = self._mask[self._problems.of_slices(selected)]
        if self._problems.depths is None:
            self._duals = [dual[:, selected] for dual in self._duals]
        else:
            self._duals = [dual for dual, kept in zip(self._duals, selected.tolist(), strict=True) if kept]
        self._problems = self._problems.only(selected)


def _with_border(occupied: Tensor) -> slice:
    """Range from the first to the last occupied place along an axis, with one more at either end."""
    places = occupied.nonzero()[:, 0].tolist()
    return slice(max(0, places[0] - 1), places[-1] + 2) if places else slice(0, 0)
