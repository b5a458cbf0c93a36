"""Search for subjects in folders, files, lists of files and ranges of phantoms."""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lesioncore.data.bids import Found, left_out, masks_of, scans_in
from lesioncore.data.files import check_here
from lesioncore.data.names import FORMATS, IMAGE, contrast_of, names_lesion, several, stem_of, subject_of
from lesioncore.data.roots import check_inside, dataset_of
from lesioncore.data.tables import read_rows
from lesioncore.data.text_files import read_text
from lesioncore.phantom.simulate import check_arguments
from lesioncore.subjects.subject import FileSubject, PhantomSubject, Subject

_MASKS: dict[str, Literal["desc-brain", "label-lesion", "label-excluded"]] = {
    "mask": "desc-brain",
    "lesion": "label-lesion",
    "excluded": "label-excluded",
}
"""Columns of masks, and the kinds of masks that are looked for where there is no such column."""

_LISTED = 10
"""Missing files that an error names; of more it says how many there are."""

_COLUMNS = ("image", *_MASKS, "subject")
_PHANTOM = re.compile(r"phantom:(?P<contrast>[^:]+):((?P<first>\d+)-)?(?P<last>\d+)(:(?P<lesion>[^:]+))?")
_PART = re.compile(r"(?P<table>(.*/)?split\.tsv):(?P<name>\w+)")
_KINDS = (
    f"a folder, an image ({FORMATS}), a list of paths (.txt), a table with a column 'image' (.csv, .tsv), a part of an"
    " imported data set (data/split.tsv:train), or phantoms (phantom:T2w:0-99)"
)


def find_subjects(
    inputs: Sequence[str | Path],
    *,
    modality: str | None = None,
    split: Literal["train", "validation", "test", "demo"] = "train",
    note: Callable[[str], None] | None = None,
) -> list[Subject]:
    """Find the subjects that a user named as data.

    Parameters
    ----------
    inputs : sequence of str or Path
        Any of

        - a folder, BIDS or not: the scans in it and below (:func:`lesioncore.data.bids.scans_in`);
        - an image: NIfTI, FreeSurfer's ``.mgz``, or one file of an Analyze pair;
        - a ``.txt`` file with one path a line, ``#`` before comments;
        - a ``.csv`` or ``.tsv`` file with the column ``image`` and, where wanted, ``mask`` (brain), ``lesion`` (mask),
          ``excluded`` (mask of what is neither lesion nor healthy), whose cells may be empty, and ``subject`` (who it
          is, for scans of one person under different names);
        - ``data/split.tsv:train``: of the data set in the folder ``data``, the scans of the people whom the table
          ``split.tsv`` of ``lesioncore import`` puts into a part;
        - ``phantom:T2w:0-99`` for simulated subjects 0 to 99, ``phantom:T2w:100`` for the first hundred,
          ``phantom:T2w:0-99:glioma`` with lesions.

        Paths in a file are relative to it, and lead to what lies in its folder, or in the BIDS data set that it lies
        in; the environment variable ``LESIONCORE_ROOTS`` names further folders. Where no table names them, masks are
        looked for beside the scan and in the dataset's derivatives (:func:`lesioncore.data.bids.masks_of`); without a
        brain mask, the brain is what the constant background leaves.
    modality : str, optional
        Contrast of the scans wanted, such as ``T2w`` (:func:`lesioncore.data.names.contrast_of`).
    split : {"train", "validation", "test", "demo"}
        Population of the phantoms.
    note : callable, optional
        Called with a sentence on what was left out of a folder, and why; warnings when absent.

    Returns
    -------
    list of Subject
        In the order of `inputs`; of a folder, in the order of the names.

    Raises
    ------
    ValueError
        If there is no scan, two have one name, contrasts are mixed, a path in a file leads elsewhere, or an input
        cannot be understood.
    OSError
        If a file is not there or cannot be read.
    """
    if isinstance(inputs, (str, Path)):
        raise ValueError(f"inputs: got {str(inputs)!r} alone, expected a list of inputs")
    if not inputs:
        raise ValueError(f"inputs: got none, expected at least one: {_KINDS}")
    subjects: list[Subject] = []
    folders: list[tuple[Path, Found]] = []
    for given in inputs:
        text = os.fspath(given)
        if text.startswith("phantom:"):
            subjects += _phantoms(text, split)
        elif (part := _PART.fullmatch(text)) is not None:
            subjects += _part(Path(part["table"]), part["name"], modality)
        else:
            path = Path(text)
            found = scans_in(path, modality) if path.is_dir() else None
            if found is not None:
                folders.append((path, found))
            subjects += _files(path) if found is None else _folder(path, found)
    _check_modality(subjects, modality)
    _check_names(subjects)
    contrast = modality or next((subject.modality for subject in subjects if subject.modality), None)
    for path, found in folders:
        for sentence in found.notes(contrast):
            if note is None:
                warnings.warn(f"{path}: {sentence}", stacklevel=2)
            else:
                note(f"{path}: {sentence}")
    return subjects


