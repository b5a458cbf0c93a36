"""The CUDA operators' own sources, compiled for the host: `torch.ops.lesioncore_emulated`, see ``emulation/``."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch

SOURCES = Path(__file__).parents[1] / "emulation"
KERNELS = Path(__file__).parents[2] / "csrc"


@contextmanager
def operators() -> Iterator[None]:
    """The emulated operators in place of the CPU's."""
    failure = _load()
    assert failure is None, failure
    with mock.patch.object(torch.ops, "lesioncore", torch.ops.lesioncore_emulated):
        yield


@functools.cache
def _load() -> str | None:
    """Compile and load the library; what the compiler said if it failed."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler for the emulation; set CXX")
    torch_root = Path(torch.__file__).parent
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
    flags += ["-ffp-contract=off"]  # as the CUDA library is compiled: the same bits
    flags += ["-U_FORTIFY_SOURCE"]  # which takes jumps between stacks for a mistake
    flags += ["-DTORCH_TARGET_VERSION=0x020a000000000000", f"-I{SOURCES}", f"-I{KERNELS}"]
    flags += ["-isystem", str(torch_root / "include"), *os.environ.get("CXXFLAGS", "").split()]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "emulated.so"
        inputs = [str(SOURCES / "kernels.cpp"), str(torch_root / "lib" / "libtorch_cpu.so")]
        # A sanitizer's library is for this process: the compiler would be slow with it.
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        command = [compiler, *flags, *inputs, "-o", str(library)]
        built = subprocess.run(command, capture_output=True, text=True, env=environment)
        if built.returncode != 0:
            return built.stderr[-4000:]
        torch.ops.load_library(library)
    return None
