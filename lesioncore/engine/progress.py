"""Progress of long computations: a bar on a terminal, and lines elsewhere, such as in a batch job's log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

STEP = "step"
"""Unit of a solver's loop, which takes too little time for a line of its own."""


class Bar:
    """Progress of one stage on stderr.

    On a terminal it is a bar, which goes when the stage ends. Elsewhere it is one line when the stage begins, and one
    more for each tenth of it that is done, unless its parts are steps.

    Parameters
    ----------
    description : str
        What is being done, such as ``preparing``.
    unit : str
        What is counted, such as ``scan``.
    """

    def __init__(self, description: str, unit: str) -> None:
        from tqdm import tqdm

        self._description, self._unit, self._tenths = description, unit, 0
        self._tqdm: Any = None
        if sys.stderr.isatty():
            self._tqdm = tqdm(desc=description, unit=unit, leave=False)
        else:
            write_line(f"{description} ...")

    def move(self, done: int, total: int, figures: str = "") -> None:
        """Show how much is done, and figures beside it."""
        if self._tqdm is not None:
            self._tqdm.total = total
            self._tqdm.set_postfix_str(figures, refresh=False)
            self._tqdm.update(done - self._tqdm.n)
            return
        tenths = 10 * done // total if total else 0
        if tenths > self._tenths and self._unit != STEP:
            self._tenths = tenths
            write_line(f"{self._description}: {done} of {total} {self._unit}s" + (f", {figures}" if figures else ""))

    def close(self) -> None:
        """End the stage."""
        if self._tqdm is not None:
            self._tqdm.close()


def write_line(line: str) -> None:
    """Write a line on the course of things to stderr, in one piece."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class ProgressBar:
    """Context manager that gives a callable ``(done, steps)`` to report progress to, or None.

    Parameters
    ----------
    progress : bool or callable, optional
        ``True`` shows a :class:`Bar`, and a callable is given as it is; otherwise nothing is reported.
    description : str
        Text beside the bar.
    """

    def __init__(self, progress: Callable[[int, int], None] | bool | None, description: str) -> None:
        self._progress = progress
        self._description = description
        self._bar: Bar | None = None

    def __enter__(self) -> Callable[[int, int], None] | None:
        if callable(self._progress):
            return self._progress
        if not self._progress:
            return None
        if not sys.stderr.isatty():
            self._bar = Bar(self._description, STEP)
        return self._advance

    def _advance(self, done: int, steps: int) -> None:
        if self._bar is None:  # made at the first step, since other threads' loops may run first
            self._bar = Bar(self._description, STEP)
        self._bar.move(done, steps)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
