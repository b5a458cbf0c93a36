"""Progress bars of long work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ProgressBar:
    """Progress as a callable: a bar on a terminal, the caller's own function, or nothing."""

    def __init__(self, progress: Callable[[int, int], None] | bool | None, what: str) -> None:
        self._progress = progress
        self._what = what
        self._tqdm: Any = None

    def __enter__(self) -> Callable[[int, int], None] | None:
        if callable(self._progress):
            return self._progress
        if not self._progress:
            return None
        return self._advance

    def _advance(self, done: int, steps: int) -> None:
        if self._tqdm is None:  # only now: other threads' loops may have come first
            from tqdm import tqdm

            # disable=None: silent where stderr is not a terminal.
            self._tqdm = tqdm(desc=self._what, unit="step", disable=None, leave=False)
        self._tqdm.total = steps
        self._tqdm.n = done
        self._tqdm.refresh()

    def __exit__(self, *_: object) -> None:
        if self._tqdm is not None:
            self._tqdm.close()
