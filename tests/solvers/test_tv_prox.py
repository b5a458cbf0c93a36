"""The solvers' TV prox: the bits of the operator on whole slices, call after call, whatever is left out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from lesioncore.ops.tv import dual_like, tv_prox_
from lesioncore.solvers import TotalVariation
from lesioncore.solvers.objective import Problems
from lesioncore.solvers.tv_prox import TVProx


def box_mask(shape, box, seed):
    """Scattered pixels in a box, on its every side."""
    (top, bottom), (left, right) = (sorted(ends) for ends in box)
    mask = torch.zeros(shape, dtype=torch.bool)
    inner = mask[..., top : bottom + 1, left : right + 1]
    inner.copy_(torch.rand(inner.shape, generator=torch.Generator().manual_seed(seed)) < 0.7)
    inner[0, 0, 0, 0] = inner[-1, 0, -1, -1] = True
    return mask


ends = st.tuples(st.integers(0, 11), st.integers(0, 11))


@given(
    box=st.tuples(ends, ends),
    isotropic=st.booleans(),
    depths=st.sampled_from([None, (5,), (2, 3)]),
    going=st.lists(st.booleans(), min_size=5, max_size=5),
    seed=st.integers(0, 1000),
)
def test_bits_of_the_operator(box, isotropic, depths, going, seed):
    tv = TotalVariation(isotropic=isotropic, depth_weight=0.0 if depths is None else 0.7)
    problems = Problems(depths)
    generator = torch.Generator().manual_seed(seed)
    mask = box_mask((5, 1, 12, 12), box, seed)
    v = torch.randn(mask.shape, generator=generator)
    count = 5 if depths is None else len(depths)
    weights, left = torch.rand(count, generator=generator), torch.tensor(going[:count])
    prox = TVProx(v, mask, tv, problems, iterations=7)
    duals = [dual_like(stack, tv.depth_weight) for stack in problems.stacks(v)]

    def whole():
        solution = torch.empty_like(v)
        stacks = (problems.stacks(slices) for slices in (v, mask, solution))
        for stack, inside, out, weight, dual in zip(*stacks, problems.per_stack(weights), duals, strict=True):
            kwargs = {"depth_weight": tv.depth_weight, "isotropic": isotropic, "iterations": 7}
            tv_prox_(stack, inside, weight, dual, out=out, **kwargs)
        return solution

    for _ in range(2):  # the second goes on from the first's dual
        assert torch.equal(prox(v, problems.per_stack(weights)), whole())
        v = v + 0.1 * torch.randn(v.shape, generator=generator)
    if not left.any():
        return
    prox.keep(left)
    expected = whole()[problems.of_slices(left)]
    kept = problems.only(left)
    assert torch.equal(prox(v[problems.of_slices(left)], kept.per_stack(weights[left])), expected)


@pytest.mark.parametrize("depths", [None, (3,)])
def test_nothing_in_the_mask(depths):
    v = torch.randn(3, 1, 6, 7)
    problems = Problems(depths)
    tv = TotalVariation(depth_weight=0.0 if depths is None else 1.0)
    prox = TVProx(v, torch.zeros_like(v, dtype=torch.bool), tv, problems, iterations=3)
    assert not prox(v, problems.per_stack(torch.ones(3 if depths is None else 1))).any()
