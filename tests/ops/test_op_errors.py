"""Bad arguments of the native operators: each error names the argument, what came and what was expected."""

from __future__ import annotations

import pytest
import torch

from lesioncore.ops import tv


def call(op, changes, device="cpu", dtype=torch.float32):
    """Call an operator with good arguments, except for `changes` (a value, or a function of the good arguments)."""
    shape = (2, 3, 4, 5)
    x = torch.zeros(shape, dtype=dtype, device=device)
    good = {
        "tv_gradient": {"x": x, "y": x + 1, "out": x + 2},
        "tv_value": {"x": x, "y": x + 1, "out": x.new_empty(2)},
        "restore_step_": {
            "x": x,
            "y": x + 1,
            "elbo_gradient": x + 2,
            "mask": x == 0,
            "step_size": x.new_ones(1),
            "tv_weight": x.new_ones(2),
            "out": x + 3,
            "clip": 1.0,
        },
        "tv_prox_": {
            "v": x,
            "mask": x == 0,
            "weight": x.new_ones(2),
            "dual": tv.dual_like(x),
            "out": x + 1,
            "iterations": 2,
        },
    }[op]
    arguments = dict(good)
    for name, value in changes.items():
        arguments[name] = value(good) if callable(value) else value
    return getattr(tv, op)(**arguments)


BAD_ARGUMENTS = [
    ("tv_gradient", {"x": torch.zeros(4, 5)}, "argument 'x' has shape [4, 5], expected 4 dimensions"),
    ("tv_gradient", {"x": lambda a: a["x"].half()}, "argument 'x' has dtype float16 on cpu, expected float32"),
    ("tv_gradient", {"x": lambda a: a["x"].long()}, "argument 'x' has dtype Long on cpu, expected float32"),
    ("tv_gradient", {"x": lambda a: a["x"].transpose(2, 3)}, "argument 'x' is not contiguous"),
    ("tv_gradient", {"y": lambda a: a["y"][:1]}, "argument 'y' has shape [1, 3, 4, 5], expected [2, 3, 4, 5]"),
    ("tv_gradient", {"y": lambda a: a["y"].double()}, "argument 'y' has dtype float64, expected float32"),
    ("tv_gradient", {"y": lambda a: a["x"].expand(2, 3, 4, 5).mT.contiguous().mT}, "argument 'y' is not contiguous"),
    ("tv_gradient", {"out": lambda a: a["x"]}, "argument 'out' shares memory with 'x'"),
    ("tv_gradient", {"out": lambda a: a["y"]}, "argument 'out' shares memory with 'y'"),
    ("tv_gradient", {"out": lambda a: a["x"][:1]}, "argument 'out' has shape [1, 3, 4, 5]"),
    ("tv_gradient", {"depth_weight": -1.0}, "argument 'depth_weight' is -1, expected a finite number >= 0"),
    ("tv_gradient", {"depth_weight": float("nan")}, "argument 'depth_weight' is nan"),
    ("tv_gradient", {"isotropic": True, "eps": 0.0}, "argument 'eps' is 0, expected more than"),
    ("tv_gradient", {"isotropic": True, "eps": 1e-30}, "argument 'eps' is 1e-30, expected more than"),
    ("tv_gradient", {"eps": float("inf")}, "argument 'eps' is inf, expected a finite number"),
    ("tv_value", {"out": lambda a: a["x"].new_empty(3)}, "argument 'out' has shape [3], expected [2]"),
    ("tv_value", {"out": lambda a: a["x"].flatten()[:2]}, "argument 'out' shares memory with 'x'"),
    ("tv_value", {"out": lambda a: a["out"].double()}, "argument 'out' has dtype float64, expected float32"),
    ("tv_value", {"eps": -1.0}, "argument 'eps' is -1, expected a finite number >= 0"),
    ("restore_step_", {"mask": lambda a: a["x"]}, "argument 'mask' has dtype float32, expected bool"),
    ("restore_step_", {"mask": lambda a: a["mask"][:1]}, "argument 'mask' has shape [1, 3, 4, 5]"),
    ("restore_step_", {"mask": lambda a: a["mask"].mT.contiguous().mT}, "argument 'mask' is not contiguous"),
    ("restore_step_", {"elbo_gradient": lambda a: a["x"].double()}, "argument 'elbo_gradient' has dtype float64"),
    ("restore_step_", {"step_size": lambda a: a["x"].new_ones(2)}, "'step_size' has shape [2], expected one element"),
    ("restore_step_", {"step_size": torch.ones(1, dtype=torch.float64)}, "argument 'step_size' has dtype float64"),
    ("restore_step_", {"tv_weight": lambda a: a["x"].new_ones(3)}, "argument 'tv_weight' has shape [3], expected [2]"),
    ("restore_step_", {"clip": float("nan")}, "argument 'clip' is nan, expected a number >= 0"),
    ("restore_step_", {"clip": -1.0}, "argument 'clip' is -1, expected a number >= 0"),
    ("restore_step_", {"depth_weight": float("inf")}, "argument 'depth_weight' is inf"),
    ("restore_step_", {"isotropic": True, "eps": 0.0}, "argument 'eps' is 0"),
    ("restore_step_", {"out": lambda a: a["x"]}, "argument 'out' shares memory with 'x'"),
    ("restore_step_", {"out": lambda a: a["elbo_gradient"]}, "argument 'out' shares memory with 'elbo_gradient'"),
    ("restore_step_", {"out": None, "y": lambda a: a["x"]}, "argument 'x' shares memory with 'y'"),
    ("restore_step_", {"out": None, "elbo_gradient": lambda a: a["x"]}, "'x' shares memory with 'elbo_gradient'"),
    ("restore_step_", {"out": None, "step_size": lambda a: a["x"].flatten()[:1]}, "'x' shares memory with 'step_size'"),
    ("tv_prox_", {"v": torch.zeros(3)}, "argument 'v' has shape [3], expected 4 dimensions"),
    ("tv_prox_", {"mask": lambda a: a["v"]}, "argument 'mask' has dtype float32, expected bool"),
    ("tv_prox_", {"weight": lambda a: a["v"].new_ones(3)}, "argument 'weight' has shape [3], expected [2]"),
    ("tv_prox_", {"weight": lambda a: -a["weight"]}, "argument 'weight' holds -1 at index 0, expected finite"),
    ("tv_prox_", {"weight": lambda a: a["weight"] * float("nan")}, "argument 'weight' holds nan"),
    ("tv_prox_", {"weight": lambda a: a["weight"] * float("inf")}, "argument 'weight' holds inf"),
    ("tv_prox_", {"depth_weight": 0.5}, "argument 'dual' has shape [2, 2, 3, 4, 5], expected [3, N, D, H, W]"),
    ("tv_prox_", {"dual": lambda a: a["dual"].double()}, "argument 'dual' has dtype float64, expected float32"),
    ("tv_prox_", {"iterations": -1}, "argument 'iterations' is -1, expected an integer >= 0"),
    ("tv_prox_", {"out": lambda a: a["v"]}, "argument 'out' shares memory with 'v'"),
    ("tv_prox_", {"out": lambda a: a["dual"][0]}, "argument 'out' shares memory with 'dual'"),
    ("tv_prox_", {"v": lambda a: a["dual"][1]}, "argument 'dual' shares memory with 'v'"),
]


