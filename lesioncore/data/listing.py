"""Listing of folders that hold the results of thousands of scans, without reading all names for each of them."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

_SETTLED = 2.0
"""Seconds after which any change gives a folder another time, however coarse those of the file system are."""


def names_with(folder: Path, beginning: str) -> list[str]:
    """Names in a folder that begin so, sorted; none where there is no folder.

    Names are kept as long as the folder's time tells that none has changed.
    """
    try:
        changed = folder.stat().st_mtime_ns
        if time.time() - changed / 1e9 < _SETTLED:
            return sorted(name for name in os.listdir(folder) if name.startswith(beginning))
        names = _names(folder, changed)
    except (FileNotFoundError, NotADirectoryError):
        return []
    start = bisect_left(names, beginning)
    return list(takewhile(lambda name: name.startswith(beginning), (names[n] for n in range(start, len(names)))))


@lru_cache(maxsize=4)
def _names(folder: Path, changed: int) -> list[str]:
    """All names in a folder, sorted, as they were at a time of its change."""
    return sorted(os.listdir(folder))
