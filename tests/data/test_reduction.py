"""Sums of many parts: each part is combined as often as there are levels, in the order of the parts."""

from __future__ import annotations

from operator import add

import pytest

from lesioncore.data.reduction import tree_reduce


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 100])
def test_the_order_is_kept_and_the_work_is_not_quadratic(count):
    work = []

    def combine(first, second):
        work.append(len(first) + len(second))
        return add(first, second)

    assert tree_reduce(combine, [(number,) for number in range(count)]) == tuple(range(count))
    assert sum(work) <= count * max(1, (count - 1).bit_length())