def _phantoms(text: str, split: str) -> list[Subject]:
    match = _PHANTOM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"inputs: got {text}, expected phantom:CONTRAST:FIRST-LAST or phantom:CONTRAST:COUNT, and :LESION after it"
        )
    try:
        check_arguments(split, match["contrast"], match["lesion"], 1.0)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from error
    first = int(match["first"] or 0)
    end = int(match["last"]) + (match["first"] is not None)
    if end <= first:
        raise ValueError(f"{text}: got no subject, expected a first number of at most the last")
    return [PhantomSubject.of(match["contrast"], number, split, match["lesion"]) for number in range(first, end)]


def _folder(path: Path, found: Found) -> list[FileSubject]:
    if not found.scans:
        raise ValueError("; ".join([f"{path}: no scan ({FORMATS}) in this folder", *left_out(found.skipped)]))
    return _with_masks([_subject(scan) for scan in found.scans])


def _part(table: Path, name: str, modality: str | None) -> list[FileSubject]:
    """Scans of the people in a part of a data set, such as those for validation."""
    rows = [(row.get("participant_id"), row.get("split")) for row in read_rows(table, "\t")[1]]
    people = {person for person, part in rows if part == name}
    if not people:
        parts = ", ".join(sorted({part for _, part in rows if part}))
        raise ValueError(f"{table}: has nobody in the part {name}, expected one of {parts or 'none'}")
    scans = [scan for scan in scans_in(table.parent, modality).scans if subject_of(scan) in people]
    if not scans:
        raise ValueError(
            f"{table}: nobody in the part {name}, {len(people)} in all, has a scan{f' {modality}' if modality else ''};"
            " choose another part or contrast, or import more people"
        )
    return _with_masks([_subject(scan) for scan in scans])


def _files(path: Path) -> list[FileSubject]:
    check_here(path)
    if IMAGE.search(path.name):
        return _with_masks([_subject(path)])
    if path.suffix not in (".txt", ".csv", ".tsv"):
        raise ValueError(f"inputs: got {path}, expected {_KINDS}")
    try:
        subjects = _list(path) if path.suffix == ".txt" else _table(path)
    except csv.Error as error:
        raise ValueError(f"{path}: is no table: {error}") from error
    if not subjects:
        raise ValueError(f"{path}: names no scan")
    return subjects


def _list(path: Path) -> list[FileSubject]:
    lines = enumerate(read_text(path).splitlines(), start=1)
    names = [(number, line.strip()) for number, line in lines]
    scans = [(n, _named(name, path, n)) for n, name in names if name and not name.startswith("#")]
    _check_files(path, scans)
    return _with_masks([_subject(scan) for _, scan in scans])


