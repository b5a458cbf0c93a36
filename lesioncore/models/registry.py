"""Kinds of models that a model's directory can hold: a short name for each class and its configuration's class."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from torch import nn

_KINDS: dict[str, tuple[type[nn.Module], type[Any]]] = {}


def register_model(kind: str, model: type[nn.Module], config: type[Any]) -> None:
    """Let :func:`~lesioncore.models.io.save_model` and ``load_model`` know a class of models.

    Parameters
    ----------
    kind : str
        What ``config.json`` calls it, such as ``"vae"``.
    model : type
        A module made by ``model(config)``, with attributes ``config`` and ``metadata`` (``PriorMetadata`` or None). All
        that it learns is in its ``state_dict``. It is first made without memory, on torch's device ``meta``, so that it
        must not look at values of its tensors.
    config : type
        Dataclass of JSON-able fields that accepts lists for tuples. Stored values are checked against its annotations
        (:func:`lesioncore.data.json_form.check_form`).

    Raises
    ------
    ValueError
        If another class has that name.
    TypeError
        If `config` is no dataclass.
    """
    if not is_dataclass(config):
        raise TypeError(f"config: got {config!r}, expected a dataclass")
    if _KINDS.setdefault(kind, (model, config)) != (model, config):
        raise ValueError(f"kind: {kind!r} is {_KINDS[kind][0].__qualname__} already; choose another name")


def registered_kinds() -> list[str]:
    """Names of all kinds."""
    return sorted(_KINDS)


def classes_of(kind: Any) -> tuple[type[nn.Module], type[Any]]:
    """Classes of a kind's models and of their configurations.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind not in registered_kinds():
        raise ValueError(f"kind: got {kind!r}, expected one of {registered_kinds()}; a newer lesioncore may be needed")
    return _KINDS[kind]


def kind_of(model: Any) -> str:
    """Kind of a model.

    Raises
    ------
    TypeError
        If its class is not registered. A subclass of a registered one is another model, and has to be registered too.
    """
    for kind, (known, _) in _KINDS.items():
        if type(model) is known:
            return kind
    raise TypeError(
        f"model: got {type(model).__name__}, expected one of {sorted(known.__name__ for known, _ in _KINDS.values())};"
        " lesioncore.models.register_model adds others"
    )
