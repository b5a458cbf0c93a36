"""AddressSanitizer and UndefinedBehaviorSanitizer over the compiled part: tests of the CPU and of the emulated kernels.

    python bench/robustness/sanitizers.py --work build/sanitizers                   # operators, solvers, engine
    python bench/robustness/sanitizers.py --work build/sanitizers --tests tests/ops -- -x   # with pytest's options

Compiles the CPU half with GCC into a folder that is kept, so that the next run compiles what has changed, beside a copy
of the Python sources, and runs the tests with it. The CUDA kernels run on the host, as in any test
(``tests/emulation``), compiled with the same flags. Sanitizers end the process at the first finding, and what they say
is printed.

Both libraries are loaded before Python, which is not compiled with them. Leaks are not looked for: Python and torch
keep memory to the end on purpose, which would hide any of this project's, and that allocates through torch's tensors
alone.

Writes ``sanitizers.json``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.options import parser, started
from common.results import ROOT, write_json

SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow"
FLAGS = f"{SANITIZERS} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1"
TESTS = ("tests/ops", "tests/solvers", "tests/engine")
FEWER = "--hypothesis-profile=sanitizers"  # examples for each test: each takes ten times as long
RUN = """
import sys
place = sys.argv.pop(1)
# The copy has to be found before an editable install's sources, which a finder of its own may lead to.
sys.path[:] = [place, *(path for path in sys.path if path)]
sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
import lesioncore
assert lesioncore.__file__.startswith(place), f"got the package of {lesioncore.__file__}, expected that of {place}"
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def main() -> int:
    """Build, test and write what was seen; gives the tests' exit code."""
    arguments = parser(__doc__, writes="sanitizers.json", work="folder for the build")
    arguments.add_argument("--tests", nargs="+", default=list(TESTS), help="files and folders of tests")
    arguments.add_argument("pytest", nargs="*", help="options of pytest, after --")
    options = arguments.parse_args()
    options.device = "cpu"
    facts = started(options)
    place = build(options.work.resolve())
    logs = options.work.resolve() / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    begun = time.monotonic()
    command = [sys.executable, "-c", RUN, str(place), "-p", "no:cacheprovider", FEWER]
    # What a sanitizer says is not kept from the terminal: the process ends with it.
    command += ["--capture=sys", *options.tests, *options.pytest]
    said = []
    with subprocess.Popen(command, cwd=ROOT, env=environment(logs), stdout=subprocess.PIPE, text=True) as tests:
        for line in tests.stdout or ():
            print(line, end="", flush=True)
            said.append(line)
    findings = [log.read_text(errors="replace") for log in sorted(logs.iterdir())]
    for finding in findings:
        print(finding, file=sys.stderr)
    closing = [line.strip("= \n") for line in said if re.search(r"\d+ (passed|failed|error).* in ", line)]
    content = {
        "command": "python bench/robustness/sanitizers.py --work build/sanitizers",
        "environment": facts,
        "compiler": output_of(compiler_name(), "--version").splitlines()[0],
        "flags": FLAGS,
        "tests": options.tests,
        "outcome": closing[-1] if closing else "none: the process ended",
        "seconds": round(time.monotonic() - begun),
        "findings": len(findings),
    }
    write_json(options.out / "sanitizers.json", content)
    return tests.returncode


def build(work: Path) -> Path:
    """Compile the CPU half and copy the Python sources beside it; gives the folder that has the package."""
    pybind = output_of(sys.executable, "-m", "pybind11", "--cmakedir")
    configure = ["cmake", "-S", str(ROOT), "-B", str(work / "build"), "-DCMAKE_BUILD_TYPE=Sanitized"]
    configure += [f"-DCMAKE_CXX_COMPILER={compiler_name()}", f"-DCMAKE_CXX_FLAGS=-O1 {FLAGS}", "-DLESIONCORE_CUDA=OFF"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind}"]
    for command in (configure, ["cmake", "--build", str(work / "build"), "--parallel"]):
        subprocess.run(command, check=True)
    package = work / "package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "lesioncore", package / "lesioncore", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    subprocess.run(["cmake", "--install", str(work / "build"), "--prefix", str(package)], check=True)
    return package


def environment(logs: Path) -> dict[str, str]:
    """Variables under which Python runs code that was compiled with sanitizers."""
    names = ("libasan.so", "libubsan.so", "libstdc++.so")  # the last, for what is thrown before it would be loaded
    libraries = [output_of(compiler_name(), f"-print-file-name={name}") for name in names]
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={logs / 'address'}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={logs / 'undefined'}",
        "CXX": compiler_name(),
        "CXXFLAGS": FLAGS,  # of the emulation, which its tests compile
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def compiler_name() -> str:
    return os.environ.get("CXX", "g++")


if __name__ == "__main__":
    sys.exit(main())