def _table(path: Path) -> list[FileSubject]:
    reader = csv.reader(
        io.StringIO(read_text(path), newline=""), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True
    )
    header = [name.strip().lower() for name in next(reader, [])]
    if "image" not in header or len(set(header)) < len(header) or not set(header) <= set(_COLUMNS):
        raise ValueError(
            f"{path}: got the columns {', '.join(header) or 'none'} in its first line, expected image and any of"
            f" {', '.join(_COLUMNS[1:])}"
        )
    subjects, files = [], []
    for cells in reader:
        line, values = reader.line_num, [cell.strip() for cell in cells]
        if not any(values):
            continue
        if len(values) != len(header):
            raise ValueError(f"{path}, line {line}: got {len(values)} cells, expected {len(header)}")
        row = dict(zip(header, values, strict=True))
        if not row["image"]:
            raise ValueError(f"{path}, line {line}: names no image")
        scan, *masks = (_named(row[name], path, line) if row.get(name) else None for name in ("image", *_MASKS))
        assert scan is not None
        if masks[0] is not None and names_lesion(masks[0]):
            raise ValueError(
                f"{path}, line {line}: {row['mask']} in the column mask, which is of the brain, is of lesions by"
                " its name; name it in the column lesion (or rename it if it is the brain's)"
            )
        files += [(line, file) for file in (scan, *masks) if file is not None]
        of_columns: dict[str, Any] = dict(zip(_MASKS, masks, strict=True))
        subjects.append(replace(_subject(scan, row.get("subject")), **of_columns))
    _check_files(path, files)
    return _with_masks(subjects, named=header)


def _named(name: str, table: Path, line: int) -> Path:
    """An image that a line of a file names."""
    path = table.parent / name
    if not IMAGE.search(path.name) or "\0" in name:
        raise ValueError(f"{table}, line {line}: got {name}, expected an image ({FORMATS})")
    check_inside(path, dataset_of(table.parent), f"{table}, line {line}: {name}")
    return path


def _check_files(table: Path, files: Sequence[tuple[int, Path]]) -> None:
    """Raise ``OSError`` if some of the files that a table names, each with its line, are not there or folders."""
    errors = [(line, error) for line, path in files if (error := _missing(path)) is not None]
    if errors:
        texts = [f"{table}, line {line}: {error}" for line, error in errors[:_LISTED]]
        more = f"; and {len(errors) - _LISTED} more" if len(errors) > _LISTED else ""
        raise type(errors[0][1])("; ".join(texts) + more)


def _missing(path: Path) -> OSError | None:
    try:
        _check_file(path)
    except OSError as error:
        return error
    return None


def _subject(scan: Path, person: str | None = None) -> FileSubject:
    contrast, name = contrast_of(scan), stem_of(scan)
    if contrast is not None:
        name = name.removesuffix(f"_{contrast}")
    if person:
        return FileSubject(f"{person}/{name}", person, contrast, scan)
    return FileSubject(name, subject_of(scan) or name, contrast, scan)


def _with_masks(subjects: list[FileSubject], named: Sequence[str] = ()) -> list[FileSubject]:
    """Look for the masks that no column of a table has named."""
    scans = [subject.scan for subject in subjects]
    for column, kind in _MASKS.items():
        if column not in named:
            found: list[dict[str, Any]] = [{column: mask} for mask in masks_of(scans, kind)]
            subjects = [replace(subject, **mask) for subject, mask in zip(subjects, found, strict=True)]
    return subjects


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path}: got a folder, expected a file")
    check_here(path)


def _check_modality(subjects: Sequence[Subject], modality: str | None) -> None:
    first: dict[str, Subject] = {}
    for subject in subjects:
        if subject.modality is not None:
            first.setdefault(subject.modality, subject)
    if modality is not None:
        for contrast in set(first) - {modality}:
            raise ValueError(
                f"{first[contrast].id}: got a {contrast} image, expected {modality}; leave it out or ask for {contrast}"
            )
    elif mixed := several(subject.modality for subject in subjects):
        examples = ", ".join(f"{subject.id} is {contrast}" for contrast, subject in first.items())
        raise ValueError(
            f"modality: got scans of several contrasts, {mixed}, expected one, since they are not to be mixed"
            f" ({examples}); name the one that is wanted (modality=..., --modality)"
        )


def _check_names(subjects: Sequence[Subject]) -> None:
    seen: dict[str, Subject] = {}
    for subject in subjects:
        first = seen.setdefault(subject.id, subject)
        if first is subject:
            continue
        if not isinstance(subject, FileSubject) or not isinstance(first, FileSubject) or subject.scan == first.scan:
            place = f" ({subject.scan})" if isinstance(subject, FileSubject) else ""
            raise ValueError(f"{subject.id}: is named twice{place}; leave one out")
        raise ValueError(
            f"{subject.id}: two scans have this name, {first.scan} and {subject.scan}; leave one out, or, if they are"
            " of two people, name both in a table with a column 'subject'"
        )
