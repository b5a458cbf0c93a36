"""Progress bars of long computations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ProgressBar:
    """Context manager that gives a callable ``(done, steps)`` to report progress to, or None.

    Parameters
    ----------
    progress : bool or callable, optional
        ``True`` shows a bar on a terminal, and a callable is given as it is; otherwise nothing is reported.
    description : str
        Text beside the bar.
    """

    def __init__(self, progress: Callable[[int, int], None] | bool | None, description: str) -> None:
        self._progress = progress
        self._description = description
        self._tqdm: Any = None

    def __enter__(self) -> Callable[[int, int], None] | None:
        if callable(self._progress):
            return self._progress
        if not self._progress:
            return None
        return self._advance

    def _advance(self, done: int, steps: int) -> None:
        if self._tqdm is None:  # made at the first step, since other threads' loops may run first
            from tqdm import tqdm

            # disable=None shows no bar where stderr is not a terminal.
            self._tqdm = tqdm(desc=self._description, unit="step", disable=None, leave=False)
        self._tqdm.total = steps
        self._tqdm.n = done
        self._tqdm.refresh()

    def __exit__(self, *_: object) -> None:
        if self._tqdm is not None:
            self._tqdm.close()
