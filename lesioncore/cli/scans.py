"""The files that a command line names: scans in files and folders, their masks, and existing results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lesioncore.cli.output import UsageError
from lesioncore.data.bids import SAVED, scans_in, subject_of

_EXTENSION = re.compile(r"(\.nii\.gz|\.json|\.png|\.html)$")


@dataclass(frozen=True)
class ScanJob:
    """One scan to restore; its mask is a file or the name of a tool."""

    scan: Path
    mask: Path | str | None


@dataclass(frozen=True)
class Selection:
    """The scans that a command line selects, and how many files in its folders were left out, by reason."""

    jobs: list[ScanJob]
    skipped: Counter[str]


def select(inputs: Sequence[Path], masks: Sequence[Path], modality: str | None) -> Selection:
    """Find the scans in files and folders.

    A folder stands for the scans in it and below (:func:`lesioncore.data.bids.scans_in`).

    Parameters
    ----------
    inputs : sequence of Path
        Files and folders. A file is selected even if it does not exist; reading it will fail.
    masks : sequence of Path
        Brain masks: one for each input, which must all be files then; or the name of a tool alone, for all.
    modality : str or None
        BIDS suffix of the prior's images; None selects any.

    Returns
    -------
    Selection
        In the order of `inputs`, and by name within a folder.

    Raises
    ------
    UsageError
        If there is no scan, the masks do not match the inputs, the tool is not installed, or two scans would write the
        same files.
    """
    if not inputs:
        raise UsageError("INPUT: expected at least one NIfTI file or folder")
    tool = _mask_tool(masks)
    if masks and tool is None:
        return Selection(_pair(inputs, masks), Counter())
    jobs: list[ScanJob] = []
    skipped: Counter[str] = Counter()
    for path in inputs:
        if not path.is_dir():
            jobs.append(ScanJob(path, tool))
            continue
        scans, reasons = scans_in(path, modality)
        if not scans:
            left_out = "".join(f"; {count} left out: {reason}" for reason, count in reasons.items())
            raise UsageError(f"{path}: no scan (.nii or .nii.gz) in this folder{left_out}")
        jobs += [ScanJob(scan, tool) for scan in scans]
        skipped += reasons
    refuse_clashes(jobs)
    return Selection(jobs, skipped)


def results_of(scan: Path, folder: Path) -> list[Path]:
    """Return the files in `folder` that lesioncore wrote for a scan of this name."""
    stem_and_suffix = _stem_and_suffix(scan)
    results = []
    for path in folder.iterdir() if folder.is_dir() else ():
        name = _EXTENSION.sub("", path.name)
        saved = SAVED.search(name)
        if saved and (name[: saved.start()], saved["suffix"] or saved["contrast"]) == stem_and_suffix:
            results.append(path)
    return sorted(results)


def _stem_and_suffix(scan: Path) -> tuple[str, str]:
    from lesioncore.restoration.result import base_name, split_name

    return split_name(base_name(scan))


def _mask_tool(masks: Sequence[Path]) -> str | None:
    """Return the name of the tool that makes the masks, or None if `masks` are files or empty."""
    from lesioncore.preprocess.external import is_tool, require_tool

    name = str(masks[0]) if len(masks) == 1 else None
    if not is_tool(name):
        return None
    try:
        require_tool(name)
    except FileNotFoundError as error:
        raise UsageError(f"--{error}") from error
    return name


def _pair(inputs: Sequence[Path], masks: Sequence[Path]) -> list[ScanJob]:
    """Pair each scan with the mask in the same position."""
    folders = [path for path in [*inputs, *masks] if path.is_dir()]
    if folders:
        raise UsageError(f"{folders[0]}: is a folder; with --mask, give each scan and its mask as files")
    if len(masks) != len(inputs):
        raise UsageError(f"--mask: got {len(masks)} for {len(inputs)} scans, expected one for each, in the same order")
    for scan, mask in zip(inputs, masks, strict=True):
        subjects = {name for path in (scan, mask) if (name := subject_of(path))}
        if len(subjects) > 1:
            raise UsageError(f"--mask: {mask} stands in the place of {scan}; give the masks in the scans' order")
    jobs = [ScanJob(scan, mask) for scan, mask in zip(inputs, masks, strict=True)]
    refuse_clashes(jobs)
    return jobs


def refuse_clashes(jobs: Sequence[ScanJob]) -> None:
    """Raise ``UsageError`` if two scans would write results of the same names."""
    scan_of: dict[tuple[str, str], Path] = {}
    for job in jobs:
        name = _stem_and_suffix(job.scan)
        if name in scan_of:
            raise UsageError(
                f"{job.scan}: its results would have the names of those of {scan_of[name]}; restore them into different"
                " folders"
            )
        scan_of[name] = job.scan
