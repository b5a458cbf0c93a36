"""Bad arguments of the native operators on feature maps: each error names the argument, what came, what is expected."""

from __future__ import annotations

import pytest
import torch
from support.emulated import operators


def call(op, changes, device="cpu"):
    """Call an operator with good arguments, except for `changes` (a value, or a function of the good arguments)."""
    x = torch.zeros(2, 4, 5, 16, device=device)
    signs, small = torch.zeros(2, 4, 5, 2, dtype=torch.uint8, device=device), x.new_zeros(2, 2, 2, 16)
    good = {
        "activate_": {"x": x, "bias": x.new_zeros(16), "skip": small, "negative_slope": 0.2, "signs": signs},
        "activation_gradient": {"gradient": x, "signs": signs, "negative_slope": 0.2, "out": x + 1},
        "enlarge": {"x": small, "out": x},
        "enlarge_adjoint": {
            "gradient": x,
            "signs": signs,
            "out_signs": x.new_zeros((2, 2, 2, 2), dtype=torch.uint8),
            "negative_slope": 0.2,
            "out": small,
        },
        "convolve": {
            "x": small,
            "signs": None,
            "weight": x.new_zeros(16, 3, 3, 16),
            "bias": x.new_zeros(16),
            "skip": small + 1,
            "stride": 1,
            "negative_slope": 0.2,
            "out": x,
            "out_signs": signs,
        },
        "convolve_down_adjoint": {
            "gradient": small,
            "weight": x.new_zeros(16, 3, 3, 16),
            "out": x.new_zeros(2, 5, 6, 16),
        },
    }[op]
    arguments = {**good, **{name: value(good) if callable(value) else value for name, value in changes.items()}}
    getattr(torch.ops.lesioncore, op)(*arguments.values())


BAD_ARGUMENTS = [
    ("activate_", {"x": lambda a: a["x"][0]}, "argument 'x' has shape [4, 5, 16], expected 4 dimensions [N, H, W, C]"),
    ("activate_", {"x": lambda a: a["x"].half()}, "argument 'x' has dtype float16 on cpu, expected float32"),
    ("activate_", {"x": lambda a: a["x"].bfloat16()}, "argument 'x' has dtype bfloat16 on cpu, expected float32"),
    ("activate_", {"x": lambda a: a["x"].transpose(1, 2)}, "argument 'x' is not contiguous"),
    (
        "activate_",
        {"x": lambda a: a["x"][..., :9].clone()},
        "'signs' belongs to a map of 9 channels, expected a multiple",
    ),
    ("activate_", {"signs": lambda a: a["signs"].int()}, "argument 'signs' has dtype Int, expected uint8"),
    (
        "activate_",
        {"signs": lambda a: a["signs"][:, 1:].clone()},
        "'signs' has shape [2, 3, 5, 2], expected [2, 4, 5, 2]",
    ),
    ("activate_", {"bias": lambda a: a["bias"][1:]}, "argument 'bias' has shape [15], expected [16]"),
    ("activate_", {"bias": lambda a: a["bias"].double()}, "argument 'bias' has dtype float64, expected float32"),
    ("activate_", {"skip": lambda a: a["skip"][:1]}, "argument 'skip' has shape [1, 2, 2, 16], expected [2, H, W, 16]"),
    ("activate_", {"skip": torch.zeros(2, 5, 5, 16)}, "argument 'skip' has 5 x 5 pixels, expected at most 4 x 5"),
    ("activate_", {"skip": lambda a: a["x"]}, "argument 'x' shares memory with 'skip'"),
    ("activate_", {"negative_slope": -0.1}, "argument 'negative_slope' is -0.1, expected a finite number >= 0"),
    ("activation_gradient", {"out": lambda a: a["gradient"]}, "argument 'out' shares memory with 'gradient'"),
    ("activation_gradient", {"out": lambda a: a["out"].double()}, "argument 'out' has dtype float64, expected float32"),
    ("enlarge", {"out": torch.zeros(2, 4, 1, 16)}, "argument 'x' has 2 x 2 pixels, expected at most 4 x 1"),
    ("enlarge", {"x": torch.zeros(2, 0, 2, 16)}, "argument 'x' has 0 x 2 pixels"),
    ("enlarge", {"out": torch.zeros(2, 4, 5, 8)}, "argument 'out' has shape [2, 4, 5, 8], expected [2, H, W, 16]"),
    ("enlarge_adjoint", {"out": torch.zeros(2, 9, 9, 16)}, "argument 'out' has 9 x 9 pixels, expected at most 4 x 5"),
    ("enlarge_adjoint", {"out_signs": lambda a: a["signs"]}, "argument 'out_signs' has shape [2, 4, 5, 2]"),
    ("convolve", {"weight": torch.zeros(16, 16, 3, 3)}, "'weight' has shape [16, 16, 3, 3], expected [16, 3, 3, 16]"),
    ("convolve", {"stride": 3}, "argument 'stride' is 3, expected 1 (with a border of zeros) or 2 (without)"),
    ("convolve", {"stride": 2}, "argument 'out' has 4 x 5 pixels, expected 0 x 0"),
    ("convolve", {"x": torch.zeros(2, 9, 9, 16)}, "argument 'x' has 9 x 9 pixels, expected at most 4 x 5"),
    ("convolve", {"signs": torch.zeros(2, 2, 2, 2, dtype=torch.uint8)}, "argument 'signs' is given for a map that is"),
    ("convolve", {"skip": torch.zeros(2, 4, 6, 16)}, "argument 'skip' has 4 x 6 pixels, expected at most 4 x 5"),
    ("convolve", {"out_signs": lambda a: a["out_signs"][:1]}, "argument 'out_signs' has shape [1, 4, 5, 2]"),
    ("convolve", {"out": lambda a: a["x"]}, "argument 'out_signs' has shape [2, 4, 5, 2], expected [2, 2, 2, 2]"),
    ("convolve", {"out": lambda a: a["x"], "out_signs": None}, "argument 'out' shares memory with"),
    ("convolve_down_adjoint", {"out": torch.zeros(2, 7, 6, 16)}, "'gradient' has 2 x 2 pixels, expected 3 x 2"),
    ("convolve_down_adjoint", {"weight": torch.zeros(8, 3, 3, 16)}, "argument 'weight' has shape [8, 3, 3, 16]"),
]


