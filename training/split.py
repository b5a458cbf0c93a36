"""Split of people into training and validation, and the reference people of the intensity scale."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from lesioncore.data.grid import SliceGrid
from lesioncore.models import PriorMetadata
from lesioncore.preprocess.intensity import IntensityScale
from lesioncore.preprocess.pipeline import Step
from lesioncore.preprocess.scale import Scale
from lesioncore.preprocess.tissue_scale import TissueScale
from lesioncore.restoration.healthy_scans import about
from lesioncore.subjects import Subject

AnySubject = TypeVar("AnySubject", bound=Subject)
_REFERENCE_PEOPLE = 12


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
            "subjects: got scans of one person, expected at least two, one of them for validation; give"
            " validation scans of their own"
        )
    ranked = sorted(people, key=lambda person: hashlib.sha256(f"{seed}/{person}".encode()).digest())
    held_out = set(ranked[: min(max(1, round(fraction * len(people))), len(people) - 1)])
    return (
        [subject for subject in subjects if subject.person not in held_out],
        [subject for subject in subjects if subject.person in held_out],
    )


def reference_intensity(subjects: Sequence[Subject], grid: SliceGrid, steps: tuple[Step, ...] = ()) -> Scale:
    """Intensities of reference people, to which all others are brought.

    Where scans are registered, the tissues of twelve people; else the landmarks of the first one (paper section 3.1).

    Parameters
    ----------
    subjects : sequence of Subject
        Healthy subjects.
    grid : SliceGrid
        The grid that is trained on, at whose resolution intensities are compared.
    steps : tuple of {"extract", "register", "bias"}
        How the scans are preprocessed.

    Raises
    ------
    ValueError, OSError
        If their images cannot be used; the message names the subject.
    """
    metadata = PriorMetadata("reference", grid=grid, preprocessing=steps)
    if "register" not in steps:
        with about(subjects[0].id):
            scan = subjects[0].load(grid).prepare(metadata)
            return IntensityScale.fit(scan.slices[scan.mask])
    places = np.linspace(0, len(subjects) - 1, min(_REFERENCE_PEOPLE, len(subjects))).round().astype(int)
    tissues = []
    for place in places:
        with about(subjects[place].id):
            tissues.append(subjects[place].load(grid).prepare(metadata).tissues())
    return TissueScale.fit(tissues)
