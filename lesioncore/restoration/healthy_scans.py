"""Healthy scans that thresholds are made from: each once, all of one contrast, and named where one cannot be used."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nibabel.spatialimages import SpatialImage

from lesioncore.data.names import contrast_of
from lesioncore.data.stack import SliceStack
from lesioncore.models.prior import PriorMetadata
from lesioncore.preprocess.pipeline import Step
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.prior_choice import doubt
from lesioncore.restoration.scan import Scan
from lesioncore.restoration.volumes import Volume, check_several


def healthy_scans(
    healthy: Sequence[Volume | SliceStack],
    metadata: PriorMetadata,
    *,
    masks: Sequence[Volume] | None = None,
    normalized: bool = False,
    steps: Sequence[Step] | None = None,
) -> Iterator[SliceStack]:
    """Prepare healthy scans one after the other, and check that they can count as people.

    Parameters
    ----------
    healthy : sequence of volumes or SliceStack
        Scans; those that are prepared already are taken as they are.
    metadata : PriorMetadata
        Of the prior or detector that they are prepared for.
    masks : sequence of volumes, optional
        Brain masks; derived when absent.
    normalized, steps
        As for :func:`lesioncore.restoration.prepare.prepare`.

    Raises
    ------
    ValueError, TypeError
        If there are no scans or another number of masks, a scan cannot be used, is the same as an earlier one, or is of
        another contrast by its intensities; the message names it.
    """
    check_several(healthy, masks)
    seen: dict[bytes, int] = {}
    names = [_name(scan, number) for number, scan in enumerate(healthy)]
    for number, scan in enumerate(healthy):
        with about(names[number]):
            mask = None if masks is None else masks[number]
            stack = (
                scan
                if isinstance(scan, SliceStack)
                else prepare(scan, metadata, mask=mask, normalized=normalized, steps=steps)
            )
            if isinstance(stack, Scan):
                check_contrast(stack, metadata.modality)
        first = seen.setdefault(_digest(stack), number)
        if first != number:
            raise ValueError(
                f"healthy: {names[first]} and {names[number]} are the same scan, which would count as two people; leave"
                " one out"
            )
        yield stack


@contextmanager
def about(name: str) -> Iterator[None]:
    """Put a scan's name before the message of a ``ValueError`` or ``TypeError`` that does not contain it."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if name in str(error):
            raise
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{name}: {error}") from error


def check_contrast(scan: Scan, contrast: str | None) -> None:
    """Check that a scan's intensities are those of a contrast, where it is registered and one that can be told.

    Raises
    ------
    ValueError
        If they fit another one better, and the scan is a file whose name tells no contrast.

    Warns
    -----
    UserWarning
        If they do, though the file's name tells this one, or there is no file.
    """
    mismatch = doubt(scan, contrast)
    if mismatch is None:
        return
    file = _file(scan)
    if file is not None and contrast_of(file) is None:
        raise ValueError(
            f"{mismatch}, and its name tells no contrast; leave it out, or name it"
            f" ..._{contrast}{''.join(file.suffixes)} if it is one"
        )
    warnings.warn(f"{file or 'scan'}: {mismatch}; leave it out if that is true", stacklevel=2)


def _name(scan: Any, number: int) -> str:
    """What a healthy scan is called in errors: its file, or its place in the list."""
    if isinstance(scan, (str, os.PathLike)):
        return os.fspath(scan)
    file = _file(scan)
    return f"healthy[{number}]" if file is None else str(file)


def _file(scan: Any) -> Path | None:
    """File of a scan or an image; None where it is not known."""
    if isinstance(scan, Scan):
        return scan.path or _file(scan.source)
    name = scan.get_filename() if isinstance(scan, SpatialImage) else None
    return None if name is None else Path(name)


def _digest(stack: SliceStack) -> bytes:
    """SHA-256 of a scan's slices, which are the same for the same scan in any format and under any name."""
    return hashlib.sha256(stack.slices.contiguous().cpu().numpy().tobytes()).digest()
