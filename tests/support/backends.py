"""The devices and element types that the operators exist for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch


@dataclass(frozen=True)
class Backend:
    """A device and an element type the operators exist for."""

    device: str
    dtype: torch.dtype
    emulated: bool = False  # the kernels are those of CUDA, on the host

    @property
    def tolerance(self) -> float:
        """Bound of the relative error against the float64 reference."""
        return {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 1e-2}[self.dtype]

    @property
    def runs_cuda_kernels(self) -> bool:
        return self.device == "cuda" or self.emulated


EMULATED = pytest.param(Backend("cpu", torch.float32, emulated=True), id="emulated-float32")
