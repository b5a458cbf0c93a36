"""A row of the table of bad inputs: what comes in, and what has to come of it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


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
    """

    name: str
    use: Callable[[Path], Any]
    error: type[BaseException] | None
    says: tuple[str, ...] = ()

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


def rows(*inputs: BadInput) -> Any:
    """Parametrize a test over rows of the table, each with its name as the test's."""
    return pytest.mark.parametrize("bad_input", [pytest.param(row, id=row.name.replace(" ", "-")) for row in inputs])
