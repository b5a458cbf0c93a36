"""CUDA graphs of a function of a batch, one for each frequent batch size."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]

_EAGER_CALLS = 2
"""Calls of a size before it is captured: they let the libraries choose their kernels and make their workspaces."""

_KEPT = 4
"""Graphs of a function that are kept; each holds the memory of one batch."""

_ROWS = 8
"""Batches are filled up to a multiple of this, so that scans of nearly the same number of slices share a graph."""


class CudaGraphs:
    """A function of tensors that share their first axis, replayed as a CUDA graph from the third call of a size on.

    A replay starts all kernels of the function at once, without Python in between. It computes on tensors of its own,
    into which the arguments are copied; rows beyond theirs hold what was there before. It runs in the caller's current
    stream, and other threads may go on using the device, also while a graph is captured; but torch refuses to draw from
    the device's default generator then.

    Parameters
    ----------
    function : callable
        From tensors ``[N, ...]`` to a tuple of tensors ``[N, ...]``; a row's results must not depend on other rows. It
        may not wait for the device.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._graphs: OrderedDict[Hashable, _Replay] = OrderedDict()
        self._calls: Counter[Hashable] = Counter()
        self._usable = True
        self.replays = 0

    def __call__(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """The function's results; those of a graph are overwritten by the next call."""
        if not self._usable:
            return self._function(*arguments)
        rows = -(-len(arguments[0]) // _ROWS) * _ROWS
        key = (rows, *(_kind(argument) for argument in arguments), *_rounding())
        graph = self._graphs.get(key) or self._capture(key, rows, arguments)
        if graph is None:
            return self._eagerly(rows, *arguments)
        self._graphs.move_to_end(key)
        self.replays += 1
        return graph(*arguments)

    def release(self) -> None:
        """Give the graphs and their memory back."""
        self._graphs.clear()
        self._calls.clear()

    def _capture(self, key: Hashable, rows: int, arguments: tuple[Tensor, ...]) -> _Replay | None:
        self._calls[key] += 1
        if self._calls[key] <= _EAGER_CALLS:
            return None
        while len(self._graphs) >= _KEPT:
            self._graphs.popitem(last=False)
        try:
            graph = _Replay(self._function, rows, arguments)
        except torch.OutOfMemoryError:
            self.release()  # the memory suffices for computing, as it did before, but for no graph beside it
            self._usable = False
            return None
        except RuntimeError as error:
            self._usable = False
            warnings.warn(f"CUDA graphs are not used, since capturing failed: {error}", stacklevel=2)
            return None
        self._graphs[key] = graph
        return graph

    def _eagerly(self, rows: int, *arguments: Tensor) -> tuple[Tensor, ...]:
        # With as many rows as a graph of this size: the libraries choose the same kernels then, so the same bits.
        filled = tuple(_filled(argument, rows) for argument in arguments)
        count = len(arguments[0])
        try:
            return tuple(result[:count] for result in self._function(*filled))
        except torch.OutOfMemoryError:
            if not self._graphs:
                raise
        self.release()
        return tuple(result[:count] for result in self._function(*filled))


class _Replay:
    """One graph with the tensors that it reads."""

    def __init__(self, function: Function, rows: int, arguments: tuple[Tensor, ...]) -> None:
        self._inputs = [argument.new_zeros((rows, *argument.shape[1:])) for argument in arguments]
        self._graph = _Graph(lambda: function(*self._inputs), self._inputs[0].device)

    def __call__(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        for kept, argument in zip(self._inputs, arguments, strict=True):
            kept[: len(argument)].copy_(argument)
        self._graph.replay()
        return tuple(result[: len(arguments[0])] for result in self._graph.results)


class _Graph:
    """What a function without arguments does on the device."""

    def __init__(self, function: Callable[[], tuple[Tensor, ...]], device: torch.device) -> None:
        with torch.cuda.device(device):
            self._graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream(device)
            # Other threads' allocations and copies must not end the capture.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self.results = function()

    def replay(self) -> None:
        self._graph.replay()


def _filled(argument: Tensor, rows: int) -> Tensor:
    if len(argument) == rows:
        return argument
    return torch.cat([argument, argument.new_zeros((rows - len(argument), *argument.shape[1:]))])


def _kind(argument: Tensor) -> tuple[Any, ...]:
    return (argument.shape[1:], argument.dtype, argument.device)


def _rounding() -> tuple[str, str]:
    """What a capture decides for good about its convolutions and products."""
    backends: Any = torch.backends
    return backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision
