"""Making of a BIDS data set from a release."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesioncore.data.files import replace_directory
from lesioncore.datasets.description import Dataset
from lesioncore.datasets.people import read_tables
from lesioncore.datasets.plan import make_plan
from lesioncore.datasets.search import search
from lesioncore.datasets.write import Writer

_SHOWN = 10


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    people : int
        Number of people.
    scans : Counter of str
        Number of scans by modality.
    masks : Counter of str
        Number of masks by kind.
    empty : list of str
        Lesion masks without any voxel.
    splits : Counter of str
        Number of people in each part of the paper's split; empty where there is none.
    missing : list of (str, str)
        Person and what the release does not have of it.
    left_out : Counter of str
        Number of files that were not imported, by reason.
    remarks : list of str
        What else is to be known.
    """

    people: int
    scans: Counter[str]
    masks: Counter[str]
    empty: list[str]
    splits: Counter[str]
    missing: list[tuple[str, str]]
    left_out: Counter[str]
    remarks: list[str]


def import_dataset(
    dataset: Dataset,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    modalities: Sequence[str] = (),
    region: str = "whole",
    seed: int = 0,
    link: bool = False,
    deidentify: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Make a BIDS data set of a release: its scans, and its masks in ``derivatives``.

    The data set appears under its name when it is complete.

    Parameters
    ----------
    dataset : Dataset
        What is imported, one of :data:`lesioncore.datasets.DATASETS`.
    source : path-like
        Folder that the release was unpacked in, or one above it.
    out : path-like
        Folder to make.
    modalities : sequence of str
        Scans that are wanted; those that the data set has by default where empty.
    region : str
        Part of the lesion that masks are of.
    seed : int
        Of the paper's split, where it has the data set.
    link : bool
        Make hard links to the released files instead of copies. A change of one is a change of the other then.
    deidentify : bool
        Write scans with the header fields of a list alone (:data:`lesioncore.data.deidentify.HEADER_FIELDS`).
    progress : callable, optional
        Called as ``progress(done, all)`` after each file: when it was read to its end, and when it was written.

    Returns
    -------
    Imported
        What there is, what is missing and what was left out.

    Raises
    ------
    FileExistsError
        If `out` exists.
    ValueError
        If no scan of the data set is in `source`, two files or two people would have one name, files are damaged, a
        label is not known, or an argument is not usable, such as `link` with `deidentify`.
    OSError
        If a file cannot be read or written, or not be linked.
    """
    folder, target = Path(source), Path(os.path.abspath(out))
    dataset.check_options(modalities, region)
    if link and deidentify:
        raise ValueError(
            "link: a linked file keeps its header, which deidentify is to write anew; leave one of both out"
        )
    _check_folders(folder, target)
    modalities = list(dict.fromkeys(modalities or (image.modality for image in dataset.images if image.default)))
    release = search(dataset, folder, modalities)
    plan = make_plan(dataset, release, modalities)
    told, remarks = read_tables(dataset, release.tables)
    with replace_directory(target) as root:
        writer = Writer(dataset, folder, root, link, deidentify, region, remarks=remarks)
        writer.files(plan, progress)
        writer.people(plan, told)
        splits = writer.split(list(plan.people.values()), seed)
        writer.top_level()
        if writer.unlisted:
            names = ", ".join(sorted(writer.unlisted)[:_SHOWN]) + (", ..." if len(writer.unlisted) > _SHOWN else "")
            writer.remarks.append(f"fields of JSON files that were not taken over, as none of the list: {names}")
        writer.table("provenance.tsv", ("file", "source", "sha256"), writer.provenance)
        writer.table("missing.tsv", ("person", "what"), plan.missing)
        writer.table("left_out.tsv", ("file", "reason"), release.left_out)
    return Imported(
        people=len(plan.people),
        scans=Counter(scan.kind.modality for scan in plan.scans),
        masks=writer.masks,
        empty=writer.empty,
        splits=splits,
        missing=plan.missing,
        left_out=Counter(reason for _, reason in release.left_out),
        remarks=writer.remarks,
    )


def _check_folders(folder: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(f"OUT: {target} exists; choose another name, or remove it first")
    if Path(os.path.realpath(folder)) in Path(os.path.realpath(target)).parents:
        raise ValueError(f"OUT: got {target}, which lies in SRC, expected a folder outside of it")
