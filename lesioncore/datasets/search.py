"""Search for the files of a data set in a folder, as it was unpacked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lesioncore.data.roots import leads_out
from lesioncore.datasets.catalogue import DATASETS
from lesioncore.datasets.description import Dataset, Image, Mask

_NAMES = ("subject", "session", "acq", "run")
_SPREADSHEET = re.compile(r"\.xlsx?$", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(zip|tar|tar\.gz|tgz|7z)$", re.IGNORECASE)
_SCAN = re.compile(r"\.(nii(\.gz)?|hdr)$", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A file of a data set, and what its path tells.

    Attributes
    ----------
    path : Path
        The file.
    source : str
        Its path in the data set, with slashes.
    kind : Image or Mask
        What it is.
    subject, session, acq, run : str
        As the release writes them; empty where it has none.
    columns : dict of str to str
        What else is told of the person.
    sidecar : str
        Path in the data set of the JSON file beside it; empty where there is none.
    """

    path: Path
    source: str
    kind: Image | Mask
    subject: str
    session: str
    acq: str
    run: str
    columns: dict[str, str]
    sidecar: str = ""

    @property
    def visit(self) -> tuple[str, str]:
        """Who was scanned when, whatever the letters' case."""
        return self.subject.lower(), self.session.lower()


@dataclass
class Release:
    """The files of a data set.

    Attributes
    ----------
    images, masks : list of Found
        In the order of their paths.
    tables : list of Path
        Tables of people.
    left_out : list of (str, str)
        Paths of all other files, and the reason.
    """

    images: list[Found] = field(default_factory=list)
    masks: list[Found] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def search(dataset: Dataset, folder: Path, modalities: Sequence[str]) -> Release:
    """Find the files of a data set in a folder and below.

    Hidden files and folders, such as those of macOS, are passed over. Links are followed where they lead to a file in
    the folder (:func:`lesioncore.data.roots.leads_out`).

    Parameters
    ----------
    dataset : Dataset
        What is looked for.
    folder : Path
        Where it was unpacked.
    modalities : sequence of str
        Scans that are wanted.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    ValueError
        If no scan of the data set is in it.
    """
    if not folder.exists():
        raise FileNotFoundError(f"SRC: no such folder: {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(
            f"SRC: got the file {folder}, expected the folder that {dataset.title} was unpacked in"
        )
    release, paths = Release(), dict(walk(folder))
    files = {source.lower(): source for source, reason in paths.items() if reason is None}
    for source, reason in paths.items():
        if reason is None and source.lower().endswith(".hdr") and _sibling(source, ".img") not in files:
            reason = "a header without its .img"
        if reason is None:
            reason = _sort_in(release, dataset, folder / source, source, modalities)
        if reason is not None:
            release.left_out.append((source, reason))
    if not release.images:
        raise ValueError(_nothing_found(dataset, folder, list(paths), modalities))
    release.images = [
        replace(found, sidecar=files.get(_sibling(found.source, ".json"), "")) for found in release.images
    ]
    used = {_sibling(found.source, ending) for found in release.images for ending in (".json", ".img")}
    release.left_out = [(source, reason) for source, reason in release.left_out if source.lower() not in used]
    return release


def _sibling(source: str, ending: str) -> str:
    """The file beside a scan that has another ending, in lower case."""
    return _SCAN.sub(ending, source.lower())


def _sort_in(release: Release, dataset: Dataset, path: Path, source: str, modalities: Sequence[str]) -> str | None:
    """Put a file where it belongs; the reason if it is left out."""
    for image in dataset.images:
        if match := image.match(source):
            if image.modality not in modalities:
                return f"{image.modality}, not asked for"
            release.images.append(_found(path, source, image, match))
            return None
    masks = [_found(path, source, mask, match) for mask in dataset.masks if (match := mask.match(source))]
    if masks:
        release.masks += masks
        return None
    name = source.rpartition("/")[2]
    if any(re.fullmatch(table.name, name, re.IGNORECASE) for table in dataset.tables):
        release.tables.append(path)
        return None
    if _SCAN.search(name):
        return f"an image of no kind that is known in {dataset.title}"
    if _SPREADSHEET.search(name) and dataset.tables:
        return "a spreadsheet; save it as CSV where age and sex are wanted"
    return "neither an image nor a table of people"


def _found(path: Path, source: str, kind: Image | Mask, match: re.Match[str]) -> Found:
    groups = {name: value for name, value in match.groupdict().items() if value is not None}
    names = {name: groups.pop(name, "") for name in _NAMES}
    return Found(path, source, kind, columns=groups, **names)


def walk(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Paths of a release's files, relative to its folder, in their order; and why one is not read, if it is not.

    Hidden files and folders, and ``__MACOSX``, are passed over.
    """
    for place, folders, names in os.walk(folder, onerror=_fail):
        relative = Path(place).relative_to(folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in folders:
            if os.path.islink(os.path.join(place, name)):
                yield (relative / name).as_posix(), "a linked folder, which is not followed"
        for name in sorted(names):
            if not name.startswith("."):
                yield (relative / name).as_posix(), _why_not(Path(place, name), folder)


def _why_not(path: Path, folder: Path) -> str | None:
    if not path.is_file():
        return "a link to nothing" if path.is_symlink() else "no regular file"
    return None if leads_out(path, folder) is None else "a link that leads out of SRC"


def _nothing_found(dataset: Dataset, folder: Path, paths: Sequence[str], modalities: Sequence[str]) -> str:
    scans = [path for path in paths if _SCAN.search(path)]
    text = (
        f"SRC: got {folder} without any {' or '.join(modalities)} scan of {dataset.title}, expected files such as"
        f" {dataset.example}; found {len(scans)} images" + (f", such as {scans[0]}" if scans else "")
    )
    like = {
        name: sum(any(image.match(path) for image in other.images) for path in scans)
        for name, other in DATASETS.items()
        if other is not dataset
    }
    name = max(like, key=lambda other: like[other])
    if like[name]:
        return f"{text}; {like[name]} of them look like those of: lesioncore import {name}"
    archives = [path for path in paths if _ARCHIVE.search(path)]
    return text + (f"; unpack {archives[0]} first" if archives else "")


def _fail(error: OSError) -> None:
    raise error
