"""Choice of the device that a run computes on."""

from __future__ import annotations

import torch

from lesioncore.ops import library


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that is named, or for ``"auto"`` a CUDA device where lesioncore can use one, else the CPU.

    Raises
    ------
    ValueError
        If `device` is no CPU or CUDA device, or a CUDA device that torch does not find or whose operations lesioncore
        has not loaded.
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
