"""Dataclasses whose fields are options of one command line, without a prefix, inside others."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

import tyro

OptionsT = TypeVar("OptionsT")
Flat: TypeAlias = Annotated[OptionsT, tyro.conf.arg(name="")]
"""A field whose own fields are options of the command line without a prefix."""
