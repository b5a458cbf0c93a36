"""Batches of slices: their size for a device, and loops over them, of which a device runs one at a time."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lesioncore import _C

_CPU_PIXELS = 320_000
"""Pixels of a batch on a CPU. The largest feature map, of 16 channels, then has 20 MB. Above 32 MB the C library asks
the system for fresh pages at each allocation; much smaller batches make the deep layers' maps too small to keep the
cores busy."""

_CUDA_PIXELS = 10_000_000
"""Pixels of a batch on a CUDA device, about those of a whole volume; halved until its free memory suffices."""

_BYTES = 2048
"""Memory (bytes) to allow for each pixel of a batch: the gradient of a network of the paper's size takes 600 bytes
on a CPU."""


_loops, _counting = 0, threading.Lock()
_turns: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Context of a loop over batches: each device runs one loop at a time, while other threads read and write files.

    With glibc, host memory that a batch frees stays with the process until the last loop ends, so that the next batch
    need not ask the system for it again.
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
    """Default batch size on a device, for slices of the size of `x`, ``[N, 1, H, W]``."""
    pixels = _CPU_PIXELS
    if device.type == "cuda":
        pixels = _CUDA_PIXELS
        while pixels > 1 and pixels * _BYTES > _free_bytes(device):
            pixels //= 2
    return max(1, pixels // max(1, x[:1].numel()))


def _free_bytes(device: torch.device) -> int:
    """Unused memory of a CUDA device (bytes), including what torch's allocator has reserved and does not use."""
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + reserved


def check_batch_size(batch_size: int | None) -> int | None:
    """Return `batch_size`, or raise ``ValueError`` if it is below 1."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
    return batch_size


def in_batches(function: Callable[[slice], None], count: int, batch_size: int) -> int:
    """Call a function for each batch; return the batch size that the device's memory allowed.

    Parameters
    ----------
    function : callable
        Called with the range of a batch's slices. It is called again for a range on which it ran out of memory, so a
        failed call must leave nothing behind.
    count : int
        Total number of slices.
    batch_size : int
        Slices in a batch. It is halved, and the batch tried again, where the device runs out of memory.

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
