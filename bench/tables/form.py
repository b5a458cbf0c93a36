"""Results as cells and tables of Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from common.results import RESULTS


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def both(name: str) -> dict[str, dict[str, Any]]:
    """The results of both contrasts."""
    return {contrast: read(f"{name}_{contrast}") for contrast in ("T2w", "T1w")}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(line.replace("|  |", "| |") for line in lines)


def place(facts: dict[str, Any]) -> str:
    """Where a benchmark ran: the GPU with its driver, or the processor with its threads."""
    if "cuda" in facts:
        return f"{facts['device']}, torch {facts['torch']}, driver {facts['driver']}"
    return f"{facts['device']}, {facts['threads']} thread{'s' * (facts['threads'] > 1)}, torch {facts['torch']}"


def slashed(values: Iterable[float], form: str) -> str:
    """Figures of several limits in one cell."""
    return " / ".join(format(value, form) for value in values)


def interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


def signed_interval(value: float, low: float, high: float, digits: int) -> str:
    return f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
