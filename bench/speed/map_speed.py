"""Time, error and share of the copy bandwidth of the convolution operators, at the sizes of the paper's network.

    python bench/speed/map_speed.py [--device cuda] [--quick]

Each operator against what torch has for the same (cuDNN's convolution, elementwise kernels, interpolation), both in
channels-last memory and in the same precision; convolutions on tensor cores in tf32. On CUDA many calls in a graph, so
that no launch is counted. The error is relative, against float64 on a few slices. The bound is the bytes that must at
least move, read once and written once, at the bandwidth of a copy of a gigabyte, measured in turn with them. Networks
use these operators on CUDA alone; on a CPU the table only says why. Writes ``map_speed_<device>.json``.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.options import parser, started
from common.results import write_json
from common.timing import copies, repeated, time_interleaved

from lesioncore.engine.precision import multiplying_in
from lesioncore.ops import maps

SLOPE, ERROR_SLICES = 0.2, 4
FULL, HALF = (200, 200), (99, 99)


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


class Inputs:
    """Random maps and kernels of one type on a device."""

    def __init__(self, count: int, device: str, dtype: torch.dtype) -> None:
        self.count, self.device, self.dtype = count, device, dtype
        torch.manual_seed(0)
        self.large, self.small, self.image = self.map(16, 200), self.map(16, 99), self.map(1, 200)
        self.kernel_16, self.bias = self.kernel(16, 16), torch.randn(16, device=device, dtype=dtype)
        self.signs, self.factors = signs_of(self.large)

    def map(self, channels: int, size: int) -> Tensor:
        x = torch.randn(self.count, channels, size, size, device=self.device, dtype=self.dtype)
        return x.contiguous(memory_format=torch.channels_last)

    def kernel(self, outputs: int, inputs: int) -> Tensor:
        w = torch.randn(outputs, inputs, 3, 3, device=self.device, dtype=self.dtype) / 12
        return w.contiguous(memory_format=torch.channels_last)


def signs_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Signs of activations as the operators have them, and the factors that torch multiplies gradients by for them."""
    factors = torch.ones_like(x).masked_fill_(F.leaky_relu(x) < 0, SLOPE)
    return maps.activate_(x.clone(), negative_slope=SLOPE), factors


def like(x: Tensor, other: Tensor) -> Tensor:
    """The first maps of `x`, as many as `other` has and of its type."""
    return x[: len(other)].to(other.dtype)


