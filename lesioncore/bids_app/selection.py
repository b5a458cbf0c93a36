"""Selection of the scans of a BIDS dataset by the options of the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesioncore.cli.output import UsageError
from lesioncore.cli.scans import ScanJob, refuse_clashes
from lesioncore.data.json_files import read_object
from lesioncore.data.names import contrast_of
from lesioncore.data.roots import check_inside

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
"""Names of entities in filter files, and their keys in file names."""


@dataclass(frozen=True)
class BidsScan:
    """A scan in a BIDS dataset.

    Attributes
    ----------
    path : Path
        The file.
    relative : str
        Its path from the dataset's root, with slashes.
    entities : dict
        Entities of its name, such as ``{"sub": "01", "ses": "02"}``.
    contrast : str
        What it shows: T1w, T2w, FLAIR, or T1ce for a T1w scan with contrast agent, which no prior is for.
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
    """Find the scans that the options select, sorted by their paths.

    Parameters
    ----------
    dataset : Path
        The BIDS dataset.
    participants, sessions : sequence of str
        Labels to select, with ``sub-`` and ``ses-`` or without; all when empty.
    contrasts : collection of str
        Suffixes to select.
    filters : dict
        From :func:`read_filters`.

    Raises
    ------
    UsageError
        If the dataset does not have a label, no scan is selected, one leads out of the dataset
        (:func:`lesioncore.data.roots.leads_out`), or two would write the same files.
    """
    paths = [path for pattern in ("sub-*/anat/*", "sub-*/ses-*/anat/*") for path in dataset.glob(pattern)]
    scans = [scan for path in paths if (scan := _scan_of(dataset, path)) is not None]
    people = [path.name.removeprefix("sub-") for path in dataset.glob("sub-*") if path.is_dir()]
    visits = [path.name.removeprefix("ses-") for path in dataset.glob("sub-*/ses-*") if path.is_dir()]
    has_labels = label_filter(participants, sessions, people, visits)
    selected = [
        scan
        for scan in scans
        if has_labels(scan.entities)
        and scan.contrast in contrasts
        and _passes(scan, filters.get(scan.contrast.lower(), {}))
    ]
    if not selected:
        raise UsageError(
            f"{dataset}: no scan of {', '.join(sorted(contrasts))} is selected of the {len(scans)} in"
            " sub-*/[ses-*/]anat; see --participant-label, --session-label, --modalities and --bids-filter-file"
        )
    try:
        for scan in selected:
            check_inside(scan.path, dataset, scan.relative)
    except ValueError as error:
        raise UsageError(str(error)) from error
    refuse_clashes([ScanJob(scan.path, None) for scan in selected])
    return sorted(selected, key=lambda scan: scan.relative)


def label_filter(
    participants: Sequence[str], sessions: Sequence[str], people: Collection[str], visits: Collection[str]
) -> Callable[[dict[str, str]], bool]:
    """Return a function that tells by a name's entities whether its participant and session are selected.

    Parameters
    ----------
    participants, sessions : sequence of str
        Labels to select, with ``sub-`` and ``ses-`` or without; all when empty.
    people, visits : collection of str
        Labels that exist.

    Raises
    ------
    UsageError
        If a label to select does not exist.
    """
    selected_people = _labels("--participant-label", "sub-", participants, people)
    selected_visits = _labels("--session-label", "ses-", sessions, visits)

    def has_labels(entities: dict[str, str]) -> bool:
        return (not selected_people or entities["sub"] in selected_people) and (
            not selected_visits or entities.get("ses") in selected_visits
        )

    return has_labels


def read_filters(path: Path | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read a filter file in fMRIPrep's form.

    Parameters
    ----------
    path : Path or None
        JSON: for ``t1w``, ``t2w`` and ``flair`` the values that entities of a name may have. A value is a string, a
        list of values, null for an entity that must be absent, or ``"*"`` for one that must be present.

    Returns
    -------
    filters : dict
        Values by entity, by contrast in lower case.
    unused : list of str
        Keys of the file that are none of these contrasts.

    Raises
    ------
    UsageError
        If the file cannot be read or has another form.
    """
    if path is None:
        return {}, []
    try:
        content = read_object(path)
    except OSError as error:
        raise UsageError(f"--bids-filter-file: {path}: {(error.strerror or 'cannot be read').lower()}") from error
    except ValueError as error:
        raise UsageError(f"--bids-filter-file: {error}") from error
    if not all(isinstance(part, dict) for part in content.values()):
        raise UsageError(
            f'--bids-filter-file: got {path}, expected one object of objects, such as {{"t1w": {{"session": "01"}}}}'
        )
    known = {"t1w", "t2w", "flair"}
    filters = {name: part for name, part in content.items() if name in known}
    allowed = {*_ENTITIES, "datatype", "suffix", "extension"}
    for name, part in filters.items():
        if unknown := sorted(set(part) - allowed):
            raise UsageError(
                f"--bids-filter-file: {path}: {name}: got {', '.join(unknown)}, expected some of"
                f" {', '.join(sorted(allowed))}"
            )
    return filters, sorted(set(content) - known)


def _scan_of(dataset: Path, path: Path) -> BidsScan | None:
    """Return the scan of a path, or None if its name is none of a scan or does not match its folders."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    entities = dict(part.split("-", 1) for part in match["entities"].split("_"))
    folders = "/".join(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities)
    relative = path.relative_to(dataset).as_posix()
    contrast = contrast_of(path) or match["suffix"]  # T1ce where there is a contrast agent
    return BidsScan(path, relative, entities, contrast) if relative.startswith(f"{folders}/anat/") else None


def _labels(option: str, prefix: str, labels: Sequence[str], existing: Collection[str]) -> set[str]:
    """Return labels without their prefix; raise ``UsageError`` for those that do not exist."""
    bare = {label.removeprefix(prefix) for label in labels}
    if unknown := sorted(bare - set(existing)):
        known = ", ".join(sorted(set(existing))) or "none"
        raise UsageError(f"{option}: got {', '.join(unknown)}, expected some of the dataset's: {known}")
    return bare


def _passes(scan: BidsScan, entity_filter: dict[str, Any]) -> bool:
    values: dict[str, str | None] = {name: scan.entities.get(key) for name, key in _ENTITIES.items()}
    values |= {"datatype": "anat", "suffix": scan.contrast, "extension": "".join(scan.path.suffixes)}
    return all(_matches(values[name], value) for name, value in entity_filter.items())


def _matches(value: str | None, expected: Any) -> bool:
    if isinstance(expected, list):
        return any(_matches(value, option) for option in expected)
    if expected is None or value is None:
        return value is None and expected is None
    if expected == "*" or value == str(expected):
        return True
    return value.isdigit() and str(expected).isdigit() and int(value) == int(expected)  # run-01 is run 1
