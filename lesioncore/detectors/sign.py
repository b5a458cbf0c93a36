"""Sign of the lesions that a detector looks for."""

from __future__ import annotations

from typing import Literal, TypeAlias

Sign: TypeAlias = Literal[1, -1] | None
"""Lesions are brighter (+1) or darker (-1) than healthy tissue, or may be either (None)."""


def check_sign(sign: Sign) -> Sign:
    """Return `sign`, or raise ``ValueError`` if it is none of 1, -1 and None."""
    if sign not in (1, -1, None):
        raise ValueError(f"sign: got {sign!r}, expected 1 (bright lesions), -1 (dark lesions) or None (either)")
    return sign