@pytest.mark.parametrize("op", sorted({op for op, _, _ in BAD_ARGUMENTS}))
def test_good_arguments_pass(op):
    call(op, {})


@pytest.mark.parametrize(("op", "changes", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(op, changes, message):
    with pytest.raises(RuntimeError) as error:
        call(op, changes)
    assert f"lesioncore::{op}: argument '" in str(error.value)
    assert message in str(error.value)


def from_odd_address(tensor):
    """A copy that begins four bytes behind an address that torch's memory begins at."""
    values = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device=tensor.device)[1:].view(tensor.shape)
    return values.copy_(tensor)


@pytest.mark.parametrize(
    ("op", "name"),
    [
        *(("activate_", name) for name in ("x", "bias", "skip")),
        *(("activation_gradient", name) for name in ("gradient", "out")),
        *(("enlarge", name) for name in ("x", "out")),
        *(("enlarge_adjoint", name) for name in ("gradient", "out")),
        *(("convolve", name) for name in ("x", "bias", "skip", "out")),
        *(("convolve_down_adjoint", name) for name in ("gradient", "out")),
    ],
)
def test_views_that_cuda_cannot_read_in_words_are_named(op, name):
    """The CPU takes them; CUDA would end the process's use of the device."""
    changes = {name: lambda good: from_odd_address(good[name])}
    call(op, changes)
    with operators(), pytest.raises(RuntimeError, match=rf"argument '{name}' begins at an address"):
        call(op, changes)


@pytest.mark.parametrize("op", ["activate_", "activation_gradient", "enlarge", "enlarge_adjoint", "convolve"])
def test_views_of_whole_slices_are_taken(op):
    name = {"activation_gradient": "gradient", "enlarge_adjoint": "gradient"}.get(op, "x")
    with operators():
        call(op, {name: lambda good: torch.cat([good[name], good[name]])[1 : 1 + len(good[name])]})


@pytest.mark.needs_cuda
@pytest.mark.parametrize(
    ("op", "changes", "message"),
    [
        ("activate_", {"bias": torch.zeros(16)}, "argument 'bias' is on cpu, expected cuda:0, the device of 'x'"),
        ("enlarge", {"x": lambda a: a["x"].double()}, "argument 'x' has dtype float64 on cuda:0, expected float32"),
        (
            "convolve",
            {"weight": lambda a: a["weight"][:8].clone(), "out": lambda a: a["out"][..., :8].clone(), "bias": None},
            "argument 'weight' has 16 channels in and 8 out at stride 1, expected on CUDA",
        ),
        (
            "convolve",
            {"x": lambda a: a["out"][:, :3, :3].clone(), "skip": None},
            "argument 'x' has 3 x 3 pixels, expected on CUDA at most half of those of 'out'",
        ),
    ],
)
def test_bad_arguments_are_named_on_cuda(op, changes, message):
    if "weight" in changes:
        changes = {**changes, "skip": None, "out_signs": None}
    with pytest.raises(RuntimeError) as error:
        call(op, changes, device="cuda")
    assert message in str(error.value)
