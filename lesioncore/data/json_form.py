"""The form of JSON values, said by types as Python's annotations are: what is expected at each place."""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints, is_typeddict

Unbounded: TypeAlias = Annotated[float, "infinite, too"]
"""A number that may be infinite; a plain ``float`` is finite."""

_LARGEST_INTEGER = 2**63 - 1
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 40


def check_form(value: Any, form: Any, where: str = "") -> None:
    """Check that a value, as JSON holds it, has a form.

    Parameters
    ----------
    value : object
        The value.
    form : type
        ``bool``, ``int``, ``float`` (finite), `Unbounded`, ``str``, ``Literal``, ``list[...]``, ``tuple[...]`` (a list
        in JSON), ``dict[str, ...]``, a ``TypedDict``, a dataclass (an object of its fields), or one of these or None.
        Any other form is not checked.
    where : str
        Place of the value, such as ``grid.shape``.

    Raises
    ------
    ValueError
        If it has another form; the message says at which place.
    """
    origin, arguments = get_origin(form), get_args(form)
    if origin in (Union, types.UnionType):
        (form, *others) = [argument for argument in arguments if argument is not types.NoneType]
        if value is not None and not others:
            check_form(value, form, where)
    elif origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise _error(where, value, f"one of {', '.join(map(repr, arguments))}")
    elif origin in (list, tuple):
        _check_list(value, arguments, where)
    elif origin is dict:
        if not isinstance(value, dict):
            raise _error(where, value, "an object")
        for name, item in value.items():
            check_form(item, arguments[1], _inside(where, name))
    elif is_typeddict(form):
        _check_object(value, _forms(form), form.__required_keys__, where)
    elif is_dataclass(form):
        needed = [field.name for field in fields(form) if field.default is field.default_factory is MISSING]
        _check_object(value, _forms(form), needed, where)
    elif form in _SIMPLE and not _SIMPLE[form][0](value):
        raise _error(where, value, _SIMPLE[form][1])


def _forms(form: Any) -> dict[str, Any]:
    """Forms of the fields of an object."""
    try:
        return get_type_hints(form, include_extras=True)
    except NameError:  # a class of another package, with names that its type checker alone knows
        return dict.fromkeys(form.__annotations__, Any)


def _check_list(value: Any, forms: tuple[Any, ...], where: str) -> None:
    if not isinstance(value, (list, tuple)):
        raise _error(where, value, "a list")
    if len(forms) == 1 or forms[1:] == (...,):
        forms = (forms[0],) * len(value)
    elif len(value) != len(forms):
        raise _error(where, value, f"a list of {len(forms)}")
    if len(set(forms)) == 1 and forms[0] in _SIMPLE and all(map(_SIMPLE[forms[0]][0], value)):  # long lists of numbers
        return
    for number, (item, form) in enumerate(zip(value, forms, strict=True)):
        check_form(item, form, f"{where}[{number}]")


def _check_object(value: Any, forms: Mapping[str, Any], needed: Iterable[str], where: str) -> None:
    if not isinstance(value, dict):
        raise _error(where, value, "an object")
    if missing := [name for name in needed if name not in value]:
        raise ValueError(f"{_inside(where, missing[0])}: is missing")
    if unknown := [name for name in value if name not in forms]:
        raise ValueError(
            f"{_SHORT.repr(_inside(where, unknown[0]))}: is unknown, expected {', '.join(forms)}; a newer lesioncore"
            " may know it"
        )
    for name, item in value.items():
        check_form(item, forms[name], _inside(where, name))


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= _LARGEST_INTEGER)


_SIMPLE = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: type(value) is int and abs(value) <= _LARGEST_INTEGER, "a whole number of at most 2^63"),
    float: (lambda value: _is_number(value) and math.isfinite(value), "a finite number"),
    Unbounded: (lambda value: _is_number(value) and not math.isnan(value), "a number"),
    str: (lambda value: isinstance(value, str), "text"),
}
"""Whether a value has a simple form, and the form in words."""


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _error(where: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{where}: got {_SHORT.repr(value)}, expected {expected}")
