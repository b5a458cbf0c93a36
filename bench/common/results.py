"""The folder of results, and JSON files in it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write to a temporary name, then rename. Timings become dicts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=_encode) + "\n")
    temporary.replace(path)
    print(f"written to {path}", flush=True)


def _encode(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: round(number, 4) for name, number in asdict(value).items()}
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
