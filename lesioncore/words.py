"""Words that depend on a number."""

from __future__ import annotations


def counted(count: int, one: str, several: str) -> str:
    """A number with its noun: ``1 person``, ``2 people``."""
    return f"{count} {one if count == 1 else several}"


def people(count: int, kind: str = "") -> str:
    """A number of people, of a kind such as ``healthy``."""
    return counted(count, f"{kind} person".lstrip(), f"{kind} people".lstrip())
