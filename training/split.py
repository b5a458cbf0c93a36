"""Who is held out, and who the others' intensities are brought to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from lesioncore.data.grid import SliceGrid
from lesioncore.preprocess import IntensityScale
from lesioncore.priors import PriorMetadata
from lesioncore.scan import prepare
from lesioncore.subjects import Subject

AnySubject = TypeVar("AnySubject", bound=Subject)


def split_subjects(
    subjects: Sequence[AnySubject], fraction: float, seed: int
) -> tuple[list[AnySubject], list[AnySubject]]:
    """Hold out a share of the people for validation, with all of their scans.

    Who is held out depends on the seed and the names alone, in whatever order they come, and mostly stays when people
    are added.

    Parameters
    ----------
    subjects : sequence of Subject
        Of two people or more.
    fraction : float
        Share of the people that is held out, rounded; at least one is, and at least one is not.
    seed : int
        Of the choice.

    Returns
    -------
    train, validation : list of Subject
        In the order of `subjects`.

    Raises
    ------
    ValueError
        If there are fewer than two people, or `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction: got {fraction}, expected a share between 0 and 1")
    people = {subject.person for subject in subjects}
    if len(people) < 2:
        raise ValueError(
            f"subjects: got scans of {len(people)} people, expected at least two, one of them for validation; give"
            " validation scans of their own"
        )
    ranked = sorted(people, key=lambda person: hashlib.sha256(f"{seed}/{person}".encode()).digest())
    held_out = set(ranked[: min(max(1, round(fraction * len(people))), len(people) - 1)])
    return (
        [subject for subject in subjects if subject.person not in held_out],
        [subject for subject in subjects if subject.person in held_out],
    )


def reference_intensity(subject: Subject, grid: SliceGrid) -> IntensityScale:
    """Intensities of the reference subject, to which all others are brought (paper section 3.1).

    Parameters
    ----------
    subject : Subject
        One healthy subject.
    grid : SliceGrid
        The grid that is trained on, at whose resolution intensities are compared.

    Raises
    ------
    ValueError, OSError
        If its images cannot be used.
    """
    loaded = subject.load(grid)
    scan = prepare(loaded.volume, PriorMetadata("reference", grid=grid), mask=loaded.mask, affine=loaded.affine)
    return IntensityScale.fit(scan.slices[scan.mask])
