"""The table of bad inputs: what comes in, and what has to come of it. `docs/bad-input.md` is made from it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from lesioncore.cli import main

REFUSED, WARNED, TAKEN = "refused", "taken, with a warning", "taken"
TestT = TypeVar("TestT", bound=Callable[..., Any])


class Line(NamedTuple):
    """A line of the page: what is wrong, what comes of it, the essential words, and how many kinds it stands for."""

    name: str
    outcome: str
    words: tuple[str, ...]
    kinds: int = 1


TABLE: dict[str, dict[str, Line]] = {}
"""Lines by the titles of their tables and their names, as the modules of `tests/bad_input` fill it in."""


class CommandRefusedError(Exception):
    """What a command line says that does not end well."""


@dataclass(frozen=True)
class BadInput:
    """An input that could give a wrong answer, and its outcome.

    Attributes
    ----------
    name : str
        What is wrong with it, in words: the row's title.
    use : callable
        Makes the input in the folder that it is given, uses it as a user would, and returns what came. It may check
        that value itself.
    error : type or None
        Exception that has to come; None where the input is taken.
    says : tuple of str
        Regular expressions, each of which the error, or one of the warnings, has to match. An input that is taken
        without a word has none.
    kind : str, optional
        Name of the line of the page that tells of this row and others; its own when absent.
    """

    name: str
    use: Callable[[Path], Any]
    error: type[BaseException] | None
    says: tuple[str, ...] = ()
    kind: str | None = None

    @property
    def line(self) -> Line:
        """The row's line of the page."""
        outcome = REFUSED if self.error is not None else WARNED if self.says else TAKEN
        return Line(self.kind or self.name, outcome, tuple(map(_words, self.says)))

    def check(self, folder: Path) -> None:
        """Use the input and compare what comes with the outcome."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if self.error is None:
                self.use(folder)
                said = [str(warning.message) for warning in caught]
            else:
                with pytest.raises(self.error) as raised:
                    self.use(folder)
                said = [str(raised.value)]
        for pattern in self.says:
            assert any(re.search(pattern, text) for text in said), f"{pattern!r} is in none of {said}"
        if not self.says and self.error is None:
            assert not said


def rows(title: str, *inputs: BadInput) -> Any:
    """Parametrize a test over rows of the table, each with its name as the test's, which are listed under a title."""
    for row in inputs:
        _list(title, row.line)
    return pytest.mark.parametrize("bad_input", [pytest.param(row, id=row.name.replace(" ", "-")) for row in inputs])


def listed(title: str, name: str, outcome: str, *words: str, kinds: int = 1) -> Callable[[TestT], TestT]:
    """List a test of another form under a title: what it is about, what comes of it, and the essential words."""
    _list(title, Line(name, outcome, words, kinds))
    return lambda test: test


def _list(title: str, line: Line) -> None:
    lines = TABLE.setdefault(title, {})
    if (first := lines.get(line.name)) is None:
        lines[line.name] = line
    elif first.outcome != line.outcome:
        raise ValueError(f"{title}, {line.name}: got the outcomes {first.outcome!r} and {line.outcome!r}, expected one")
    else:
        shared = tuple(word for word in first.words if word in line.words)
        lines[line.name] = Line(line.name, line.outcome, shared, first.kinds + line.kinds)


def _words(pattern: str) -> str:
    """A regular expression as the words that it stands for, with dots for what varies."""
    text = re.sub(r"\(([^()|]*)\|[^()]*\)", r"\1", pattern).split("|")[0]  # the first of several
    text = re.sub(r".\?", "", text)
    text = re.sub(r"\[(\w)\w*\](?![*+])", r"\1", text)
    text = re.sub(r"(\\d|\.|\[[^\]]*\])[*+]", "...", text)
    return re.sub(r"\\(.)", r"\1", text)


def command(*words: str | Path) -> None:
    """Run a command line as a user would: its errors are raised, and its warnings warned."""
    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(said):
        code = main(list(map(str, words)))
    if code != 0:
        raise CommandRefusedError(said.getvalue())
    for line in said.getvalue().splitlines():
        if line.startswith("warning: "):
            warnings.warn(line.removeprefix("warning: "), stacklevel=2)
