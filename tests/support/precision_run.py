"""Script of test_precision.py: each user's own settings after a run, printed as one JSON object."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable

import torch

from lesioncore.engine.precision import multiplying_in

BACKENDS = torch.backends
USERS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "legacy matmul": lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", True),
    "legacy matmul off": lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", False),
    "legacy convolutions off": lambda: setattr(BACKENDS.cudnn, "allow_tf32", False),
    "legacy high": lambda: torch.set_float32_matmul_precision("high"),
    "legacy medium": lambda: torch.set_float32_matmul_precision("medium"),
    "matmul": lambda: setattr(BACKENDS.cuda.matmul, "fp32_precision", "tf32"),
    "convolutions": lambda: setattr(BACKENDS.cudnn.conv, "fp32_precision", "ieee"),
    "cuda": lambda: setattr(BACKENDS.cudnn, "fp32_precision", "ieee"),
    "all": lambda: setattr(BACKENDS, "fp32_precision", "ieee"),
    "all tf32": lambda: setattr(BACKENDS, "fp32_precision", "tf32"),
    "mixed": lambda: (USERS["legacy high"](), setattr(BACKENDS.cuda.matmul, "fp32_precision", "ieee")),
}
LATER = {name: USERS[name] for name in ("nothing", "legacy high", "cuda", "all", "all tf32")}
RUNS = [("cpu", "float32"), ("cpu", "bfloat16"), ("cuda", "float32"), ("cuda", "tf32"), ("cuda", "bfloat16")]


def settings() -> dict[str, str]:
    """All that torch says, the legacy functions as well, which raise where both kinds were used."""
    by_name = {
        "all": BACKENDS,
        "cuda": BACKENDS.cudnn,
        "conv": BACKENDS.cudnn.conv,
        "matmul": BACKENDS.cuda.matmul,
        "rnn": BACKENDS.cudnn.rnn,
        "cpu conv": BACKENDS.mkldnn.conv,
        "cpu matmul": BACKENDS.mkldnn.matmul,
    }
    precisions = {name: setting.fp32_precision for name, setting in by_name.items()}
    legacy = {
        "legacy conv": lambda: BACKENDS.cudnn.allow_tf32,
        "legacy matmul": lambda: BACKENDS.cuda.matmul.allow_tf32,
        "legacy precision": torch.get_float32_matmul_precision,
    }
    return precisions | {name: reading(get) for name, get in legacy.items()}


def reading(get: Callable[[], object]) -> str:
    try:
        return str(get())
    except RuntimeError:
        return "raises"


def child(user: str, later: str, run: tuple[str, str] | None) -> dict[str, dict[str, str]]:
    """Settings in a process of their own, for torch's first ones never come back once they are written."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            USERS[user]()
            readings = {}
            if run is not None:
                with multiplying_in(run[1], torch.device(run[0])):
                    readings["within"] = settings()
            readings["after"] = settings()
            LATER[later]()
            readings["later"] = settings()
            os.write(writer, json.dumps(readings).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return json.loads(pipe.read() or "{}")


def main() -> None:
    rows = []
    for user, later in itertools.product(USERS, LATER):
        expected = child(user, later, None)
        rows += [
            {"user": user, "later": later, "run": run, "expected": expected, "found": child(user, later, run)}
            for run in RUNS
        ]
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
