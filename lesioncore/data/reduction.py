"""Sums of many parts whose size grows with each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

PartT = TypeVar("PartT")


def tree_reduce(combine: Callable[[PartT, PartT], PartT], parts: Sequence[PartT]) -> PartT:
    """Combine parts in their order, neighbours first: one after the other, the first would be copied for each.

    Parameters
    ----------
    combine : callable
        Of two neighbours; associative.
    parts : sequence
        One part at least.
    """
    left = list(parts)
    while len(left) > 1:
        pairs = [combine(*left[start : start + 2]) for start in range(0, len(left) - 1, 2)]
        left = pairs + left[2 * len(pairs) :]
    return left[0]
