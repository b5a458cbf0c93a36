"""What a command line names and is not there: all of it is told at once, before anything large is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from lesioncore import prior_names
from lesioncore.cli.methods import split_method
from lesioncore.cli.output import CommandError, why_unwritable
from lesioncore.cli.scans import check_masks
from lesioncore.data.files import absent

_LISTED = 10
"""Files that a message names; of more it says how many there are."""


def check_named(command: object) -> None:
    """Check that what a command line names is there, that masks fit, and that output folders can be written.

    Fields of one name mean the same in all commands, so that the name decides what is looked for.

    Raises
    ------
    CommandError
        If something is missing; the message names all of it.
    UsageError
        If a mask is none of its scan's brain.
    """
    fields = dict(vars(command))
    if is_dataclass(model := fields.get("model")):  # of lesioncore train, whose subcommand it is
        fields |= vars(model)
    if fields.get("dry_run"):
        fields.pop("out", None)  # nothing is written
    given = [(argument, check, fields[name]) for name, (argument, check) in _CHECKS.items() if fields.get(name)]
    problems = [f"{argument}: {problem}" for argument, check, value in given for problem in check(value)]
    if problems:
        raise CommandError("; ".join(problems))
    if masks := fields.get("mask"):
        check_masks(fields["inputs"], masks)


def _files(paths: Iterable[Path]) -> list[str]:
    """What is said of the files and folders that are not there, or whose content is not."""
    reasons: dict[str, list[str]] = {}
    for path in paths:
        reason = absent(path) or (None if path.exists() else "no such file or folder")
        if reason is not None:
            reasons.setdefault(reason, []).append(str(path))
    return [f"{_listed(names)}: {reason}" for reason, names in reasons.items()]


def _scans(paths: Sequence[Path]) -> list[str]:
    """As :func:`_files`; scans whose content is not here fail alone, as those in folders do."""
    return _files(path for path in paths if not os.path.lexists(path))


def _folders(paths: Sequence[Path]) -> list[str]:
    names = [str(path) for path in paths if not path.is_dir()]
    return [f"{_listed(names)}: no such folder; give one with results of lesioncore restore"] * bool(names)


def _data(texts: Sequence[str]) -> list[str]:
    return _files(path for text in texts if (path := _file_of(text)) is not None)


def _file_of(text: str) -> Path | None:
    """The file or folder that data are in (:func:`lesioncore.subjects.find_subjects`); None for simulated ones."""
    if text.startswith("phantom:"):
        return None
    table, _, _ = text.rpartition(":")
    return Path(table if table.endswith("split.tsv") else text)


def _masks(paths: Sequence[Path]) -> list[str]:
    from lesioncore.preprocess.external import is_tool

    return [] if len(paths) == 1 and is_tool(str(paths[0])) else _files(paths)


def _prior(name: str) -> list[str]:
    return [] if name == prior_names.AUTO or prior_names.is_known(name) else [prior_names.unknown(name)]


def _methods(texts: Sequence[str]) -> list[str]:
    models = [split_method(text)[1] for text in texts]
    return [prior_names.unknown(name) for name in dict.fromkeys(models) if not prior_names.is_known(name)]


def _output(folder: Path) -> list[str]:
    reason = why_unwritable(folder)
    return [] if reason is None else [reason]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


_CHECKS: dict[str, tuple[str, Callable[[Any], list[str]]]] = {
    "inputs": ("INPUT", _scans),
    "results": ("RESULTS", _folders),
    "data": ("DATA", _data),
    "scans": ("--scans", _files),
    "healthy": ("--healthy", _data),
    "calibration": ("--calibration", _data),
    "validation": ("--validation", _data),
    "mask": ("--mask", _masks),
    "boxes": ("--boxes", lambda path: _files([path])),
    "bids_filter_file": ("--bids-filter-file", lambda path: _files([path])),
    "prior": ("--prior", _prior),
    "methods": ("--methods", _methods),
    "start_from": ("--start-from", lambda name: _methods([name])),
    "output": ("--output", _output),
    "out": ("OUT", _output),
    "output_dir": ("output_dir", _output),
    "work_dir": ("--work-dir", _output),
    "cache": ("--cache", _output),
}
"""What a command's field is called on the command line, and what finds out what is missing of its value."""
