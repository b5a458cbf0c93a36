"""Batches of slices: how many suit a device, and one loop over batches at a time."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lesioncore import _C

_CPU_PIXELS = 320_000
"""Pixels of a batch. The largest feature map of 16 channels then has 20 MB: above 32 MB the C library asks the system
for fresh pages at each allocation, and far below the deep layers' small maps keep the cores waiting."""

_CUDA_PIXELS = 10_000_000
"""Pixels of a batch on a CUDA device, a volume's; fewer by halves where its free memory does not suffice."""

_BYTES = 2048
"""Memory that a pixel may need: the gradient of a network of the paper's size takes 600 bytes on a CPU."""


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
    pixels = _CPU_PIXELS
    if device.type == "cuda":
        pixels = _CUDA_PIXELS
        while pixels > 1 and pixels * _BYTES > _free_bytes(device):
            pixels //= 2
    return max(1, pixels // max(1, x[:1].numel()))


def _free_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that nothing uses, that which torch keeps for itself included."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


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
