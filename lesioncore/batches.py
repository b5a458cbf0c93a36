"""Slices a batch at a time, as many as suit the device; and one loop over batches at a time."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lesioncore import _C

_PIXELS = {"cpu": 320_000, "cuda": 10_000_000}
"""Pixels of a batch. On CPUs the largest feature map of 16 channels then has 20 MB: above 32 MB the C library asks the
system for fresh pages at each allocation, and far below the deep layers' small maps keep the cores waiting."""


_loops, _counting = 0, threading.Lock()
_turns: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """A loop over batches: one at a time on each device, while other threads read and write.

    Host memory that a batch has freed stays with the process until the last loop ends, where the C library is glibc.
    """
    with _counting:
        turn = _turns[str(device)]
    with turn, _kept_memory():
        yield


@contextmanager
def _kept_memory() -> Iterator[None]:
    global _loops
    with _counting:
        _loops += 1
        if _loops == 1:
            _C.keep_freed_memory(True)
    try:
        yield
    finally:
        with _counting:
            _loops -= 1
            if _loops == 0:
                _C.keep_freed_memory(False)


def batch_size_for(x: Tensor, device: torch.device) -> int:
    """How many of the slices ``[N, 1, H, W]`` a batch takes on a device where the caller does not say."""
    return max(1, _PIXELS["cpu" if device.type == "cpu" else "cuda"] // max(1, x[:1].numel()))


def check_batch_size(batch_size: int | None) -> int | None:
    """Return `batch_size`, or raise ``ValueError`` if it is below 1."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
    return batch_size


def in_batches(function: Callable[[slice], None], count: int, batch_size: int) -> int:
    """Call a function with the ranges of all batches; returns the batch size that the device's memory allowed.

    Parameters
    ----------
    function : callable
        Given a range of slices. Must bear to be called again for a range on which it ran out of memory.
    count : int
        Slices in all.
    batch_size : int
        Halved, and the batch tried again, where the device runs out of memory.

    Raises
    ------
    torch.OutOfMemoryError
        If the memory does not suffice for a single slice.
    """
    start = 0
    while start < count:
        try:
            function(slice(start, min(start + batch_size, count)))
            start += batch_size
        except torch.OutOfMemoryError:  # noqa: PERF203 (a batch takes much longer than a handler)
            if batch_size == 1:
                raise
            batch_size //= 2
    return batch_size
