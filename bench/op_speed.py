"""Each native operator: its error against the float64 reference, its time against eager torch and torch.compile.

    python bench/op_speed.py [--device cuda] [--threads N] [--quick]

Opponents compute the same in float32: `eager`, differences written out by hand; `autograd`, the gradient by torch's
autograd of TV; `compiled`, torch.compile of `eager`. All run interleaved. The table's bound is the bytes an operator
must move (the step also: five float32 streams) at the copy bandwidth measured in the same run.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _bench import RESULTS, Timing, copies, environment, time_interleaved, write_json
from torch import Tensor

from lesioncore import _ops, reference

SHAPES = [(150, 1, 200, 200), (52, 1, 100, 100)]
EPS, CLIP, ITERATIONS = 1e-3, 50.0, 30
ERROR_SLICES = 8
BYTES = {"tv_gradient": 12, "tv_value": 8, "restore_step_": 17}  # per pixel, float32


# ---- Opponents: 2-D TV per slice, by hand ---------------------------------------------------------------------------


def eager_differences(z: Tensor) -> tuple[Tensor, Tensor]:
    dx, dy = torch.zeros_like(z), torch.zeros_like(z)
    dx[..., :-1] = z[..., 1:] - z[..., :-1]
    dy[..., :-1, :] = z[..., 1:, :] - z[..., :-1, :]
    return dx, dy


def eager_adjoint(fx: Tensor, fy: Tensor) -> Tensor:
    result = -fx - fy
    result[..., 1:] += fx[..., :-1]
    result[..., 1:, :] += fy[..., :-1, :]
    return result


def eager_gradient(x: Tensor, y: Tensor, isotropic: bool) -> Tensor:
    dx, dy = eager_differences(x - y)
    if isotropic:
        inverse = torch.rsqrt(dx * dx + dy * dy + EPS**2)
        return eager_adjoint(dx * inverse, dy * inverse)
    return eager_adjoint(dx.sign(), dy.sign())


def eager_value(x: Tensor, y: Tensor, isotropic: bool) -> Tensor:
    dx, dy = eager_differences(x - y)
    terms = torch.sqrt(dx * dx + dy * dy + EPS**2) if isotropic else dx.abs() + dy.abs()
    return terms.sum(dim=(1, 2, 3), dtype=torch.float64).float()


def autograd_gradient(x: Tensor, y: Tensor, isotropic: bool) -> Tensor:
    x = x.detach().requires_grad_()
    z = x - y
    dx, dy = z[..., 1:] - z[..., :-1], z[..., 1:, :] - z[..., :-1, :]
    if isotropic:
        dx, dy = torch.nn.functional.pad(dx, (0, 1)), torch.nn.functional.pad(dy, (0, 0, 0, 1))
        value = torch.sqrt(dx * dx + dy * dy + EPS**2).sum()
    else:
        value = dx.abs().sum() + dy.abs().sum()
    return torch.autograd.grad(value, x)[0]


def update(
    x: Tensor, gradient_of_tv: Tensor, elbo_gradient: Tensor, mask: Tensor, step_size: Tensor, tv_weight: Tensor
) -> Tensor:
    total = (elbo_gradient - tv_weight.reshape(-1, 1, 1, 1) * gradient_of_tv).clamp(-CLIP, CLIP)
    return x + step_size * mask * total


def eager_step(x: Tensor, y: Tensor, *rest: Tensor, isotropic: bool) -> Tensor:
    return update(x, eager_gradient(x, y, isotropic), *rest)


def autograd_step(x: Tensor, y: Tensor, *rest: Tensor, isotropic: bool) -> Tensor:
    return update(x, autograd_gradient(x, y, isotropic), *rest)


def eager_prox_iteration(
    v: Tensor, mask: Tensor, w: Tensor, px: Tensor, py: Tensor, bx: Tensor, by: Tensor, momentum: float, isotropic: bool
) -> tuple[Tensor, Tensor]:
    qx, qy = px + momentum * (px - bx), py + momentum * (py - by)
    kx, ky = eager_differences(torch.where(mask, v - w * eager_adjoint(qx, qy), 0))
    tx, ty = qx + kx / (8 * w), qy + ky / (8 * w)
    if isotropic:
        norm = torch.sqrt(tx * tx + ty * ty).clamp_min(1)
        return tx / norm, ty / norm
    return tx.clamp(-1, 1), ty.clamp(-1, 1)


def torch_prox(iteration: Callable[..., tuple[Tensor, Tensor]], v: Tensor, mask: Tensor, w: Tensor, isotropic: bool):
    px, py, t, momentum = torch.zeros_like(v), torch.zeros_like(v), 1.0, 0.0
    bx, by = px, py
    for _ in range(ITERATIONS):
        # The momentum travels as a tensor, so that torch.compile does not compile again for each of its values.
        nx, ny = iteration(v, mask, w, px, py, bx, by, torch.tensor(momentum), isotropic)
        bx, by, px, py = px, py, nx, ny
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        momentum, t = (t - 1) / following, following
    return torch.where(mask, v - w * eager_adjoint(px, py), 0)


# ---- Cases ----------------------------------------------------------------------------------------------------------


def compiled_or_none(function: Callable[..., Any], *example: Any, **kwargs: Any) -> Callable[..., Any] | None:
    """torch.compile of a function, tried on an example; None (and the reason on screen) where it does not work."""
    torch._dynamo.reset()
    compiled = torch.compile(function, dynamic=False)
    try:
        compiled(*example, **kwargs)
    except Exception as error:  # every backend fails in its own way; the benchmark goes on without it
        warnings.warn(f"torch.compile does not work here: {str(error).splitlines()[0]}", stacklevel=2)
        return None
    return compiled


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


def native_calls(i: Inputs, isotropic: bool) -> dict[str, Callable[[], Tensor]]:
    tv = {"isotropic": isotropic, "eps": EPS}
    return {
        "tv_gradient": lambda: _ops.tv_gradient(i.x, i.y, out=i.out, **tv),
        "tv_value": lambda: _ops.tv_value(i.x, i.y, **tv),
        "restore_step_": lambda: _ops.restore_step_(i.x, i.y, *i.step, out=i.out, clip=CLIP, **tv),
        "tv_prox_": lambda: _ops.tv_prox_(
            i.x, i.mask, i.prox_weight, _ops.dual_like(i.x), out=i.out, isotropic=isotropic, iterations=ITERATIONS
        ),
    }


def reference_results(i: Inputs, isotropic: bool) -> dict[str, Tensor]:
    """Float64 results on the first slices."""
    cut = [t[:ERROR_SLICES].double() for t in (i.x, i.y, i.gradient)]
    mask, tv = i.mask[:ERROR_SLICES], {"isotropic": isotropic, "eps": EPS}
    weight = i.prox_weight.double()
    return {
        "tv_gradient": reference.tv_gradient(*cut[:2], **tv),
        "tv_value": reference.tv_value(*cut[:2], **tv),
        "restore_step_": reference.restore_step(
            *cut, mask, i.step_size.double(), i.tv_weight.double(), clip=CLIP, **tv
        ),
        "tv_prox_": reference.tv_prox(cut[0], mask, weight, isotropic=isotropic, iterations=ITERATIONS)[0],
    }


def opponents(op: str, i: Inputs, isotropic: bool, compile_too: bool) -> dict[str, Callable[[], Tensor]]:
    w = i.prox_weight.reshape(-1, 1, 1, 1)
    eager: Callable[..., Any]
    if op == "tv_prox_":
        eager, arguments = eager_prox_iteration, (i.x, i.mask, w, i.x, i.x, i.x, i.x, torch.tensor(0.5), isotropic)
        calls = {"eager": lambda: torch_prox(eager_prox_iteration, i.x, i.mask, w, isotropic)}
    else:
        arguments = (i.x, i.y, *i.step) if op == "restore_step_" else (i.x, i.y)
        functions = {
            "tv_gradient": (eager_gradient, autograd_gradient),
            "tv_value": (eager_value, None),
            "restore_step_": (eager_step, autograd_step),
        }
        eager, by_autograd = (f and partial(f, isotropic=isotropic) for f in functions[op])
        calls = {"eager": lambda: eager(*arguments)}
        if by_autograd is not None:
            calls["autograd"] = lambda: by_autograd(*arguments)
    compiled = compiled_or_none(eager, *arguments) if compile_too else None
    if compiled is not None and op == "tv_prox_":
        calls["compiled"] = lambda: torch_prox(compiled, i.x, i.mask, w, isotropic)
    elif compiled is not None:
        calls["compiled"] = lambda: compiled(*arguments)
    return calls


def measure(shape: tuple[int, int, int, int], device: str, rounds: int, compile_too: bool) -> list[dict[str, Any]]:
    inputs, rows = Inputs(shape, device), []
    pixels = inputs.x.numel()
    for isotropic in (False, True):
        expected = reference_results(inputs, isotropic)
        for op, native in native_calls(inputs, isotropic).items():
            error = (native()[:ERROR_SLICES].double() - expected[op]).abs().max().item()
            calls = {"native": native, **opponents(op, inputs, isotropic, compile_too)}
            if op == "restore_step_":
                tv = {"isotropic": isotropic, "eps": EPS, "clip": CLIP}
                in_place = inputs.x.clone()
                calls["native in place"] = lambda x=in_place, tv=tv: _ops.restore_step_(x, inputs.y, *inputs.step, **tv)
            few = max(3, rounds // 5) if op == "tv_prox_" else rounds
            times = time_interleaved({**calls, "copy": copies(shape, device)}, device, few)
            bandwidth = 8 * pixels / times.pop("copy").median / 1e6
            row: dict[str, Any] = {
                "op": op,
                "shape": list(shape),
                "isotropic": isotropic,
                "max_error": error,
                "max_value": expected[op].abs().max().item(),
                "ms": times,
                "copy_gb_per_s": round(bandwidth, 2),
            }
            if op in BYTES:
                row["fraction_of_own_bound"] = round(BYTES[op] * pixels / bandwidth / 1e6 / times["native"].median, 3)
            if op == "restore_step_":
                five = 20 * pixels / bandwidth / 1e6
                row["fraction_of_five_streams"] = {
                    name: round(five / times[name].median, 3) for name in ("native", "native in place")
                }
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch on the CPU")
    parser.add_argument("--quick", action="store_true", help="small volume, no torch.compile, few rounds")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for op_speed_DEVICE.json")
    arguments = parser.parse_args()
    device = arguments.device
    torch.set_num_threads(arguments.threads)
    facts = environment(device)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    shapes = SHAPES[1:] if arguments.quick else SHAPES
    rounds = 5 if arguments.quick else 15
    rows = [row for shape in shapes for row in measure(shape, device, rounds, not arguments.quick)]
    path = arguments.out / f"op_speed_{torch.device(device).type}{'_quick' * arguments.quick}.json"
    write_json(path, {"environment": facts, "iterations_of_prox": ITERATIONS, "rows": rows})
    print(f"written to {path}")


if __name__ == "__main__":
    main()