@pytest.mark.parametrize("op", ["tv_gradient", "tv_value", "restore_step_", "tv_prox_"])
def test_good_arguments_pass(op):
    call(op, {})


@pytest.mark.parametrize(("op", "changes", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(op, changes, message):
    with pytest.raises(RuntimeError) as error:
        call(op, changes)
    assert f"lesioncore::{op}: argument '" in str(error.value)
    assert message in str(error.value)


@pytest.mark.needs_cuda
@pytest.mark.parametrize(
    ("op", "changes", "message"),
    [
        ("tv_gradient", {"y": torch.zeros(2, 3, 4, 5)}, "argument 'y' is on cpu, expected cuda:0, the device of 'x'"),
        ("restore_step_", {"step_size": torch.ones(1)}, "argument 'step_size' is on cpu, expected cuda:0"),
        ("tv_prox_", {"v": lambda a: a["v"].double()}, "argument 'v' has dtype float64 on cuda:0, expected float32"),
    ],
)
def test_bad_arguments_are_named_on_cuda(op, changes, message):
    with pytest.raises(RuntimeError) as error:
        call(op, changes, device="cuda")
    assert message in str(error.value)


@pytest.mark.needs_cuda
def test_prox_on_cuda_shows_a_bad_weight():
    v = torch.zeros(1, 1, 3, 3, device="cuda")
    mask = torch.ones_like(v, dtype=torch.bool)
    out = tv.tv_prox_(v, mask, torch.tensor([-1.0], device="cuda"), tv.dual_like(v))
    assert out.isnan().all()
