"""Time and error of the native TV operators, against eager PyTorch and torch.compile.

    python bench/speed/op_speed.py [--device cuda] [--threads N] [--quick]

The error is against the float64 reference. Opponents compute the same in float32: `eager`, differences written out by
hand, in the faster of two ways; `autograd`, the gradient by torch's autograd of TV; `compiled`, torch.compile of
either, the faster. All run interleaved. The table's bound is the bytes an operator must move (the step also: five
float32 streams) at the copy bandwidth (its better quartile) of the same run.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.options import parser, started
from common.results import write_json
from common.timing import Timing, copies, repeated, time_interleaved
from common.torch_tv import (
    CLIP,
    EPS,
    ITERATIONS,
    PADDED,
    SLICED,
    autograd_gradient,
    autograd_step,
    prox_iteration,
    torch_gradient,
    torch_prox,
    torch_step,
    torch_value,
)

from lesioncore.ops import reference, tv

SHAPES = [(150, 1, 200, 200), (52, 1, 100, 100)]
ERROR_SLICES = 8
BYTES = {"tv_gradient": 12, "tv_value": 8, "restore_step_": 17}  # per pixel, float32


Call = Callable[[], Tensor]
Build = Callable[[Callable[..., Any]], Call]  # a function's calls on given arguments


def fastest(calls: list[Call], device: str) -> Call:
    times = time_interleaved({str(k): call for k, call in enumerate(calls)}, device, 2)
    return calls[min(range(len(calls)), key=lambda k: times[str(k)].median)]


def compiled_calls(build: Build, *functions: Callable[..., Any]) -> list[Call]:
    """`build(torch.compile(function))` for each function; empty (and the reason on screen) where that does not work."""
    torch._dynamo.reset()
    calls = [build(torch.compile(function, dynamic=False)) for function in functions]
    try:
        for call in calls:
            call()
    except Exception as error:  # every backend fails in its own way; the benchmark goes on without it
        warnings.warn(f"torch.compile does not work here: {str(error).splitlines()[0]}", stacklevel=2)
        return []
    return calls


class Inputs:
    """Random z-score volumes of one shape, and the arguments of the operators."""

    def __init__(self, shape: tuple[int, int, int, int], device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x, self.y, self.gradient = (torch.randn(shape, generator=generator).to(device) for _ in range(3))
        self.mask = (torch.rand(shape, generator=generator) < 0.6).to(device)
        self.step_size = torch.tensor([5e-3], device=device)
        self.tv_weight = torch.tensor([3.0], device=device)
        self.prox_weight = torch.tensor([0.75], device=device)
        self.out = torch.empty_like(self.x)
        self.step = (self.gradient, self.mask, self.step_size, self.tv_weight)


def native_calls(i: Inputs, isotropic: bool) -> dict[str, Call]:
    def step(x: Tensor, out: Tensor | None) -> Tensor:
        return tv.restore_step_(x, i.y, *i.step, out=out, clip=CLIP, isotropic=isotropic, eps=EPS)

    in_place = i.x.clone()
    return {
        "tv_gradient": lambda: tv.tv_gradient(i.x, i.y, out=i.out, isotropic=isotropic, eps=EPS),
        "tv_value": lambda: tv.tv_value(i.x, i.y, isotropic=isotropic, eps=EPS),
        "restore_step_": lambda: step(i.x, i.out),
        "restore_step_ in place": lambda: step(in_place, None),
        "tv_prox_": lambda: tv.tv_prox_(
            i.x, i.mask, i.prox_weight, tv.dual_like(i.x), out=i.out, isotropic=isotropic, iterations=ITERATIONS
        ),
    }


def reference_results(i: Inputs, isotropic: bool) -> dict[str, Tensor]:
    """Float64 results on the first slices."""
    x, y, gradient = (t[:ERROR_SLICES].double() for t in (i.x, i.y, i.gradient))
    mask, step_size, tv_weight = i.mask[:ERROR_SLICES], i.step_size.double(), i.tv_weight.double()
    step = reference.restore_step(x, y, gradient, mask, step_size, tv_weight, clip=CLIP, isotropic=isotropic, eps=EPS)
    prox, _ = reference.tv_prox(x, mask, i.prox_weight.double(), isotropic=isotropic, iterations=ITERATIONS)
    return {
        "tv_gradient": reference.tv_gradient(x, y, isotropic=isotropic, eps=EPS),
        "tv_value": reference.tv_value(x, y, isotropic=isotropic, eps=EPS),
        "restore_step_": step,
        "tv_prox_": prox,
    }


def opponents(op: str, i: Inputs, isotropic: bool, compile_too: bool) -> dict[str, Call]:
    w = i.prox_weight.reshape(-1, 1, 1, 1)
    cases: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None, Build]] = {
        "tv_gradient": (torch_gradient, autograd_gradient, lambda f: lambda: f(i.x, i.y)),
        "tv_value": (torch_value, None, lambda f: lambda: f(i.x, i.y)),
        "restore_step_": (torch_step, autograd_step, lambda f: lambda: f(i.x, i.y, *i.step)),
        "tv_prox_": (prox_iteration, None, lambda f: lambda: torch_prox(i.x, i.mask, w, f)),
    }
    function, by_autograd, build = cases[op]
    forms = [partial(function, isotropic=isotropic, form=form) for form in (SLICED, PADDED)]
    device = str(i.x.device)
    calls = {"eager": fastest([build(form) for form in forms], device)}
    if by_autograd is not None:
        calls["autograd"] = build(partial(by_autograd, isotropic=isotropic))
    compiled = compiled_calls(build, *forms) if compile_too else []
    if compiled:
        calls["compiled"] = fastest(compiled, device)
    return calls


def measure(shape: tuple[int, int, int, int], device: str, rounds: int, compile_too: bool) -> list[dict[str, Any]]:
    inputs, rows = Inputs(shape, device), []
    pixels = inputs.x.numel()
    for isotropic in (False, True):
        expected = reference_results(inputs, isotropic)
        natives = native_calls(inputs, isotropic)
        for op, reference_result in expected.items():
            error = (natives[op]()[:ERROR_SLICES].double() - reference_result).abs().max().item()
            ours = {"native": natives[op]}
            if op == "restore_step_":
                ours["native in place"] = natives["restore_step_ in place"]
            few = max(3, rounds // 5) if op == "tv_prox_" else rounds
            times = time_interleaved({**ours, **opponents(op, inputs, isotropic, compile_too)}, device, few)
            # The bound without the opponents between: their temporaries would empty the caches for one of the two.
            # On CUDA from graphs, and a copy that no cache holds.
            on_cuda = torch.device(device).type == "cuda"
            copied, repeats = ((3000, 1, 200, 200), 10) if on_cuda else (shape, 1)
            apart = {**ours, "copy": copies(copied, device, 2 if on_cuda else 5)}
            apart = {name: repeated(call, device, repeats) for name, call in apart.items()}
            alone = {name: t.per(repeats) for name, t in time_interleaved(apart, device, few).items()}
            bandwidth = 8 * math.prod(copied) / alone["copy"].low / 1e6
            row: dict[str, Any] = {
                "op": op,
                "shape": list(shape),
                "isotropic": isotropic,
                "max_error": error,
                "max_value": reference_result.abs().max().item(),
                "ms": times,
                "copy_gb_per_s": round(bandwidth, 2),
            }
            if op in BYTES:
                row["fraction_of_own_bound"] = round(BYTES[op] * pixels / bandwidth / 1e6 / alone["native"].median, 3)
            if op == "restore_step_":
                five = 20 * pixels / bandwidth / 1e6
                row["fraction_of_five_streams"] = {name: round(five / alone[name].median, 3) for name in ours}
            rows.append(row)
            print(format_row(row), flush=True)
    return rows


def format_row(row: dict[str, Any]) -> str:
    times: dict[str, Timing] = row["ms"]
    n, _, h, w = row["shape"]
    native = times["native"]
    others = "  ".join(
        f"{k} {t.median:.2f} ({t.median / native.median:.1f}x)" for k, t in times.items() if k != "native"
    )
    five = row.get("fraction_of_five_streams")
    bound = f"  bound {row['fraction_of_own_bound']:.2f}" if "fraction_of_own_bound" in row else ""
    bound += f" five streams {five['native']:.2f}, in place {five['native in place']:.2f}" if five else ""
    case = f"{n}x{h}x{w} {'iso  ' if row['isotropic'] else 'aniso'} {row['op']:13}"
    error = f"error {row['max_error']:.1e} of {row['max_value']:.3g}"
    return f"{case} {error}  native {native} ms  {others}{bound}"


def main() -> None:
    options = parser(
        __doc__,
        writes="op_speed_DEVICE.json",
        device="cpu",
        threads=torch.get_num_threads(),
        quick="small volume, no torch.compile, few rounds",
    ).parse_args()
    facts = started(options)
    shapes = SHAPES[1:] if options.quick else SHAPES
    rounds = 5 if options.quick else 15
    rows = [row for shape in shapes for row in measure(shape, options.device, rounds, not options.quick)]
    path = options.out / f"op_speed_{options.device}{'_quick' * options.quick}.json"
    write_json(path, {"environment": facts, "iterations_of_prox": ITERATIONS, "rows": rows})


if __name__ == "__main__":
    main()
