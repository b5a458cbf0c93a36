"""Output of a command: results go to stdout, as text or as one JSON object, and everything else to stderr."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from lesioncore.data.temporary import temporary

_current_file: ContextVar[str | None] = ContextVar("current_file", default=None)
"""The file that this thread works on, which its warnings and errors name."""


SUCCESS, FAILURE, USAGE, PARTIAL, STOPPED = 0, 1, 2, 3, 130
"""Exit codes: all was done; nothing was; the command line cannot be understood; some scans were done and others failed;
stopped by Ctrl-C or SIGTERM."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
"""Characters, but for tabulator and line end, by which a file's name could have a terminal do something."""
_UNWRITABLE = {
    errno.EACCES: "may not be written by you",
    errno.EPERM: "may not be written by you",
    errno.EROFS: "cannot be written, since its disk is read-only",
    errno.ENOSPC: "has no space left on its disk",
    errno.EDQUOT: "has no space left for you on its disk",
}
"""What is said of a folder in which none can be made, by the number of the error."""

_writing = threading.Lock()
"""Held while a line is written, so that none stands within another."""


class CommandError(Exception):
    """A failure whose message is written for users of the command line."""


class UsageError(Exception):
    """Arguments that parse but cannot be used."""


@dataclass(frozen=True)
class Outcome:
    """The result of a command.

    Attributes
    ----------
    facts : dict
        JSON-able.
    failed : bool
        Whether something failed, such as a scan.
    some : bool
        Whether something was done though.
    """

    facts: dict[str, Any]
    failed: bool = False
    some: bool = False

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        return SUCCESS if not self.failed else PARTIAL if self.some else FAILURE


class Output:
    """Writes a command's output: lines on stdout or, with `json`, one JSON object there and the lines on stderr.

    As a context manager it writes Python's warnings to stderr, each as one line.

    Attributes
    ----------
    log : TextIO or None
        A file to which all lines are written, too, each with its time.
    unread : bool
        The reader of a pipe has left before all was written to it, as ``| head`` does. The command goes on, since its
        results are files.
    """

    def __init__(self, json: bool) -> None:
        self.log: TextIO | None = None
        self.unread = False
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
        """Write the name of the stage that begins to stderr."""
        self._write(f"{name} ...", sys.stderr)

    def warn(self, message: str) -> None:
        """Write a warning to stderr."""
        self._line(f"warning: {_one_line(message)}", sys.stderr)

    def error(self, error: BaseException) -> str:
        """Write an error to stderr as one line, and return its text."""
        text = _named(describe(error))
        self._line(f"error: {text}", sys.stderr)
        return text

    def fail(self, error: BaseException) -> None:
        """Write the error that ends the command to stderr and, with `json`, as ``{"error": ...}`` to stdout."""
        text = self.error(error)
        if self._json:
            self._write(json.dumps({"error": text}), sys.stdout)

    def last(self, error: BaseException) -> None:
        """Like :meth:`fail`, and no other thread can write a line afterwards."""
        self.fail(error)
        _writing.acquire()

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the facts to stdout as one JSON object, if `json` was chosen."""
        if self._json:
            self._write(json.dumps(facts, indent=2, allow_nan=False), sys.stdout)

    def _line(self, line: str, stream: TextIO) -> None:
        if self.log is not None:
            self._write(f"{datetime.now().isoformat(timespec='seconds')} {line}", self.log)
        self._write(line, stream)

    def _write(self, line: str, stream: TextIO) -> None:
        """Write a line; what the stream's encoding lacks is escaped, and so are control characters."""
        line = line.translate(_CONTROL)
        encoding = stream.encoding or "utf-8"
        with _writing:
            try:
                stream.write(f"{line}\n".encode(encoding, "backslashreplace").decode(encoding))
                stream.flush()
            except BrokenPipeError:
                self.unread = True
                # The null device takes the pipe's place: neither the next line nor the flush at exit fails again.
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def _show_warning(self, message: Warning | str, category: type[Warning], *_: Any) -> None:
        self.warn(_named(str(message) if category is UserWarning else f"{category.__name__}: {message}"))


@contextmanager
def concerning(file: str) -> Iterator[None]:
    """Put a file's name before the warnings and errors of this thread that do not contain it."""
    token = _current_file.set(file)
    try:
        yield
    finally:
        _current_file.reset(token)


def describe(error: BaseException) -> str:
    """Return an error as one line of text, with its class in front where the message alone would be unclear.

    With the environment variable LESIONCORE_DEBUG=1 its traceback goes to stderr.
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
    """Show a stage's progress on stderr (:class:`lesioncore.engine.progress.Bar`); yield ``progress(done, all)``."""
    from lesioncore.engine.progress import Bar

    shown = Bar(description, unit)
    try:
        yield shown.move
    finally:
        shown.close()


def why_unwritable(folder: Path) -> str | None:
    """Say why an output folder cannot be made and written; None where it can.

    A folder is made in it, or in the nearest one above it that exists, and removed.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        return f"got {folder}, but {existing} is no folder; choose another"
    try:
        with temporary(existing, directory=True):
            return None
    except OSError as error:
        # A file system such as /proc says that there is no such file, which would not tell what is wrong.
        reason = _UNWRITABLE.get(error.errno or 0, "takes no new files")
        return f"got {folder}, but {existing} {reason}; choose a folder that you may write to"


def check_voxel_size(voxel_size: float) -> None:
    """Raise ``UsageError`` unless a voxel size, mm, is one that scans have."""
    if not 0.5 <= voxel_size <= 8.0:
        raise UsageError(f"--voxel-size: got {voxel_size:g}, expected millimetres between 0.5 and 8")


def _named(text: str) -> str:
    """Put the name of this thread's current file before a message, unless the message contains it."""
    file = _current_file.get()
    return text if file is None or file in text else f"{file}: {text}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
