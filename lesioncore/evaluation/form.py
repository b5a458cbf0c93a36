"""Figures as cells of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "–"
"""In place of an undefined value."""


def percent(share: float) -> str:
    """Format a share as a percentage: ``0.05`` as ``5 %``."""
    return f"{100 * share:.3g} %"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *cells])


def number(value: float | None, digits: str = ".3f", missing: str = MISSING) -> str:
    """A number, or what stands for one that is undefined."""
    return missing if value is None else format(value, digits)


def with_sd(statistic: Mapping[str, float] | None, digits: str = ".3f") -> str:
    """A mean with its standard deviation."""
    return MISSING if statistic is None else f"{statistic['mean']:{digits}} ± {statistic['sd']:{digits}}"


def with_interval(row: Mapping[str, Any], name: str, digits: str = ".3f") -> str:
    """A figure of a row, with its interval where there is one."""
    interval = row.get(f"{name}_interval")
    return number(row.get(name), digits) + (f" ({interval[0]:{digits}} to {interval[1]:{digits}})" if interval else "")
