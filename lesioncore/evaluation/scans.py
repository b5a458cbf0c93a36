"""Loading and checking of an evaluation's scans: patients need a lesion mask, healthy people must have no lesion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lesioncore.data.grid import SliceGrid
from lesioncore.evaluation.boxes import Box, boxes_for
from lesioncore.subjects import FileSubject, Loaded, PhantomSubject, Subject, check_distinct


def load(subject: Subject, voxel_size: float, *, ill: bool) -> Loaded:
    """Read or simulate a scan.

    Parameters
    ----------
    subject : Subject
        Where the scan comes from.
    voxel_size : float
        Of simulated subjects, mm. Files keep their own.
    ill : bool
        The scan is a patient's, not a healthy person's.

    Returns
    -------
    Loaded
        Images of the scan.

    Raises
    ------
    ValueError
        If a patient has no lesion mask, or a healthy person has a lesion.
    """
    loaded = subject.load(SliceGrid(voxel_size, (200, 200)))
    if ill and loaded.lesion is None:
        raise _missing_mask([subject.id])
    if not ill and loaded.lesion is not None and loaded.lesion.any():
        raise ValueError(
            f"{subject.id}: is given as healthy, but its lesion mask is not empty; give it as a patient, or in a table"
            " whose column lesion is empty"
        )
    return loaded


def check_patients(patients: Sequence[Subject], boxes: Mapping[str, Sequence[Box]] | None = None) -> None:
    """Check what is known of patients without loading them.

    Raises
    ------
    ValueError
        If two scans have the same name, or one scan has two; one has neither a lesion mask nor a box; or boxes are of
        none of the people, or of one with several scans.
    """
    check_names("patients", patients)
    boxed = [subject for subject in patients if boxes_for(subject, boxes or {})]
    names = {subject.id for subject in boxed}
    unlabelled = [subject.id for subject in patients if lacks_mask(subject) and subject.id not in names]
    if unlabelled:
        raise _missing_mask(unlabelled)
    if boxes and not boxed:
        raise ValueError(
            f"boxes: got those of {', '.join(list(boxes)[:3])}, but none of a person in DATA, such as"
            f" {', '.join(subject.person for subject in patients[:3])}; name them as they are there"
        )
    for person, count in Counter(subject.person for subject in boxed).items():
        if count > 1:
            raise ValueError(
                f"boxes: {person} has {count} scans, and its boxes do not tell whose they are; give one scan"
            )


def lacks_mask(subject: Subject) -> bool:
    """Whether a scan is known without loading to have no lesion mask."""
    return isinstance(subject, FileSubject | PhantomSubject) and subject.lesion is None


def check_names(argument: str, subjects: Sequence[Subject]) -> None:
    """Raise ``ValueError`` if two scans have the same name, or one has two."""
    for name, count in Counter(subject.id for subject in subjects).items():
        if count > 1:
            raise ValueError(f"{argument}: {name} is named {count} times, expected each scan once; leave one out")
    check_distinct(argument, subjects)


def _missing_mask(names: Sequence[str]) -> ValueError:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ValueError(
        f"patients: {', '.join(names[:3])}{more}: no lesion mask to compare with; name one (a file"
        " ..._label-lesion_mask.nii.gz beside the scan or in derivatives, or a table with the columns image and"
        " lesion), or give the scan as a healthy one"
    )
