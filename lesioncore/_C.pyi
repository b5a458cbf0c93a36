"""Types of the native module `lesioncore._C` (csrc/module.cpp)."""

import numpy as np
from numpy.typing import NDArray

def build_info() -> dict[str, str | bool]: ...
def cpu_level() -> str: ...
def keep_freed_memory(keep: bool) -> None: ...
def tv_prox_emulated(
    v: NDArray[np.float32],
    mask: NDArray[np.bool_],
    weight: NDArray[np.float32],
    dual: NDArray[np.float32],
    out: NDArray[np.float32],
    *,
    depth_weight: float,
    isotropic: bool,
    iterations: int,
    processors: int,
    falling: bool,
) -> list[int]: ...
