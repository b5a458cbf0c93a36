"""Roofline of the restoration loop on this machine, and percentiles of warm volumes.

    python bench/speed/machine_limits.py [--device cuda] [--precision tf32] [--threads N] [--quick]

The machine's copy bandwidth and matrix rate are measured. The paper's network is counted: for each of its convolutions
the multiplications of a step, forward and for the image's gradient, and the bytes that must at least be read and
written. A convolution takes as long as the slower of the two does at the machine's rates; their sum is the limit of a
step (the roofline), beside which stands the measured step of each solver. Then the share of the TV prox in a step, and
whole volumes with warm caches: median and 99th percentile. Writes ``limits_<device>.json``.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.options import parser, started
from common.paper_network import SHAPE, TV_WEIGHT, paper_vae
from common.results import write_json
from common.timing import copies, synchronize, time_interleaved

import lesioncore as lc
from lesioncore.engine.batches import computing
from lesioncore.engine.gradient import ElboGradient
from lesioncore.engine.precision import multiplying_in
from lesioncore.ops import tv

SLICES = 150


def layers(model: nn.Module, slices: int) -> list[tuple[float, float]]:
    """Operations and bytes of each convolution, for a step of `slices` slices: forward, and the gradient of its input.

    The gradient takes as many operations as the function; it reads what the function wrote and writes what it read.
    """
    found: list[tuple[float, float]] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        weights = module.weight.numel()
        operations = 2.0 * weights * output[0, 0].numel() * slices
        moved = 4.0 * ((inputs[0].numel() + output.numel()) * slices + weights)
        found.append((2 * operations, 2 * moved))

    hooks = [part.register_forward_hook(count) for part in model.modules() if isinstance(part, nn.Conv2d)]
    with torch.no_grad():
        model.elbo(torch.zeros(1, 1, *SHAPE))
    for hook in hooks:
        hook.remove()
    return found


def rates(device: str, quick: bool) -> tuple[float, float]:
    """Bytes per second that a copy reads and writes, and operations per second of a product of large matrices."""
    size = 8192 if device != "cpu" else 2048
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    # A gigabyte in all, far beyond any cache and long beside a launch; on the CPU what a step's volumes take.
    shape, volumes = ((3000, 1, *SHAPE), 2) if device != "cpu" else ((32, 1, *SHAPE), 5)
    calls = {"copy": copies(shape, device, volumes), "product": lambda: a @ b}
    times = time_interleaved(calls, device, 5 if quick else 20)
    moved = 8 * math.prod(shape)
    return moved / times["copy"].median * 1e3, 2 * size**3 / times["product"].median * 1e3


def loops(model: lc.VAE, device: str, slices: int) -> dict[str, Callable[[], object]]:
    """A step of the paper's solver and of the prox solver, and the prox alone."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(slices, 1, *SHAPE, generator=generator).to(device)
    mask = torch.ones_like(y, dtype=torch.bool)
    x, out, d = y.clone(), torch.empty_like(y), torch.empty_like(y)
    size, weight, dual = y.new_tensor([5e-3]), y.new_tensor([TV_WEIGHT]), tv.dual_like(y)
    engine, held = ElboGradient(model), ElboGradient(model, fix_posterior=True)

    def prox() -> Tensor:
        return tv.tv_prox_(d, mask, weight, dual, out=out, iterations=30)

    def paper() -> Tensor:
        return tv.restore_step_(x, y, engine(x)[1], mask, size, weight, out=out, clip=50.0)

    def with_prox(gradient: ElboGradient) -> Callable[[], object]:
        def step() -> Tensor:
            torch.sub(y - x, gradient(x)[1], alpha=0.5, out=d)
            return prox()

        return step

    return {"paper": paper, "prox": with_prox(engine), "em": with_prox(held), "tv_prox_": prox}


def warm(model: lc.VAE, device: str, config: lc.RestoreConfig, count: int) -> dict[str, Any]:
    """Seconds of whole volumes, array to array, after two that are not counted."""
    values = torch.randn(SLICES, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(values.shape, dtype=torch.bool)
    seconds = []
    for _ in range(count + 2):
        synchronize(device)
        start = time.perf_counter()
        result = lc.restore(values, model, mask=mask, config=config, device=device)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    ordered = sorted(seconds[2:])
    found = {
        "solver": config.solver_name,
        "steps": config.decided_solver.steps,
        "backend": result.record.backend,
        "volumes": count,
        "median": round(ordered[len(ordered) // 2], 4),
        "p99": round(ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)], 4),
    }
    print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    return found


def main() -> None:
    arguments = parser(
        __doc__,
        writes="limits_DEVICE.json",
        device="cpu",
        threads=torch.get_num_threads(),
        quick="few rounds and volumes",
    )
    arguments.add_argument("--precision", choices=["float32", "tf32"], default="float32", help="of the network")
    options = arguments.parse_args()
    facts = started(options)
    device, on_cpu = torch.device(options.device), options.device == "cpu"
    slices = 8 if on_cpu else SLICES
    model = paper_vae()
    counted = layers(model, slices)
    model.to(device)
    with computing(device), multiplying_in(options.precision, device):
        bandwidth, products = rates(options.device, options.quick)
        times = time_interleaved(loops(model, options.device, slices), options.device, 5 if options.quick else 15)
    limit = 1e3 * sum(max(operations / products, moved / bandwidth) for operations, moved in counted)
    found = {
        "environment": facts,
        "precision": options.precision,
        "slices": slices,
        "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "tflops": round(products / 1e12, 3),
        "gflop_per_slice": round(sum(operations for operations, _ in counted) / slices / 1e9, 3),
        "gb_per_slice": round(sum(moved for _, moved in counted) / slices / 1e9, 4),
        "limit_ms": round(limit, 3),
        "ms": times,
        "share_of_limit": round(limit / times["paper"].median, 3),
        "share_of_prox": {name: round(times["tv_prox_"].median / times[name].median, 3) for name in ("prox", "em")},
    }
    for name, timing in times.items():
        print(f"{name:9} {timing} ms", flush=True)
    print(f"limit {limit:.2f} ms, {100 * found['share_of_limit']:.0f} % of it reached; prox {found['share_of_prox']}")
    common: dict[str, Any] = {"tv_weight": TV_WEIGHT, "normalized": True, "precision": options.precision}
    configs = [(lc.RestoreConfig(solver="em", **common), (3, 5) if on_cpu else (10, 100))]
    if not on_cpu:  # five hundred steps take half an hour on a CPU
        configs.append((lc.RestoreConfig(solver="paper", **common), (1, 5)))
    found["volumes"] = [warm(model, options.device, config, counts[not options.quick]) for config, counts in configs]
    path = options.out / f"limits_{options.device}{'_quick' * options.quick}.json"
    write_json(path, found)


if __name__ == "__main__":
    main()
