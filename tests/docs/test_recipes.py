"""The recipes of docs/extending.md: what they say of an operator is true of all, and their operator compiles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from lesioncore.ops import maps, random, tv

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
(SCHEMAS,) = CSRC.rglob("ops.cpp")
OPERATORS = sorted(set(re.findall(r'm\.def\(\s*"(\w+)\(', SCHEMAS.read_text())))


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_all_that_the_recipe_says(name):
    for ending in ("_cpu.cpp", "_cuda.cu"):
        registered = [path for path in CSRC.rglob(f"*{ending}") if f'm.impl("{name}"' in path.read_text()]
        assert len(registered) == 1, ending
        assert registered[0].name in (ROOT / "CMakeLists.txt").read_text()
        if ending == "_cuda.cu":
            assert registered[0].name in (ROOT / "tests" / "emulation" / "kernels.cpp").read_text()
    rooms = [room for room in (tv, maps, random) if hasattr(room, name)]
    assert len(rooms) == 1
    assert getattr(rooms[0], name).__doc__
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"lesioncore::{name}", "Meta")  # register_fakes


def test_the_operator_of_the_recipe_compiles_and_runs(tmp_path):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler; set CXX")
    (code,) = re.findall(r"^```cpp\n(.*?)^```", (ROOT / "docs" / "extending.md").read_text(), re.M | re.S)
    source, library, torch_root = tmp_path / "twice.cpp", tmp_path / "twice.so", Path(torch.__file__).parent
    source.write_text(code)
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    flags += ["-isystem", str(torch_root / "include")]
    inputs = [str(source), str(torch_root / "lib" / "libtorch_cpu.so")]
    built = subprocess.run([compiler, *flags, *inputs, "-o", str(library)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-4000:]
    torch.ops.load_library(library)
    x = torch.arange(6.0)
    out = torch.empty_like(x)
    torch.ops.lesioncore_recipe.twice(x, out)
    assert torch.equal(out, 2 * x)
