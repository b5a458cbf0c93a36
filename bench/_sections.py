"""What the sections of the results share."""

from __future__ import annotations

import json
from typing import Any

from _bench import RESULTS


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def both(name: str) -> dict[str, dict[str, Any]]:
    """The results of both contrasts."""
    return {contrast: read(f"{name}_{contrast}") for contrast in ("T2w", "T1w")}


def place(facts: dict[str, Any]) -> str:
    return f"{facts['device']}, {facts['threads']} thread{'s' * (facts['threads'] > 1)}, torch {facts['torch']}"
