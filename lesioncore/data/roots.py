"""Folders that data may lead to: neither a link nor a path in a table takes what lies outside of what a user named.

A data set that others made could lead to files that its receiver is not to have, by what is computed from them.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOTS = "LESIONCORE_ROOTS"
"""Environment variable with further folders that data may lead to, separated by colons."""

LINKED_OUT = f"a link that leads out of the folder; {ROOTS}=FOLDER names where links may lead"
"""Why a file or folder was left out of a search."""

_DESCRIPTION = "dataset_description.json"


def leads_out(path: Path, root: Path) -> Path | None:
    """Say where a path leads, by the links in it, if that is neither in a folder nor where it may lead besides.

    It may lead to the folders of the environment variable ``LESIONCORE_ROOTS``, and to git-annex's content of a
    repository that the folder lies in, as DataLad's data sets do.

    Parameters
    ----------
    path : Path
        A file or folder, which need not exist.
    root : Path
        The folder that it belongs to.

    Returns
    -------
    Path or None
        The real place, where that is outside.
    """
    real, folder = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    named = [Path(os.path.realpath(name)) for name in os.environ.get(ROOTS, "").split(os.pathsep) if name]
    if any(real.is_relative_to(place) for place in (folder, *named)):
        return None
    for repository in (folder, *folder.parents):
        git = repository / ".git"
        # Only what has the annex's form: a link must not lead to whatever else is kept in a repository.
        if real.is_relative_to(git) and "annex/objects/" in real.relative_to(git).as_posix():
            return None
    return real


def check_inside(path: Path, root: Path, name: str) -> None:
    """Check that a path does not lead out of a folder (:func:`leads_out`).

    Parameters
    ----------
    path, root
        As there.
    name : str
        What errors call the path.

    Raises
    ------
    ValueError
        If it does; the message says how to allow it.
    """
    if (real := leads_out(path, root)) is not None:
        raise ValueError(
            f"{name}: leads to {real}, outside of {root}; if you trust where that is from, name the folder:"
            f" {ROOTS}={_data_of(real)}"
        )


def _data_of(real: Path) -> Path:
    """The folder to name for a file: its BIDS data set, or what its person's folder lies in, or else its own."""
    people = (place.parent for place in real.parents if place.name.startswith("sub-"))
    place = dataset_of(real.parent)
    return place if (place / _DESCRIPTION).is_file() else next(people, place)


def dataset_of(folder: Path) -> Path:
    """The nearest folder above that is a BIDS data set by its description; the folder itself where there is none."""
    folder = Path(os.path.abspath(folder))
    places = (place for place in (folder, *folder.parents) if (place / _DESCRIPTION).is_file())
    return next(places, folder)
