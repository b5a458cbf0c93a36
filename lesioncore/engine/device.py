"""The device of a run."""

from __future__ import annotations

import torch

from lesioncore.ops import library


def resolve_device(device: str | torch.device) -> torch.device:
    """``"auto"`` or a device name to a device that the native operations can use.

    Raises
    ------
    ValueError
        If a CUDA device is asked for where there is none, or its operations are not loaded.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and library.cuda_loaded else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: got {device!r}, expected 'auto', 'cpu' or 'cuda'") from error
    if target.type not in ("cpu", "cuda"):
        raise ValueError(f"device: got {device!r}, expected 'auto', 'cpu' or 'cuda'")
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: got 'cuda', but torch finds no CUDA device; use 'cpu' or 'auto'")
    if target.type == "cuda" and not library.cuda_loaded:
        raise ValueError(f"device: got 'cuda', but lesioncore's CUDA operations are not loaded: {library.cuda_reason}")
    return target
