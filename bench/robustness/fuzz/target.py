"""What a fuzz target is, and edits of JSON that keep it readable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atheris


@dataclass(frozen=True)
class Target:
    """A reader of files, and bytes that it begins with.

    Attributes
    ----------
    name : str
        Name on the command line and in the results.
    use : callable
        Writes the bytes, as files of its choice, into an empty folder and reads them as a user would. It ends well, or
        raises ``ValueError`` or ``OSError`` that names a file of the folder. What it reads it checks by ``assert``.
    seeds : callable
        Makes the bytes of sound files in an empty folder.
    largest : int
        Bytes that an input may have.
    """

    name: str
    use: Callable[[bytes, Path], None]
    seeds: Callable[[Path], list[bytes]]
    largest: int = 16 * 1024


_STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, -(2**63), 10**400, 0.0, -0.0, 1e-9, 1e308, -1.5),
    *(float("nan"), float("inf"), -float("inf"), "", "1", "text", "../../x", "\0", "\ud800", "é", "x" * 5000),
    *([], [[]], [None], [1, 2], [1, 2, 3], ["a"], [1e9] * 300, {}, {"a": 1}, {"": None}, {"1": []}),
)
"""Values that are put where others are."""


def edited(sound: Any, data: bytes) -> bytes:
    """JSON of a sound value in which the bytes choose places and what comes there."""
    values = deepcopy(sound)
    choice = atheris.FuzzedDataProvider(data)
    for _ in range(choice.ConsumeIntInRange(1, 4)):
        places = list(_places(values))
        if not places:
            break
        holder, key = places[choice.ConsumeIntInRange(0, len(places) - 1)]
        kind = choice.ConsumeIntInRange(0, 6)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, its = places[choice.ConsumeIntInRange(0, len(places) - 1)]
            holder[key] = deepcopy(other[its])
        elif kind == 2:
            holder[key] = [holder[key]]
        elif kind == 3 and isinstance(holder, dict):
            holder[choice.ConsumeUnicode(8)] = deepcopy(holder[key])
        elif kind == 4:
            holder[key] = choice.ConsumeFloat()
        elif kind == 5:
            holder[key] = choice.ConsumeUnicode(12)
        else:
            holder[key] = deepcopy(_STRANGE[choice.ConsumeIntInRange(0, len(_STRANGE) - 1)])
    return json.dumps(values).encode("utf-8", "surrogatepass")


def _places(value: Any, most: int = 40) -> Iterator[tuple[Any, Any]]:
    """Holders and keys of all values within another; of long lists the first ones alone."""
    for key in list(value) if isinstance(value, dict) else range(min(len(value), most)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key], most)