def larger(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear")


def smaller(g: Tensor, size: tuple[int, int]) -> Tensor:
    shape = [*g.shape[:2], *size]
    return torch.ops.aten.upsample_bilinear2d_backward(g, list(g.shape[2:]), shape, False, None, None)


def strided_gradient(g: Tensor, w: Tensor, x: Tensor) -> Tensor:
    flags = [True, False, False]
    return torch.ops.aten.convolution_backward(g, x, w, None, [2, 2], [0, 0], [1, 1], False, [0, 0], 1, flags)[0]


def act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def convolved(*arguments: Any, **options: Any) -> Tensor:
    return maps.convolve(*arguments, negative_slope=SLOPE, **options)[0]


def cases(inputs: Inputs) -> Iterator[Case]:
    """The operators in the order of a network: between layers, first and last layer, full size, half size."""
    yield from between_layers(inputs)
    yield from first_and_last_layer(inputs)
    yield from at_full_size(inputs)
    yield from between_sizes(inputs)
    yield from at_half_size(inputs)


def between_layers(i: Inputs) -> Iterator[Case]:
    yield Case(
        "enlarge",
        (16, 16),
        200,
        {"x": i.small},
        lambda x: maps.enlarge(x, FULL),
        lambda x: larger(x, FULL),
        i.large.numel(),
    )
    yield Case(
        "enlarge_adjoint",
        (16, 16),
        200,
        {"g": i.large},
        lambda g: maps.enlarge_adjoint(g, HALF),
        lambda g: smaller(g, HALF),
        i.small.numel(),
    )
    yield Case(
        "activation_gradient",
        (16, 16),
        200,
        {"g": i.map(16, 200)},
        lambda g: maps.activation_gradient(g, i.signs, negative_slope=SLOPE),
        lambda g: torch.ops.aten.leaky_relu_backward(g, like(i.large, g), SLOPE, True),
        i.large.numel(),
    )


def first_and_last_layer(i: Inputs) -> Iterator[Case]:
    yield Case(
        "convolve, activate",
        (1, 16),
        200,
        {"x": i.image, "w": i.kernel(16, 1), "b": i.bias},
        lambda x, w, b: convolved(x, w, bias=b, activate=True),
        lambda x, w, b: act(F.conv2d(x, w, b, padding=1)),
        i.large.numel(),
    )
    yield Case(
        "signs, convolve",
        (16, 1),
        200,
        {"g": i.large, "w": i.kernel(1, 16)},
        lambda g, w: convolved(g, w, signs=i.signs),
        lambda g, w: F.conv2d(g * like(i.factors, g), w, padding=1),
        i.image.numel(),
    )


def at_full_size(i: Inputs) -> Iterator[Case]:
    yield Case(
        "convolve",
        (16, 16),
        200,
        {"x": i.large, "w": i.kernel_16},
        lambda x, w: convolved(x, w),
        lambda x, w: F.conv2d(x, w, padding=1),
        i.large.numel(),
    )
    yield Case(
        "signs, convolve",
        (16, 16),
        200,
        {"g": i.large, "w": i.kernel_16},
        lambda g, w: convolved(g, w, signs=i.signs),
        lambda g, w: F.conv2d(g * like(i.factors, g), w, padding=1),
        i.large.numel(),
    )


def between_sizes(i: Inputs) -> Iterator[Case]:
    yield Case(
        "enlarge, convolve, add enlarged, activate",
        (16, 16),
        200,
        {"x": i.small, "w": i.kernel_16, "b": i.bias, "s": i.map(16, 99)},
        lambda x, w, b, s: convolved(x, w, bias=b, skip=s, size=FULL, activate=True),
        lambda x, w, b, s: act(F.conv2d(larger(x, FULL), w, b, padding=1) + larger(s, FULL)),
        i.large.numel(),
    )
    yield Case(
        "convolve by twos, add, activate",
        (16, 16),
        200,
        {"x": i.large, "w": i.kernel_16, "b": i.bias, "s": i.small},
        lambda x, w, b, s: convolved(x, w, bias=b, skip=s, stride=2, activate=True),
        lambda x, w, b, s: act(F.conv2d(x, w, b, stride=2) + s),
        i.small.numel(),
    )
    yield Case(
        "convolve_down_adjoint",
        (16, 16),
        200,
        {"g": i.small, "w": i.kernel_16},
        lambda g, w: maps.convolve_down_adjoint(g, w, FULL),
        lambda g, w: strided_gradient(g, w, like(i.large, g)),
        i.large.numel(),
    )


def at_half_size(i: Inputs) -> Iterator[Case]:
    yield Case(
        "convolve, activate",
        (16, 32),
        99,
        {"x": i.small, "w": i.kernel(32, 16)},
        lambda x, w: convolved(x, w, activate=True),
        lambda x, w: act(F.conv2d(x, w, padding=1)),
        2 * i.small.numel(),
    )
    wide, narrow = i.map(32, 99), i.kernel(16, 32)
    signs, factors = signs_of(wide)
    yield Case(
        "convolve, activate",
        (32, 16),
        99,
        {"x": wide, "w": narrow},
        lambda x, w: convolved(x, w, activate=True),
        lambda x, w: act(F.conv2d(x, w, padding=1)),
        i.small.numel(),
    )
    yield Case(
        "signs, convolve",
        (32, 16),
        99,
        {"g": wide, "w": narrow},
        lambda g, w: convolved(g, w, signs=signs),
        lambda g, w: F.conv2d(g * like(factors, g), w, padding=1),
        i.small.numel(),
    )


def measure(case: Case, inputs: Inputs, rounds: int) -> dict[str, Any]:
    few = {name: t if name in "wb" else t[:ERROR_SLICES] for name, t in case.inputs.items()}
    exact = case.torch(**{name: t.double() for name, t in few.items()})
    found = case.call(**case.inputs)[:ERROR_SLICES].double()
    on_cuda = torch.device(inputs.device).type == "cuda"
    times, pixels = (10, 3000 * 40_000) if on_cuda else (1, 32 * 40_000)
    calls = {
        "native": lambda: case.call(**case.inputs),
        "torch": lambda: case.torch(**case.inputs),
        "copy": copies((pixels,), inputs.device, 2),
    }
    calls = {name: repeated(call, inputs.device, times) for name, call in calls.items()}
    timings = {name: t.per(times) for name, t in time_interleaved(calls, inputs.device, rounds).items()}
    bandwidth = 8 * pixels / timings.pop("copy").median / 1e6
    moved = inputs.dtype.itemsize * (case.written + sum(t.numel() for t in case.inputs.values()))
    row = {
        "op": case.name,
        "channels": list(case.channels),
        "size": case.size,
        "dtype": str(inputs.dtype).removeprefix("torch."),
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
    options = parser(__doc__, writes="map_speed_DEVICE.json", device="cuda", quick="few rounds").parse_args()
    facts = started(options)
    on_cuda, rounds = options.device == "cuda", 3 if options.quick else 9
    count, types = (150, [torch.float32, torch.bfloat16]) if on_cuda else (4, [torch.float32])
    rows = []
    with multiplying_in("tf32" if on_cuda else "float32", torch.device(options.device)):
        for dtype in types:
            inputs = Inputs(count, options.device, dtype)
            rows += [measure(case, inputs, rounds) for case in cases(inputs)]
    speedups = [row["ms"]["torch"].median / row["ms"]["native"].median for row in rows]
    print(f"median speedup {statistics.median(speedups):.1f}")
    name = f"map_speed_{options.device}{'_quick' * options.quick}.json"
    write_json(options.out / name, {"environment": facts, "rows": rows})


if __name__ == "__main__":
    main()
