"""Which scans of a BIDS dataset a command line means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesioncore.cli.output import UsageError
from lesioncore.cli.scans import ScanJob, refuse_clashes

_NAME = re.compile(
    r"(?P<entities>sub-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9]+)*)_(?P<suffix>T1w|T2w|FLAIR)(?P<extension>\.nii(\.gz)?)"
)
_ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "ceagent": "ce",
    "tracer": "trc",
    "reconstruction": "rec",
    "run": "run",
    "echo": "echo",
    "part": "part",
    "chunk": "chunk",
    "task": "task",
    "direction": "dir",
    "inv": "inv",
}
"""Entities as filter files call them, and as file names do."""


@dataclass(frozen=True)
class BidsScan:
    """A scan of a BIDS dataset.

    Attributes
    ----------
    path : Path
        The file.
    relative : str
        Its place in the dataset, with slashes.
    entities : dict
        Entities of its name, such as ``{"sub": "01", "ses": "02"}``.
    contrast : str
        Its suffix: T1w, T2w or FLAIR.
    """

    path: Path
    relative: str
    entities: dict[str, str]
    contrast: str


def find_scans(
    dataset: Path,
    participants: Sequence[str],
    sessions: Sequence[str],
    contrasts: Collection[str],
    filters: dict[str, dict[str, Any]],
) -> list[BidsScan]:
    """Find the scans that are wanted, in the order of their places.

    Parameters
    ----------
    dataset : Path
        The BIDS dataset.
    participants, sessions : sequence of str
        Labels, with ``sub-`` and ``ses-`` or without; all when empty.
    contrasts : collection of str
        Suffixes.
    filters : dict
        From :func:`read_filters`.

    Raises
    ------
    UsageError
        If a label is none of the dataset's, no scan is left, or two would write the same files.
    """
    found = []
    for place in ("sub-*/anat/*", "sub-*/ses-*/anat/*"):
        for path in dataset.glob(place):
            scan = _scan_of(dataset, path)
            if scan is not None:
                found.append(scan)
    people = {path.name.removeprefix("sub-") for path in dataset.glob("sub-*") if path.is_dir()}
    visits = {path.name.removeprefix("ses-") for path in dataset.glob("sub-*/ses-*") if path.is_dir()}
    keep = label_filter(participants, sessions, people, visits)
    wanted = [
        scan
        for scan in found
        if keep(scan.entities) and scan.contrast in contrasts and _passes(scan, filters.get(scan.contrast.lower(), {}))
    ]
    if not wanted:
        raise UsageError(
            f"{dataset}: no scan of {', '.join(sorted(contrasts))} is left of the {len(found)} in sub-*/[ses-*/]anat;"
            " see --participant-label, --session-label, --modalities and --bids-filter-file"
        )
    refuse_clashes([ScanJob(scan.path, None) for scan in wanted])
    return sorted(wanted, key=lambda scan: scan.relative)


def label_filter(
    participants: Sequence[str], sessions: Sequence[str], people: Collection[str], visits: Collection[str]
) -> Callable[[dict[str, str]], bool]:
    """Make a test of entities by labels of participants and sessions.

    Parameters
    ----------
    participants, sessions : sequence of str
        Those wanted, with ``sub-`` and ``ses-`` or without; all when empty.
    people, visits : collection of str
        Those that there are.

    Raises
    ------
    UsageError
        If one is wanted that there is not.
    """
    wanted_people = _labels("--participant-label", "sub-", participants, people)
    wanted_visits = _labels("--session-label", "ses-", sessions, visits)

    def keep(entities: dict[str, str]) -> bool:
        return (not wanted_people or entities["sub"] in wanted_people) and (
            not wanted_visits or entities.get("ses") in wanted_visits
        )

    return keep


def read_filters(path: Path | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read a filter file in fMRIPrep's form.

    Parameters
    ----------
    path : Path or None
        JSON: for ``t1w``, ``t2w`` and ``flair`` the values that entities of the names may have. A value is a text, a
        list of them, null for an entity that must not be there, or ``"*"`` for one that must.

    Returns
    -------
    filters : dict
        By contrast in small letters.
    unused : list of str
        Other parts of the file.

    Raises
    ------
    UsageError
        If the file is none of that form.
    """
    if path is None:
        return {}, []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--bids-filter-file: {path}: {(error.strerror or 'cannot be read').lower()}") from error
    except ValueError as error:
        raise UsageError(f"--bids-filter-file: {path} is no JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
        raise UsageError(
            f'--bids-filter-file: got {path}, expected one object of objects, such as {{"t1w": {{"session": "01"}}}}'
        )
    known = {"t1w", "t2w", "flair"}
    filters = {name: part for name, part in content.items() if name in known}
    allowed = {*_ENTITIES, "datatype", "suffix", "extension"}
    for name, part in filters.items():
        if unknown := sorted(set(part) - allowed):
            raise UsageError(
                f"--bids-filter-file: {name}: got {', '.join(unknown)}, expected some of {', '.join(sorted(allowed))}"
            )
    return filters, sorted(set(content) - known)


def _scan_of(dataset: Path, path: Path) -> BidsScan | None:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    entities = dict(part.split("-", 1) for part in match["entities"].split("_"))
    folders = "/".join(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities)
    relative = path.relative_to(dataset).as_posix()
    return BidsScan(path, relative, entities, match["suffix"]) if relative.startswith(f"{folders}/anat/") else None


def _labels(option: str, prefix: str, given: Sequence[str], known: Collection[str]) -> set[str]:
    labels = {label.removeprefix(prefix) for label in given}
    if unknown := sorted(labels - set(known)):
        there = ", ".join(sorted(known)) or "none"
        raise UsageError(f"{option}: got {', '.join(unknown)}, expected some of those that there are: {there}")
    return labels


def _passes(scan: BidsScan, wanted: dict[str, Any]) -> bool:
    values: dict[str, str | None] = {name: scan.entities.get(key) for name, key in _ENTITIES.items()}
    values |= {"datatype": "anat", "suffix": scan.contrast, "extension": "".join(scan.path.suffixes)}
    return all(_matches(values[name], value) for name, value in wanted.items())


def _matches(value: str | None, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_matches(value, one) for one in wanted)
    if wanted is None or value is None:
        return value is None and wanted is None
    if wanted == "*" or value == str(wanted):
        return True
    return value.isdigit() and str(wanted).isdigit() and int(value) == int(wanted)  # run-01 is run 1
