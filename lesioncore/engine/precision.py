"""Number formats of a network's multiplications, and the default of each device and prior."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from lesioncore.models.prior import RunsFused


def precision_for(precision: str, device: torch.device, prior: Any) -> str:
    """Return the number format that a prior's network multiplies in, and decide it where it is ``"auto"``.

    ``"auto"`` is ``"tf32"`` for lesioncore's own kinds of priors on CUDA devices that have it (compute capability 8.0
    and up), else ``"float32"``, since the effect of rounding on other priors is not known. On simulated patients, with
    the em solver, neither tf32 (emulated) nor bfloat16 changed the embedded priors' AUC by .0002. But bfloat16 moves a
    voxel's score by .002 to .004 z-scores, tf32 by less than .001, and thresholds are computed in float32. bfloat16 is
    therefore used only if the caller asks for it.

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


_changed = threading.Condition()
_running: dict[str, list[str]] = {}
"""For each type of device, the setting of each of its present runs; all of a type are equal."""
_undo: dict[str, ExitStack] = {}
"""For each type of device with runs, the callbacks that restore the process's own settings."""


@contextmanager
def multiplying_in(precision: str, device: torch.device) -> Iterator[None]:
    """Context in which float32 convolutions and matrix products on a type of device may use TF32, or must not.

    The settings are the whole process's: a run that needs others waits until all runs on that type of device have
    ended. The end of the last run restores the settings from before the first.
    """
    wanted = "tf32" if precision == "tf32" else "ieee"
    with _changed:
        runs = _running.setdefault(device.type, [])
        _changed.wait_for(lambda: not runs or runs[0] == wanted)
        if not runs:
            _undo[device.type] = _set(device.type, wanted)
        runs.append(wanted)
    try:
        yield
    finally:
        with _changed:
            runs.pop()
            if not runs:
                _undo.pop(device.type).close()
                _changed.notify_all()


def _set(device_type: str, wanted: str) -> ExitStack:
    """Change torch's settings for a type of device where they differ; closing the returned stack restores them."""
    backends: Any = torch.backends
    # The setting of all of CUDA comes first, so that those which inherit from it already agree and are not written:
    # a setting that was written no longer inherits.
    cuda = [backends.cudnn, backends.cudnn.conv, backends.cuda.matmul]
    settings = cuda if device_type == "cuda" else [backends.mkldnn.conv, backends.mkldnn.matmul]
    undo = ExitStack()
    if wanted == "ieee" and all(setting.fp32_precision in ("ieee", "none") for setting in settings):
        return undo
    for setting in settings:
        before = setting.fp32_precision
        if before != wanted:
            setting.fp32_precision = wanted
            undo.callback(_restore, setting, before)
    return undo


def _restore(setting: Any, before: str) -> None:
    setting.fp32_precision = "none"  # makes it inherit again, as most settings do by default
    if setting.fp32_precision != before:
        setting.fp32_precision = before
