"""Priors of other packages, found by the entry points of the group ``lesioncore.priors``.

A package offers a prior in its ``pyproject.toml``::

    [project.entry-points."lesioncore.priors"]
    my-flow = "my_package.priors:load_flow"

The entry point is a callable that takes no argument, or the prior's name, and returns an object with ``elbo(x)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from lesioncore.models.prior import Prior, metadata_of
from lesioncore.prior_names import origin, plugin_entries, plugin_priors


def load_plugin(name: str) -> Prior:
    """Load a prior of another package.

    Raises
    ------
    KeyError
        If no package offers `name`.
    ValueError
        If several packages offer `name`.
    ImportError
        If the entry point cannot be imported.
    RuntimeError
        If its callable fails.
    TypeError
        If it is not callable, or what it returns is no prior.
    """
    entries = plugin_entries()[name]
    if len(entries) > 1:
        raise ValueError(
            f"name: {name!r} is offered by several packages ({plugin_priors()[name]}); uninstall all but one"
        )
    (entry,) = entries
    label = f"prior {name!r} of {origin(entry)} ({entry.value})"
    try:
        make = entry.load()
    except Exception as error:
        raise ImportError(f"{label}: cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(make):
        raise TypeError(f"{label}: got {type(make).__name__}, expected a callable that returns a prior")
    try:
        prior = make(name) if _takes_name(make) else make()
    except Exception as error:
        raise RuntimeError(f"{label}: failed to load: {type(error).__name__}: {error}") from error
    try:
        metadata_of(prior)
    except TypeError as error:
        raise TypeError(f"{label}: returned no prior: {error}") from error
    return prior


def _takes_name(make: Callable[..., Any]) -> bool:
    """Whether a callable cannot be called without an argument."""
    try:
        inspect.signature(make).bind()
    except TypeError:
        return True
    except ValueError:  # built-in without a signature
        return False
    return False
