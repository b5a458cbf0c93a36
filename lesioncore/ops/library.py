"""The compiled libraries: loading them registers the native operators ``torch.ops.lesioncore``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

try:
    from lesioncore import _C
except ImportError as error:
    raise ImportError(
        "lesioncore's compiled part is not beside its sources. If Python runs in a checkout, it finds the source folder"
        " before the installed package: run it from another folder, or install the checkout in place with:"
        " pip install -e ."
    ) from error

_DIRECTORY = Path(_C.__file__).parent  # where the build put the libraries, which an editable install keeps elsewhere


def _load_cpu() -> bool:
    library = _DIRECTORY / "_C_cpu.so"
    if not library.exists():
        raise ImportError(f"lesioncore's native library is missing ({library}); rebuild with: pip install .")
    torch.ops.load_library(library)
    return True


def _load_cuda() -> tuple[bool, str]:
    """Load the CUDA half where this torch can use it; returns whether, and if not, why."""
    if not cuda_built:
        return False, "not built (no nvcc at build time, or LESIONCORE_CUDA=OFF); rebuild with nvcc on PATH"
    if torch.version.cuda is None:
        return False, "this torch is a CPU-only build"
    try:
        torch.ops.load_library(_DIRECTORY / "_C_cuda.so")
    except OSError as error:
        return False, f"the library did not load: {error}; rebuild with: pip install ."
    return True, ""


cuda_built: bool = bool(_C.build_info()["cuda_built"])
"""The CUDA half is part of this installation."""
cpu_loaded: bool = _load_cpu()
"""The CPU operators are registered (importing this module fails otherwise)."""
cuda_loaded: bool
"""The CUDA operators are registered."""
cuda_reason: str
"""Why the CUDA operators are not registered; empty if they are."""
cuda_loaded, cuda_reason = _load_cuda()


def register_fakes(names: Sequence[str]) -> None:
    """Register fake kernels, for tracing without data: the operators write to their arguments and return nothing."""
    for name in names:
        torch.library.register_fake(f"lesioncore::{name}", _nothing)


def _nothing(*_: Any, **__: Any) -> None:
    return None
