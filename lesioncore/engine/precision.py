"""Number formats of a network's multiplications, and the default per device and prior."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from lesioncore.models.prior import RunsFused


def precision_for(precision: str, device: torch.device, prior: Any) -> str:
    """The number format that a prior's network multiplies in, where ``"auto"`` leaves it open.

    ``"auto"`` is ``"tf32"`` for lesioncore's own kinds of priors on CUDA devices that have it (compute capability 8.0
    and up), else ``"float32"``. What rounding does to other priors is not known. On simulated patients, with the em
    solver, neither tf32 (emulated) nor bfloat16 changed the embedded priors' AUC by .0002; but bfloat16 moves a voxel's
    score by .002 to .004 z-scores, tf32 by less than .001, and thresholds are found in float32. So bfloat16 is left to
    the caller.

    Parameters
    ----------
    precision : {"auto", "float32", "tf32", "bfloat16"}
        As :class:`lesioncore.RestoreConfig` has it.
    device : torch.device
        Where the network runs.
    prior : Prior
        The network's model.

    Raises
    ------
    ValueError
        If the device or the prior has no such format.
    """
    fused = isinstance(prior, RunsFused)
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if precision == "auto":
        return "tf32" if fused and has_tf32 else "float32"
    if precision == "tf32" and not has_tf32:
        raise ValueError(
            f"precision: got 'tf32', which {device} does not have (CUDA devices from compute capability 8.0 on do); use"
            " 'auto' or 'float32'"
        )
    if precision == "bfloat16" and not fused:
        raise ValueError(
            f"precision: got 'bfloat16', but {type(prior).__name__} has no fused blocks to compute in it; use"
            " 'float32', or 'tf32' on CUDA devices that have it"
        )
    return precision


_settled = threading.Condition()
_running: dict[str, list[str]] = {}
"""For each kind of device what its runs let float32 factors be rounded to."""
_undo: dict[str, ExitStack] = {}


@contextmanager
def multiplying_in(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 convolutions and matrix products on a kind of device round their factors to TF32, or let them not.

    The process's own settings come back with the end of the last run. Runs that want others wait for it.
    """
    wanted = "tf32" if precision == "tf32" else "ieee"
    with _settled:
        runs = _running.setdefault(device.type, [])
        _settled.wait_for(lambda: not runs or runs[0] == wanted)
        if not runs:
            _undo[device.type] = _set(device.type, wanted)
        runs.append(wanted)
    try:
        yield
    finally:
        with _settled:
            runs.pop()
            if not runs:
                _undo.pop(device.type).close()
                _settled.notify_all()


def _set(kind: str, wanted: str) -> ExitStack:
    """Change torch's settings for a kind of device where they differ; closing what it returns puts them back."""
    backends: Any = torch.backends
    # What holds for all of CUDA comes first: a setting that follows it must not be written, or it never would again.
    cuda = [backends.cudnn, backends.cudnn.conv, backends.cuda.matmul]
    settings = cuda if kind == "cuda" else [backends.mkldnn.conv, backends.mkldnn.matmul]
    undo = ExitStack()
    if wanted == "ieee" and all(setting.fp32_precision in ("ieee", "none") for setting in settings):
        return undo
    for setting in settings:
        before = setting.fp32_precision
        if before != wanted:
            setting.fp32_precision = wanted
            undo.callback(_put_back, setting, before)
    return undo


def _put_back(setting: Any, before: str) -> None:
    setting.fp32_precision = "none"  # follows what is above it, as most settings do
    if setting.fp32_precision != before:
        setting.fp32_precision = before
