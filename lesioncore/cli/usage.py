"""What a command has to be given, in one line."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import tyro

_POSITIONAL = get_args(tyro.conf.Positional[int])[1]
"""Mark of a field that is given by its place."""


def usage(name: str, command: type) -> str:
    """Describe a command line with all that a command needs, such as ``lesioncore restore INPUT [INPUT ...] -o OUT``.

    Parameters
    ----------
    name : str
        Name of the command.
    command : type
        Its dataclass. Of subcommands the first stands for all.
    """
    needed = list(_needed(command))
    return " ".join(["lesioncore", name, *sorted(needed, key=lambda text: text.startswith("-"))])


def _needed(command: type) -> Iterator[str]:
    hints = get_type_hints(command, include_extras=True)
    for field in fields(command):
        if field.default is not MISSING or field.default_factory is not MISSING:
            continue
        hint, extras = _split(hints[field.name])
        if get_origin(hint) in (Union, types.UnionType):
            yield field.name.upper()
            yield from _needed(_split(get_args(hint)[0])[0])
            continue
        text = next((text for extra in extras if (text := getattr(extra, "metavar", None))), None)
        text = text or "{" + ",".join(map(str, get_args(hint))) + "}"
        names = [name for extra in extras for name in getattr(extra, "aliases", None) or ()]
        option = names[0] if names else f"--{field.name.replace('_', '-')}"
        yield text if _POSITIONAL in extras else f"{option} {text}"


def _split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without and with what it is annotated with."""
    return (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
