"""One target under atheris: keeps what breaks the promise, one input of each kind, and goes on.

    python bench/robustness/fuzz/harness.py TARGET FOLDER                       # use the findings again
    python bench/robustness/fuzz/harness.py TARGET FOLDER -max_total_time=60    # fuzz, with libFuzzer's options

FOLDER keeps the inputs that reached something new (``corpus``), and one of each kind of ``findings``. ``fuzzing.py``
starts it. The exit code of the first form is the number of findings that break the promise still.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "bench" / "robustness"), str(ROOT / "tests")]
import torch  # noqa: E402, F401  (before others are instrumented, which would take minutes)

with atheris.instrument_imports(include=["lesioncore", "nibabel"]):
    from fuzz.target import Target
    from fuzz.targets import TARGETS

SHARED = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files cost no access to a disk."""
MEMORY = 2**30
"""Bytes of address space that reading may take beyond what the process has when it begins."""


def broken(error: BaseException, folder: Path) -> str | None:
    """Say in what an error is not one that is promised: of a kind that users know, and naming a file."""
    if not isinstance(error, (ValueError, OSError)):
        return type(error).__name__
    names = [folder.name, *(path.name for path in folder.rglob("*"))]
    return None if any(name in str(error) for name in names) else f"{type(error).__name__} that names no file"


def place(error: BaseException) -> str:
    """Where an error came from: the last line of this project, and the last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "lesioncore" in Path(frame.filename).parts or "fuzz" in frame.filename]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (frames[-1], (own or frames)[-1]))


def main() -> int:
    target, root, options = TARGETS[sys.argv[1]], Path(sys.argv[2]), sys.argv[3:]
    findings, corpus = root / "findings", root / "corpus"
    for folder in (findings, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    logging.disable()  # nibabel logs what it mends in each header
    with tempfile.TemporaryDirectory() as folder:
        for seed in target.seeds(Path(folder)):
            (corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    if not options:
        return again(target, findings)

    def once(data: bytes) -> None:
        if (found := breaks(target, data)) is None:
            return
        key, text = found
        path = findings / hashlib.sha256(key.encode()).hexdigest()[:16]
        if not path.exists():
            path.write_bytes(data)
            path.with_suffix(".json").write_text(json.dumps({"kind": key, "error": text}, indent=1))
            print(f"FINDING {path.name}: {key}", file=sys.stderr, flush=True)

    atheris.Setup([sys.argv[0], f"-max_len={target.largest}", *options, str(corpus), str(findings)], once)
    atheris.Fuzz()
    return 0


def breaks(target: Target, data: bytes) -> tuple[str, str] | None:
    """Use an input; the kind of the finding and its traceback if the promise is broken."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=SHARED) as folder:
        try:
            target.use(data, Path(folder))
        except Exception as error:
            if (what := broken(error, Path(folder))) is not None:
                return f"{what} at {place(error)}", "".join(traceback.format_exception(error, limit=-6))[-3000:]
    return None


def again(target: Target, findings: Path) -> int:
    """Use the inputs of all findings; how many break the promise still."""
    left = 0
    for path in sorted(path for path in findings.iterdir() if not path.suffix):
        if (found := breaks(target, path.read_bytes())) is not None:
            left += 1
            print(f"OPEN {path.name}: {found[0]}\n{found[1]}", file=sys.stderr)
    return left


if __name__ == "__main__":
    sys.exit(main())
