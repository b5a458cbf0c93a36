"""The operators on feature maps at the sizes of the paper's network: time, error and share of the copy bandwidth.

    python bench/map_speed.py [--device cuda] [--quick]

Each operator against what torch has for the same (cuDNN's convolution, elementwise kernels, interpolation), both in
channels-last memory and in the same precision; convolutions on tensor cores in tf32. On CUDA many calls in a graph, so
that no launch is counted. The error is relative, against float64 on a few slices. The bound is the bytes that must at
least move, read once and written once, at the bandwidth of a copy of a gigabyte, measured in turn with them. Networks
use these operators on CUDA alone; on a CPU the table only says why. Writes ``map_speed_<device>.json``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _bench import RESULTS, copies, environment, repeated, time_interleaved, write_json
from torch import Tensor
from torch.nn import functional as F

from lesioncore.engine.precision import multiplying_in

SLOPE, ERROR_SLICES = 0.2, 4


@dataclass(frozen=True)
class Case:
    """An operator at one size: `call` is ours, `torch` the same in torch, in any type; both take the same tensors."""

    name: str
    channels: tuple[int, int]
    size: int
    inputs: dict[str, Tensor]
    call: Callable[..., Tensor]
    torch: Callable[..., Tensor]
    written: int  # elements


class Maps:
    """Random maps and kernels of one type on a device."""

    def __init__(self, count: int, device: str, dtype: torch.dtype) -> None:
        self.count, self.device, self.dtype = count, device, dtype
        torch.manual_seed(0)

    def map(self, channels: int, size: int) -> Tensor:
        x = torch.randn(self.count, channels, size, size, device=self.device, dtype=self.dtype)
        return x.contiguous(memory_format=torch.channels_last)

    def kernel(self, outputs: int, inputs: int) -> Tensor:
        w = torch.randn(outputs, inputs, 3, 3, device=self.device, dtype=self.dtype) / 12
        return w.contiguous(memory_format=torch.channels_last)


def larger(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear")


def smaller(g: Tensor, size: tuple[int, int]) -> Tensor:
    shape = [*g.shape[:2], *size]
    return torch.ops.aten.upsample_bilinear2d_backward(g, list(g.shape[2:]), shape, False, None, None)


def strided_gradient(g: Tensor, w: Tensor, x: Tensor) -> Tensor:
    flags = [True, False, False]
    return torch.ops.aten.convolution_backward(g, x, w, None, [2, 2], [0, 0], [1, 1], False, [0, 0], 1, flags)[0]


def cases(maps: Maps) -> Iterator[Case]:
    full, half = (200, 200), (99, 99)
    large, small = maps.map(16, 200), maps.map(16, 99)
    image, bias = maps.map(1, 200), torch.randn(16, device=maps.device, dtype=maps.dtype)
    kernel, first, last = maps.kernel(16, 16), maps.kernel(16, 1), maps.kernel(1, 16)
    signs = maps.activate_(large.clone(), negative_slope=SLOPE)
    signed = torch.ones_like(large).masked_fill_(F.leaky_relu(large) < 0, SLOPE)

    def act(x: Tensor) -> Tensor:
        return F.leaky_relu(x, SLOPE)

    def convolved(*arguments: Any, **options: Any) -> Tensor:
        return maps.convolve(*arguments, negative_slope=SLOPE, **options)[0]

    n = large.numel()
    yield Case("enlarge", (16, 16), 200, {"x": small}, lambda x: maps.enlarge(x, full), lambda x: larger(x, full), n)
    yield Case(
        "enlarge_adjoint",
        (16, 16),
        200,
        {"g": large},
        lambda g: maps.enlarge_adjoint(g, half),
        lambda g: smaller(g, half),
        small.numel(),
    )
    yield Case(
        "activation_gradient",
        (16, 16),
        200,
        {"g": maps.map(16, 200)},
        lambda g: maps.activation_gradient(g, signs, negative_slope=SLOPE),
        lambda g: torch.ops.aten.leaky_relu_backward(g, large[: len(g)].to(g.dtype), SLOPE, True),
        n,
    )
    yield Case(
        "convolve, activate",
        (1, 16),
        200,
        {"x": image, "w": first, "b": bias},
        lambda x, w, b: convolved(x, w, bias=b, activate=True),
        lambda x, w, b: act(F.conv2d(x, w, b, padding=1)),
        n,
    )
    yield Case(
        "signs, convolve",
        (16, 1),
        200,
        {"g": large, "w": last},
        lambda g, w: convolved(g, w, signs=signs),
        lambda g, w: F.conv2d(g * signed[: len(g)].to(g.dtype), w, padding=1),
        image.numel(),
    )
    yield Case(
        "convolve",
        (16, 16),
        200,
        {"x": large, "w": kernel},
        lambda x, w: convolved(x, w),
        lambda x, w: F.conv2d(x, w, padding=1),
        n,
    )
    yield Case(
        "signs, convolve",
        (16, 16),
        200,
        {"g": large, "w": kernel},
        lambda g, w: convolved(g, w, signs=signs),
        lambda g, w: F.conv2d(g * signed[: len(g)].to(g.dtype), w, padding=1),
        n,
    )
    yield Case(
        "enlarge, convolve, add enlarged, activate",
        (16, 16),
        200,
        {"x": small, "w": kernel, "b": bias, "s": maps.map(16, 99)},
        lambda x, w, b, s: convolved(x, w, bias=b, skip=s, size=full, activate=True),
        lambda x, w, b, s: act(F.conv2d(larger(x, full), w, b, padding=1) + larger(s, full)),
        n,
    )
    yield Case(
        "convolve by twos, add, activate",
        (16, 16),
        200,
        {"x": large, "w": kernel, "b": bias, "s": small},
        lambda x, w, b, s: convolved(x, w, bias=b, skip=s, stride=2, activate=True),
        lambda x, w, b, s: act(F.conv2d(x, w, b, stride=2) + s),
        small.numel(),
    )
    yield Case(
        "convolve_down_adjoint",
        (16, 16),
        200,
        {"g": small, "w": kernel},
        lambda g, w: maps.convolve_down_adjoint(g, w, full),
        lambda g, w: strided_gradient(g, w, large[: len(g)].to(g.dtype)),
        n,
    )
    yield Case(
        "convolve, activate",
        (16, 32),
        99,
        {"x": small, "w": maps.kernel(32, 16)},
        lambda x, w: convolved(x, w, activate=True),
        lambda x, w: act(F.conv2d(x, w, padding=1)),
        2 * small.numel(),
    )
    wide, narrow = maps.map(32, 99), maps.kernel(16, 32)
    wide_signs = maps.activate_(wide.clone(), negative_slope=SLOPE)
    wide_signed = torch.ones_like(wide).masked_fill_(F.leaky_relu(wide) < 0, SLOPE)
    yield Case(
        "convolve, activate",
        (32, 16),
        99,
        {"x": wide, "w": narrow},
        lambda x, w: convolved(x, w, activate=True),
        lambda x, w: act(F.conv2d(x, w, padding=1)),
        small.numel(),
    )
    yield Case(
        "signs, convolve",
        (32, 16),
        99,
        {"g": wide, "w": narrow},
        lambda g, w: convolved(g, w, signs=wide_signs),
        lambda g, w: F.conv2d(g * wide_signed[: len(g)].to(g.dtype), w, padding=1),
        small.numel(),
    )


def measure(case: Case, maps: Maps, rounds: int) -> dict[str, Any]:
    few = {name: t if name in "wb" else t[:ERROR_SLICES] for name, t in case.inputs.items()}
    exact = case.torch(**{name: t.double() for name, t in few.items()})
    found = case.call(**case.inputs)[:ERROR_SLICES].double()
    on_cuda = torch.device(maps.device).type == "cuda"
    times, pixels = (10, 3000 * 40_000) if on_cuda else (1, 32 * 40_000)
    calls = {
        "native": lambda: case.call(**case.inputs),
        "torch": lambda: case.torch(**case.inputs),
        "copy": copies((pixels,), maps.device, 2),
    }
    calls = {name: repeated(call, maps.device, times) for name, call in calls.items()}
    timings = {name: t.per(times) for name, t in time_interleaved(calls, maps.device, rounds).items()}
    bandwidth = 8 * pixels / timings.pop("copy").median / 1e6
    moved = maps.dtype.itemsize * (case.written + sum(t.numel() for t in case.inputs.values()))
    row = {
        "op": case.name,
        "channels": list(case.channels),
        "size": case.size,
        "dtype": str(maps.dtype).removeprefix("torch."),
        "relative_error": float((found - exact).norm() / exact.norm()),
        "ms": timings,
        "copy_gb_per_s": round(bandwidth, 1),
        "fraction_of_copy": round(moved / bandwidth / 1e6 / timings["native"].median, 3),
    }
    ratio = timings["torch"].median / timings["native"].median
    print(
        f"{row['dtype']:8} {case.name:42} {case.channels[0]:2} to {case.channels[1]:2} at {case.size:3}"
        f"  error {row['relative_error']:.1e}  native {timings['native']} ms  torch {timings['torch']} ({ratio:.1f}x)"
        f"  of the copy bandwidth {row['fraction_of_copy']:.2f}",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for map_speed_DEVICE.json")
    options = parser.parse_args()
    facts = environment(options.device)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    on_cuda, rounds = torch.device(options.device).type == "cuda", 3 if options.quick else 9
    count, types = (150, [torch.float32, torch.bfloat16]) if on_cuda else (4, [torch.float32])
    rows = []
    with multiplying_in("tf32" if on_cuda else "float32", torch.device(options.device)):
        for dtype in types:
            maps = Maps(count, options.device, dtype)
            rows += [measure(case, maps, rounds) for case in cases(maps)]
    speedups = [row["ms"]["torch"].median / row["ms"]["native"].median for row in rows]
    print(f"median speedup {statistics.median(speedups):.1f}")
    name = f"map_speed_{torch.device(options.device).type}{'_quick' * options.quick}.json"
    write_json(options.out / name, {"environment": facts, "rows": rows})
    print(f"written to {options.out / name}")


if __name__ == "__main__":
    main()
