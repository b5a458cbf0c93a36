"""The files that a command line names: scans in files and folders, their masks, and existing results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lesioncore.cli.output import UsageError
from lesioncore.data.bids import left_out, scans_in
from lesioncore.data.names import FORMATS, contrast_of, names_lesion, several, split_name, stem_of, subject_of


@dataclass(frozen=True)
class ScanJob:
    """One scan to work on.

    Attributes
    ----------
    scan : Path
        The scan.
    mask : Path, str or None
        Its brain mask: a file, the name of a tool, or none.
    place : Path
        Folder of its results in that of the command: where the scan lies in the folder that was named.
    named : bool
        The command line names the file itself, and not a folder with it.
    """

    scan: Path
    mask: Path | str | None
    place: Path = Path()
    named: bool = True


@dataclass(frozen=True)
class Selection:
    """The scans that a command line selects, and what is to be said of its folders.

    Attributes
    ----------
    jobs : list of ScanJob
        The scans.
    notes : list of str
        How many files of each folder were left out, and why.
    mixed : str or None
        Contrasts of the scans in folders with their numbers, where their names tell several.
    """

    jobs: list[ScanJob]
    notes: list[str] = field(default_factory=list)
    mixed: str | None = None


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
        Contrast of the prior's images, such as ``T2w``; None selects any.

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
        raise UsageError("INPUT: expected at least one image or folder")
    tool = _mask_tool(masks)
    if masks and tool is None:
        return Selection(_pair(inputs, masks))
    jobs: list[ScanJob] = []
    notes: list[str] = []
    contrasts: list[str | None] = []
    for path in inputs:
        if not path.is_dir():
            jobs.append(ScanJob(path, tool))
            continue
        found = scans_in(path, modality)
        if not found.scans:
            raise UsageError("; ".join([f"{path}: no scan ({FORMATS}) in this folder", *left_out(found.skipped)]))
        jobs += [ScanJob(scan, tool, scan.parent.relative_to(path), named=False) for scan in found.scans]
        notes += [f"{path}: {note}" for note in found.notes(modality)]
        contrasts += map(contrast_of, found.scans)
    refuse_clashes(jobs)
    return Selection(jobs, notes, several(contrasts))


def _stem_and_suffix(scan: Path) -> tuple[str, str]:
    return split_name(stem_of(scan))


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


def check_masks(inputs: Sequence[Path], masks: Sequence[Path]) -> None:
    """Check the files of brain masks before a scan is preprocessed: names, grids, and that they are of a brain's size.

    Raises
    ------
    UsageError
        If they do not match the inputs; the message names all that are no brain masks.
    """
    from lesioncore.restoration.volumes import check_brain_mask

    if _mask_tool(masks) is not None:
        return
    problems = []
    for job in _pair(inputs, masks):
        assert isinstance(job.mask, Path)
        try:
            check_brain_mask(job.mask, job.scan)
        except (OSError, ValueError) as error:
            text = str(error).removeprefix("mask: ")
            problems.append(text if str(job.mask) in text else f"{job.mask}: {text}")
    if problems:
        raise UsageError(f"--mask: {'; '.join(problems)}")


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
    if lesions := [str(mask) for mask in masks if names_lesion(mask)]:
        raise UsageError(
            f"--mask: {', '.join(lesions)}: of lesions by the name, expected a mask of the brain; give that, or none to"
            " have the brain found (rename it if it is the brain's)"
        )
    jobs = [ScanJob(scan, mask) for scan, mask in zip(inputs, masks, strict=True)]
    refuse_clashes(jobs)
    return jobs


def refuse_clashes(jobs: Sequence[ScanJob]) -> None:
    """Raise ``UsageError`` if two scans would write results of the same names."""
    scan_of: dict[tuple[Path, str, str], Path] = {}
    for job in jobs:
        name = (job.place, *_stem_and_suffix(job.scan))
        if name in scan_of:
            raise UsageError(
                f"{job.scan}: its results would have the names of those of {scan_of[name]}; restore them into different"
                " folders"
            )
        scan_of[name] = job.scan
