"""CUDA graphs of a function of a batch, one for each batch size that recurs."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]

_EAGER_CALLS = 2
"""Calls of a batch size before its graph is captured, in which the libraries choose kernels and allocate workspaces."""

_KEPT = 4
"""Largest number of graphs of a function; each holds the memory of one batch."""

_ROWS = 8
"""Batches are padded to a multiple of this many rows, so that scans of similar numbers of slices share a graph."""


class CudaGraphs:
    """A function of batches that is replayed as a CUDA graph from the third call of a batch size on.

    A replay starts all kernels of the function at once, without Python in between. It computes on tensors of its own,
    into which the arguments are copied; the padding rows beyond them keep their earlier values. It runs in the caller's
    current stream. Other threads may use the device while a graph is captured, but cannot draw from its default
    generator, which torch refuses during a capture.

    Parameters
    ----------
    function : callable
        From tensors ``[N, ...]`` to a tuple of tensors ``[N, ...]``; a row's results must not depend on other rows. It
        must not wait for the device, such as by reading a value.

    Attributes
    ----------
    replays : int
        Number of calls that a graph computed.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._graphs: OrderedDict[Hashable, _Replay] = OrderedDict()
        self._calls: Counter[Hashable] = Counter()
        self._usable = True
        self.replays = 0

    def __call__(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """Return the function's results; the next call overwrites those of a graph."""
        if not self._usable:
            return self._function(*arguments)
        rows = -(-len(arguments[0]) // _ROWS) * _ROWS
        key = (rows, *(_kind(argument) for argument in arguments), *_rounding_settings())
        graph = self._graphs.get(key) or self._capture(key, rows, arguments)
        if graph is None:
            return self._call_padded(rows, *arguments)
        self._graphs.move_to_end(key)
        self.replays += 1
        return graph(*arguments)

    def release(self) -> None:
        """Free the graphs and their memory."""
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
            self.release()  # earlier calls succeeded without a graph, so memory suffices for the function alone
            self._usable = False
            return None
        except RuntimeError as error:
            self._usable = False
            warnings.warn(f"CUDA graphs are not used, since capturing failed: {error}", stacklevel=2)
            return None
        self._graphs[key] = graph
        return graph

    def _call_padded(self, rows: int, *arguments: Tensor) -> tuple[Tensor, ...]:
        # With as many rows as a graph has, the libraries choose the same kernels, which give the same bits.
        padded = tuple(_padded(argument, rows) for argument in arguments)
        count = len(arguments[0])
        try:
            return tuple(result[:count] for result in self._function(*padded))
        except torch.OutOfMemoryError:
            if not self._graphs:
                raise
        self.release()
        return tuple(result[:count] for result in self._function(*padded))


class _Replay:
    """A captured graph and the tensors that it reads its arguments from."""

    def __init__(self, function: Function, rows: int, arguments: tuple[Tensor, ...]) -> None:
        self._inputs = [argument.new_zeros((rows, *argument.shape[1:])) for argument in arguments]
        device = self._inputs[0].device
        self._graph = GRAPHS[device.type](lambda: function(*self._inputs), device)

    def __call__(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        for own, argument in zip(self._inputs, arguments, strict=True):
            own[: len(argument)].copy_(argument)
        self._graph.replay()
        return tuple(result[: len(arguments[0])] for result in self._graph.results)


class CapturedGraph:
    """CUDA graph of a function without arguments.

    Attributes
    ----------
    results : tuple of Tensor
        Tensors that the function returned, which a replay overwrites.
    """

    def __init__(self, function: Callable[[], tuple[Tensor, ...]], device: torch.device) -> None:
        with torch.cuda.device(device):
            self._graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream(device)
            # Other threads' allocations and copies must not end the capture.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self.results = function()

    def replay(self) -> None:
        """Run the function's kernels again, on the same tensors."""
        self._graph.replay()


GRAPHS: dict[str, Callable[[Callable[[], tuple[Tensor, ...]], torch.device], Any]] = {"cuda": CapturedGraph}
"""Class of graph for each type of device; functions on other types are not captured."""


def _padded(argument: Tensor, rows: int) -> Tensor:
    if len(argument) == rows:
        return argument
    return torch.cat([argument, argument.new_zeros((rows - len(argument), *argument.shape[1:]))])


def _kind(argument: Tensor) -> tuple[Any, ...]:
    return (argument.shape[1:], argument.dtype, argument.device)


def _rounding_settings() -> tuple[str, str]:
    """Settings of how convolutions and matrix products round, which a graph keeps from its capture on."""
    backends: Any = torch.backends
    return backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision
