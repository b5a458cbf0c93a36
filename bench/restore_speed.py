"""Speed of the restoration loop against PyTorch ports of the method, and of whole volumes.

    python bench/restore_speed.py [--device cuda] [--threads N] [--quick]

A step of the paper's solver (gradient of the ELBO, subgradient of TV, clipped update) at the paper's full size, all in
float32, on CUDA in tf32 as well, interleaved in one process, in batches of the same size:
  backward      as public ports do it: one loss, `loss.backward()`, the gradients of the weights with it
  grad          the same network and loss, `torch.autograd.grad` for the image alone
  folded        grad with batch normalisation folded and channels last
  compiled      torch.compile of folded, on CUDA with graphs; not with --quick
  lesioncore    the engine and the native step; also in bfloat16 where the device has it
and a step of the em solver (a forward pass and the TV prox) against the same in eager torch on the plain network. Each
port's step is checked against float64; the norm of the difference, in the mask, is over that of the step (paper) or of
the reconstruction (em). Then whole volumes through `lesioncore.restore` with the default solver, each in a process of
its own, with its peak memory; and a folder of scans through the command `lesioncore restore`, files to files, with one
and with the default number of workers. Writes ``restore_speed_<device>.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from common.options import parser, started
from common.paper_network import SHAPE, TV_WEIGHT, paper_vae
from common.results import write_json
from common.timing import peak_gb, time_interleaved
from common.torch_tv import SLICED, prox_iteration, torch_prox, torch_value
from torch import Tensor

import lesioncore as lc
from lesioncore.engine.batches import batch_size_for
from lesioncore.engine.gradient import ElboGradient
from lesioncore.engine.precision import multiplying_in
from lesioncore.models.networks import fold_batch_norms
from lesioncore.ops import tv

STEP_SIZE, CLIP = 5e-3, 50.0
VOLUMES = {"paper's VAE": (150, *SHAPE), "embedded prior": None}
PARTS = ["steps", "steps_tf32", "volumes", "folder"]
Step = Callable[[Tensor], Tensor]


def folded(model: lc.VAE) -> lc.VAE:
    copy = deepcopy(model).requires_grad_(False)
    fold_batch_norms(copy)
    return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def ported_step(elbo: Callable[[Tensor], Tensor], y: Tensor, mask: Tensor, batch: int, parameters: Any = None) -> Step:
    """The paper's step with TV by autograd, a batch at a time; with `parameters` their gradients are made as well."""

    def step(x: Tensor) -> Tensor:
        pieces = []
        for part, seen, brain in zip(x.split(batch), y.split(batch), mask.split(batch), strict=True):
            leaf = part.detach().requires_grad_()
            d = leaf - seen
            tv = d.diff(dim=-1).abs().sum((1, 2, 3)) + d.diff(dim=-2).abs().sum((1, 2, 3))
            objective = (elbo(leaf) - TV_WEIGHT * tv).sum()
            if parameters is None:
                (gradient,) = torch.autograd.grad(objective, leaf)
            else:
                for parameter in parameters:
                    parameter.grad = None
                objective.backward()
                gradient = leaf.grad
            pieces.append(part + STEP_SIZE * brain * gradient.clamp(-CLIP, CLIP))
        return torch.cat(pieces)

    return step


def own_step(model: lc.VAE, y: Tensor, mask: Tensor, batch: int, dtype: torch.dtype = torch.float32) -> Step:
    engine = ElboGradient(model, batch_size=batch, dtype=dtype)
    size, weight, out = y.new_tensor([STEP_SIZE]), y.new_tensor([TV_WEIGHT]), torch.empty_like(y)

    def step(x: Tensor) -> Tensor:
        _, gradient = engine(x)
        return tv.restore_step_(x, y, gradient, mask, size, weight, out=out, clip=CLIP)

    return step


def ported_em_step(model: lc.VAE, y: Tensor, mask: Tensor, batch: int) -> Step:
    """Projection, TV prox, objective: in eager torch."""
    weight = y.new_full((len(y), 1, 1, 1), 0.5 * TV_WEIGHT)

    def iteration(*arguments: Any) -> Any:
        return prox_iteration(*arguments, isotropic=False, form=SLICED)

    @torch.no_grad()
    def step(x: Tensor) -> Tensor:
        projected = torch.cat([model.reconstruct(part) for part in x.split(batch)])
        torch_value(x, y, isotropic=False, form=SLICED)
        return y - torch_prox(y - projected, mask, weight, iteration)

    return step


def own_em_step(model: lc.VAE, y: Tensor, mask: Tensor, batch: int, dtype: torch.dtype = torch.float32) -> Step:
    engine = ElboGradient(model, batch_size=batch, fix_posterior=True, dtype=dtype)
    weight, out = y.new_full((1,), 0.5 * TV_WEIGHT), torch.empty_like(y)

    def step(x: Tensor) -> Tensor:
        _, gradient = engine(x)
        tv.tv_value(x, y)
        d = (y - x) - 0.5 * gradient
        return y - tv.tv_prox_(d, mask, weight, tv.dual_like(y), out=out, iterations=30)

    return step


def compiled(build: Callable[[Any], Step], model: lc.VAE, x: Tensor) -> Step | None:
    mode = "reduce-overhead" if x.device.type == "cuda" else "default"
    step = build(torch.compile(model.elbo, mode=mode))
    try:
        step(x)
    except Exception as error:  # every backend fails in its own way; the benchmark goes on without it
        warnings.warn(f"torch.compile does not work here: {str(error).splitlines()[0]}", stacklevel=2)
        return None
    return step


def steps(device: str, quick: bool) -> dict[str, Any]:
    model = paper_vae().to(device)
    count = 8 if device == "cpu" else 150
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(count, 1, *SHAPE, generator=generator).to(device)
    x = y + 0.1 * torch.randn(y.shape, generator=generator).to(device)
    mask = (torch.rand(y.shape, generator=generator) < 0.6).to(device)
    batch = min(count, batch_size_for(y, y.device))
    fast, slow = folded(model), deepcopy(model).double().requires_grad_(False)
    paper: dict[str, Step | None] = {
        "backward": ported_step(model.elbo, y, mask, batch, list(model.parameters())),
        "grad": ported_step(model.elbo, y, mask, batch),
        "folded": ported_step(fast.elbo, y, mask, batch),
        "compiled": None if quick else compiled(lambda elbo: ported_step(elbo, y, mask, batch), fast, x),
        "lesioncore": own_step(model, y, mask, batch),
    }
    em: dict[str, Step | None] = {
        "eager": ported_em_step(model, y, mask, batch),
        "lesioncore": own_em_step(model, y, mask, batch),
    }
    if device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        paper["lesioncore, bfloat16"] = own_step(model, y, mask, batch, torch.bfloat16)
        em["lesioncore, bfloat16"] = own_em_step(model, y, mask, batch, torch.bfloat16)
    few = slice(0, 2)
    exact = {
        "paper": ported_step(slow.elbo, y[few].double(), mask[few], 2)(x[few].double()),
        "em": ported_em_step(slow, y[few].double(), mask[few], 2)(x[few].double()),
    }
    found: dict[str, Any] = {"slices": count, "batch_size": batch}
    for solver, ports in {"paper": paper, "em": em}.items():
        working = {name: step for name, step in ports.items() if step is not None}
        inside = mask[few]
        # What the network makes: all of paper's step but for TV, and what em takes from the residual.
        by_network = exact[solver] - x[few] if solver == "paper" else slow.reconstruct(x[few].double())
        errors = {
            name: float((step(x)[few] - exact[solver])[inside].norm() / by_network[inside].norm())
            for name, step in working.items()
        }
        calls = {name: lambda step=step: step(x) for name, step in working.items()}
        times = time_interleaved(calls, device, 5 if quick else 15)
        found[solver] = {
            name: {"ms_per_slice": times[name].per(count), "relative_error": errors[name]} for name in working
        }
        own = times["lesioncore"].median
        for name, timing in times.items():
            print(
                f"{solver:6} {name:10} {timing.per(count)} ms a slice  {timing.median / own:5.2f}x"
                f"  error {errors[name]:.1e}",
                flush=True,
            )
    return found


# ---- Whole volumes: in a process of their own, for the peak of its memory -------------------------------------------


def volume(name: str, device: str, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--volume", name, "--device", device, "--threads", str(threads)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"{name}: {found['seconds']['median']:.1f} s, {found['peak_gb']:.2f} GB", flush=True)
    return found


def restore_volume(name: str, device: str) -> dict[str, Any]:
    """Seconds of the whole call, from array to restored array, and the peak memory of the process or the device."""
    shape = VOLUMES[name]
    if shape is None:
        from lesioncore.phantom import simulate

        prior: Any = lc.load_prior("phantom-t2")
        subject = simulate(0, contrast="T2w", voxel_size=1.0)
        values, options = subject.image, {"mask": subject.brain_mask, "affine": subject.affine}
        config = lc.RestoreConfig()
    else:
        prior = paper_vae()
        values = torch.randn(shape, generator=torch.Generator().manual_seed(1))[:, None]
        options = {"mask": torch.ones(values.shape, dtype=torch.bool)}
        config = lc.RestoreConfig(tv_weight=TV_WEIGHT, normalized=True)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = lc.restore(values, prior, config=config, device=device, **options)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {
        "shape": list(result.scan.brain().shape) if shape is None else list(shape),
        "solver": result.record.config.solver_name,
        "seconds": {"median": sorted(seconds)[1], "all": [round(one, 3) for one in seconds]},
        "peak_gb": round(peak_gb(device), 3),
    }


# ---- Many volumes ---------------------------------------------------------------------------------------------------


def folder(device: str, threads: int, scans: int) -> dict[str, Any]:
    """Volumes per hour, files to files, of simulated scans of 1 mm with the embedded prior: median of three runs."""
    hours: dict[str, list[float]] = {"one worker": [], "default workers": []}
    with tempfile.TemporaryDirectory() as work:
        environ = {**os.environ, "OMP_NUM_THREADS": str(threads)}

        def lesioncore(command: str) -> None:
            words = [sys.executable, "-m", "lesioncore", *command.split()]
            subprocess.run(words, check=True, capture_output=True, cwd=work, env=environ)

        lesioncore(f"phantom in --subjects {scans} --contrast T2w --lesion glioma")
        for _ in range(3):
            for name, found in hours.items():
                start = time.perf_counter()
                lesioncore(
                    f"restore in -o out --prior phantom-t2 --overwrite --device {device}"
                    + " --workers 1" * (name == "one worker")
                )
                found.append((time.perf_counter() - start) / 3600)
    rates = {name: round(scans / sorted(found)[1], 1) for name, found in hours.items()}
    print(f"{scans} scans, volumes per hour: {rates}", flush=True)
    return {"scans": scans, "volumes_per_hour": rates}


def main() -> None:
    arguments = parser(
        __doc__,
        writes="restore_speed_DEVICE.json",
        device="cpu",
        threads=torch.get_num_threads(),
        quick="no torch.compile, few rounds, the embedded prior alone",
    )
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; all when absent")
    arguments.add_argument("--volume", choices=list(VOLUMES), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.volume:
        torch.set_num_threads(options.threads)
        print(json.dumps(restore_volume(options.volume, options.device)))
        return
    facts = started(options)
    found: dict[str, Any] = {"environment": facts}
    for name, precision in {"steps": "float32", "steps_tf32": "tf32"}.items():
        if name in options.parts and (precision == "float32" or options.device != "cpu"):
            with multiplying_in(precision, torch.device(options.device)):
                found[name] = steps(options.device, options.quick)
    names = ["embedded prior"] if options.quick else list(VOLUMES)
    if "volumes" in options.parts:
        found["volumes"] = {name: volume(name, options.device, options.threads) for name in names}
    if "folder" in options.parts:
        found["folder"] = folder(options.device, options.threads, 2 if options.quick else 8)
    path = options.out / f"restore_speed_{options.device}{'_quick' * options.quick}.json"
    write_json(path, found)


if __name__ == "__main__":
    main()
