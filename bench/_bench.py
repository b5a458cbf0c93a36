"""What the benchmarks share: where they ran, interleaved timing, copy bandwidth, JSON files."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lesioncore.data.stack import SliceStack
from lesioncore.detectors import DeviationDetector, MAPDetector, ProjectionDetector
from lesioncore.models import PriorMetadata

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


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


def environment(device: str) -> dict[str, Any]:
    """Device, versions, threads and commit of this run."""
    facts: dict[str, Any] = {
        "device": device_name(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": git_commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    if torch.device(device).type == "cuda":
        facts["cuda"] = torch.version.cuda
        facts["driver"] = driver_version()
    return facts


def device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(models)) or platform.processor() or platform.machine()


def driver_version() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def git_commit() -> str:
    """Commit of the checkout, with '+' if tracked files differ from it; 'unknown' outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "csrc", "lesioncore"], cwd=ROOT, check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + "+" * (changed.returncode != 0)


class _Shared:
    """Computes a scan's deviation once for detectors that differ in how they score it alone."""

    _last: ClassVar[dict[str, tuple[bytes, list[Tensor]]]] = {}

    def deviation_stacks(self, stacks: Sequence[SliceStack], **options: Any) -> list[Tensor]:
        who = json.dumps(self._source())
        key = hashlib.sha256(b"".join(stack.slices.numpy().tobytes() for stack in stacks)).digest()
        if self._last.get(who, (b"", []))[0] != key:
            self._last[who] = key, super().deviation_stacks(stacks, **options)
        return self._last[who][1]


class SharedRestoration(_Shared, MAPDetector):
    """Restores a scan once for detectors with the same prior, settings and weight, such as signed and unsigned."""

    def _source(self) -> list[Any]:
        scored_alike = replace(
            self.config, sign=0, spread_map=False, asymmetry=0.0, edge_preserving=False, standardize=False
        )
        return [id(self.prior), scored_alike.settings(), self.tv_weight]


class SharedProjection(_Shared, ProjectionDetector):
    """Projects a scan once for detectors with the same model."""

    def _source(self) -> list[Any]:
        return [id(self.model)]


class GridIntensity(DeviationDetector):
    """Intensity on the grid of a prior, so that the spread map and the other side are there for it as well."""

    name = "intensity"

    def __init__(self, metadata: PriorMetadata, **options: Any) -> None:
        super().__init__(**options)
        self.metadata = metadata

    def deviation_stacks(self, stacks: Sequence[SliceStack], **_: Any) -> list[Tensor]:
        return [torch.where(stack.mask, stack.slices, 0.0) for stack in stacks]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write to a temporary name, then rename. Timings become dicts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=_encode) + "\n")
    temporary.replace(path)


def _encode(value: object) -> object:
    if isinstance(value, Timing):
        return {name: round(number, 4) for name, number in asdict(value).items()}
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
