"""Search for one scan under two names, who would count as two people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lesioncore.data.files import file_digest
from lesioncore.subjects.subject import FileSubject, Subject


def same_scan(subjects: Sequence[Subject]) -> tuple[Subject, Subject] | None:
    """Find two subjects of one image, such as copies of a file, or a link and its target.

    Parameters
    ----------
    subjects : sequence of Subject
        Subjects. Files whose length no other has are not read.

    Returns
    -------
    tuple of Subject or None
        The first ones that are the same, in their order; None where all differ.
    """
    lengths = Counter(map(_length, subjects))
    seen: dict[str, Subject] = {}
    for subject in subjects:
        if lengths[_length(subject)] > 1:
            content = file_digest(subject.scan).hex() if isinstance(subject, FileSubject) else subject.key()
            first = seen.setdefault(content, subject)
            if first is not subject:
                return first, subject
    return None


def check_distinct(argument: str, subjects: Sequence[Subject]) -> None:
    """Raise ``ValueError`` if two subjects are of one image; it calls them what `argument` says."""
    if (both := same_scan(subjects)) is not None:
        first, second = both
        raise ValueError(
            f"{argument}: {first.id} and {second.id} are the same scan, which would count as two people; leave one out"
        )


def _length(subject: Subject) -> int | None:
    """Bytes of a file; None for a simulated scan."""
    return subject.scan.stat().st_size if isinstance(subject, FileSubject) else None
