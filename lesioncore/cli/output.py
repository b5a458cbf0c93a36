"""Output of a command: results to stdout, everything else to stderr, and one JSON object for programs."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

_about: ContextVar[str | None] = ContextVar("about", default=None)


class CommandError(Exception):
    """A failure with a message made for the command line."""


class UsageError(Exception):
    """Arguments that cannot be used, found after parsing."""


@dataclass(frozen=True)
class Report:
    """What a command did: JSON-able facts, and whether all that was asked for was done."""

    facts: dict[str, Any]
    complete: bool = True


class Output:
    """Lines for people, or with `json` one object for a program and the lines on stderr.

    As a context it turns Python's warnings into single lines on stderr.

    Attributes
    ----------
    log : TextIO or None
        A file that gets all lines, too, each with its time.
    """

    def __init__(self, json: bool) -> None:
        self.log: TextIO | None = None
        self._json = json
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> Output:
        self._warnings.__enter__()
        warnings.showwarning = self._show_warning  # type: ignore[assignment]
        return self

    def __exit__(self, *details: Any) -> None:
        self._warnings.__exit__(*details)

    def say(self, line: str = "") -> None:
        """Write a line of the result."""
        self._line(line, sys.stderr if self._json else sys.stdout)

    def note(self, line: str) -> None:
        """Write a remark to stderr."""
        self._line(line, sys.stderr)

    def stage(self, name: str) -> None:
        """Write what is being done to stderr, if that is a terminal."""
        if sys.stderr.isatty():
            _write(f"{name} ...", sys.stderr)

    def warn(self, message: str) -> None:
        """Write a warning to stderr."""
        self._line(f"warning: {_one_line(message)}", sys.stderr)

    @contextmanager
    def about(self, subject: str) -> Iterator[None]:
        """Name a file in the warnings and failures of this thread that do not name it themselves."""
        token = _about.set(subject)
        try:
            yield
        finally:
            _about.reset(token)

    def error(self, error: BaseException) -> str:
        """Write a failure to stderr, in one line, and return the line's text."""
        text = _named(describe(error))
        self._line(f"error: {text}", sys.stderr)
        return text

    def fail(self, error: BaseException) -> None:
        """Write the failure that ends the command, for a program as ``{"error": ...}``."""
        text = self.error(error)
        if self._json:
            _write(json.dumps({"error": text}), sys.stdout)

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the object for a program, if it is one that asked."""
        if self._json:
            _write(json.dumps(facts, indent=2, allow_nan=False), sys.stdout)

    def _line(self, line: str, stream: TextIO) -> None:
        if self.log is not None:
            _write(f"{datetime.now().isoformat(timespec='seconds')} {line}", self.log)
        _write(line, stream)

    def _show_warning(self, message: Warning | str, category: type[Warning], *_: Any) -> None:
        self.warn(_named(str(message) if category is UserWarning else f"{category.__name__}: {message}"))


def describe(error: BaseException) -> str:
    """Return an error in one line, with its kind where the text alone says little.

    The environment variable LESIONCORE_DEBUG=1 shows its traceback.
    """
    if os.environ.get("LESIONCORE_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    text = _one_line(str(error))
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror.lower()}"
    if isinstance(error, (CommandError, UsageError, ValueError, TypeError, OSError, ImportError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Give ``progress(done, all)`` of a bar on stderr, silent where that is no terminal."""
    from tqdm import tqdm

    with tqdm(desc=description, unit=unit, disable=None, leave=False) as shown:

        def progress(done: int, total: int) -> None:
            shown.total, shown.n = total, done
            shown.refresh()

        yield progress


def check_writable(folder: Path, name: str = "--output") -> None:
    """Raise before any work is done if an output folder could not be made or written.

    Parameters
    ----------
    folder : Path
        The folder.
    name : str
        What the command line calls it.

    Raises
    ------
    CommandError
        If nothing can be written there, or where it would be made.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".lesioncore-", dir=existing))
    except OSError as error:
        reason = (error.strerror or "not possible").lower()
        raise CommandError(f"{name}: cannot write in {existing} ({reason}); choose another folder") from error


def _write(line: str, stream: TextIO) -> None:
    """Write a line and its end at once: `print` writes them one by one, and other threads' lines come between."""
    stream.write(f"{line}\n")
    stream.flush()


def _named(text: str) -> str:
    """A message with the name of what it is about, unless it has that name in it."""
    about = _about.get()
    return text if about is None or about in text else f"{about}: {text}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
