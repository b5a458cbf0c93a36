"""Interleaved timing, copy bandwidth and peak memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call: median, and the quartiles as its spread."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:8.2f} [{self.low:.2f}, {self.high:.2f}]"

    def per(self, count: int) -> Timing:
        """The time of one of `count` equal parts."""
        return Timing(self.median / count, self.low / count, self.high / count, self.rounds)


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def time_interleaved(functions: dict[str, Callable[[], object]], device: str, rounds: int) -> dict[str, Timing]:
    """Time the functions turn by turn, so that a slow moment of the machine falls on all of them.

    Each is called once before, unmeasured.
    """
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            synchronize(device)
            start = time.perf_counter()
            function()
            synchronize(device)
            samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: _timing(values) for name, values in samples.items()}


def _timing(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Timing(median, low, high, len(values))


def copies(shape: tuple[int, ...], device: str, volumes: int = 5) -> Callable[[], object]:
    """A function that copies one float32 volume to the next, going round `volumes` of them.

    The volumes together are as large as what a fused operator touches, so that a cache helps both alike.
    """
    ring = [torch.zeros(shape, device=device) for _ in range(volumes)]
    position = 0

    def step() -> None:
        nonlocal position
        ring[(position + 1) % volumes].copy_(ring[position % volumes])
        position += 1

    return step


def repeated(call: Callable[[], object], device: str, times: int) -> Callable[[], object]:
    """`times` calls at once, on CUDA replayed from a graph, so that no launch is counted."""
    if torch.device(device).type != "cuda":
        return lambda: [call() for _ in range(times)]
    for _ in range(3):
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            call()
    return graph.replay


def peak_gb(device: str) -> float:
    """Peak memory of this process, or what it had of the device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    # Not getrusage: its peak starts from that of the process that started this one.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e9
