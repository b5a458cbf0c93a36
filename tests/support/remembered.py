"""Slow functions that several tests call with the same arrays, and that are computed once for all of them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import Any

import pytest


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that gives what it gave before where its arguments are equal; they must be of kinds that pickle."""
    known: dict[bytes, Any] = {}

    @wraps(function)
    def once(*arguments: Any, **options: Any) -> Any:
        key = hashlib.sha256(pickle.dumps((arguments, sorted(options.items())))).digest()
        if key not in known:
            known[key] = function(*arguments, **options)
        return known[key]

    return once


@contextmanager
def computed_once(*places: tuple[str, str]) -> Iterator[None]:
    """Let modules remember what the functions of some names in them give, and forget it in the end."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in places:
            home = import_module(module)
            patch.setattr(home, name, remembered(getattr(home, name)))
        yield
