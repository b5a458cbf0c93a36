"""Search for brain scans and their masks by file names (BIDS)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lesioncore.data.files import absent
from lesioncore.data.listing import names_with
from lesioncore.data.names import (
    IMAGE,
    contrast_of,
    is_header,
    is_label,
    other_contrast,
    partner_of,
    split_name,
    stem_of,
    subject_of,
)
from lesioncore.data.roots import LINKED_OUT, check_inside, leads_out

SAVED = re.compile(
    r"(_space-[^_]+_res-[^_]+)?_"
    r"(desc-(restored|residual|score|figure|report)_(?P<suffix>[^_]+)"
    r"|(desc-brain|label-L_desc-(rank|fpr\d\d))(?P<contrast>[^_]+)_(mask|probseg))$"
)
"""What is added to a scan's name, without the ending, by :meth:`lesioncore.Restoration.save`, reports and the BIDS App.

The scan's suffix is one of the two groups."""

_SAVED_EXTENSION = re.compile(r"(\.nii\.gz|\.json|\.png|\.html)$")

_RESULT, _LABEL = "a result of lesioncore", "a mask or label map"
_OWN_LABEL = re.compile(r"desc-(rank|fpr\d\d)")
_LABEL_ENTITY = {
    "label-lesion": re.compile(r"label-(lesion|L)|desc-(?P<contrast>\w*?)lesion"),
    "label-excluded": re.compile(r"label-excluded(?P<contrast>)"),
}
"""Entity by which a mask of a kind is told; the group is the contrast of the scans that it is for."""


class Found(NamedTuple):
    """The scans in a folder.

    Attributes
    ----------
    scans : list of Path
        In the order of their names.
    skipped : Counter of str
        How many images were left out, by reason.
    unnamed : list of Path
        Those of the scans whose names tell no contrast, if other names in the folder tell one.
    """

    scans: list[Path]
    skipped: Counter[str]
    unnamed: list[Path]

    def notes(self, modality: str | None) -> list[str]:
        """Say what was left out, and what was taken for `modality` though its name does not tell it."""
        notes = left_out(self.skipped)
        if self.unnamed and modality is not None:
            notes.append(
                f"{len(self.unnamed)} taken for {modality} though their names tell no contrast, as other names do:"
                f" {', '.join(path.name for path in self.unnamed)}"
            )
        return notes


def results_of(folder: Path, stem: str, suffix: str) -> list[Path]:
    """Files in a folder that lesioncore wrote for a scan, by the parts of its name (``split_name``), sorted."""
    results = []
    for full in names_with(folder, f"{stem}_"):
        name = _SAVED_EXTENSION.sub("", full)
        saved = SAVED.search(name)
        if saved and (name[: saved.start()], saved["suffix"] or saved["contrast"]) == (stem, suffix):
            results.append(folder / full)
    return results


def left_out(skipped: Counter[str]) -> list[str]:
    """Say how many images were left out for each reason."""
    return [f"{count} left out: {reason}" for reason, count in skipped.items()]


def scans_in(folder: Path, modality: str | None) -> Found:
    """Find the scans in a folder and below.

    Every image (:data:`lesioncore.data.names.IMAGE`) is one, but for masks and label maps, what lesioncore wrote,
    ``derivatives``, hidden files and folders, files whose names tell another contrast
    (:func:`lesioncore.data.names.contrast_of`), files whose content is not here, and links that lead out of the folder
    (:func:`lesioncore.data.roots.leads_out`). Both files of an Analyze pair are one scan. Linked folders are searched
    as well, each once.

    Parameters
    ----------
    folder : Path
        Where to look.
    modality : str or None
        Contrast of the images wanted, such as ``T2w``; None takes any.

    Returns
    -------
    Found
        The scans, and what was left out.

    Raises
    ------
    OSError
        If the folder, or one in it, cannot be read.
    """
    files, refused = _walk(folder)
    scans, skipped, unnamed, named = [], Counter[str]({LINKED_OUT: refused} if refused else {}), list[Path](), 0
    for path in files:
        reason = _reason_to_skip(path, modality, folder)
        if reason not in (_RESULT, _LABEL):
            named += contrast_of(path) is not None
        if reason is not None:
            skipped[reason] += 1
            continue
        scans.append(path)
        if contrast_of(path) is None:
            unnamed.append(path)
    return Found(scans, skipped, unnamed if named else [])


def masks_of(scans: Sequence[Path], kind: Literal["desc-brain", "label-lesion", "label-excluded"]) -> list[Path | None]:
    """Find the mask of a kind of each scan, where there is one.

    It lies beside the scan, or in the same place of a dataset in ``derivatives``, and has the scan's name but for
    ``desc-``, the entity that says what it is of, and the suffix: ``sub-01_run-1_T2w`` and
    ``sub-01_run-1_desc-brain_mask`` belong together. A brain mask may name its scan's suffix, ``desc-brainT2w``. A
    lesion mask has ``label-lesion``, ``label-L`` or ``desc-lesion``, where ``desc-T1lesion`` is one of a T1w scan, and
    the suffix ``mask`` or ``roi``. Lesioncore's own detections are none.

    Parameters
    ----------
    scans : sequence of Path
        Images.
    kind : {"desc-brain", "label-lesion", "label-excluded"}
        What the masks are of: the brain, the lesion, or what is neither lesion nor healthy.

    Raises
    ------
    ValueError
        If several files could be a scan's mask, or it leads out of the scan's data set
        (:func:`lesioncore.data.roots.leads_out`).
    """
    listed: dict[Path, dict[frozenset[str], list[_Mask]]] = {}
    masks: list[Path | None] = []
    for scan in scans:
        stem, suffix = split_name(stem_of(scan))
        own, contrast = frozenset(_undescribed(stem.split("_"))), contrast_of(scan)
        names = [own]
        if kind == "desc-brain":
            names = [own | {kind}, own | {kind + suffix}]
        candidates = []
        place = Path(os.path.abspath(scan))
        for folder in _places(place):
            if folder not in listed:
                listed[folder] = _masks_in(folder, kind)
            found = [mask for name in names for mask in listed[folder].get(name, [])]
            candidates += [mask.path for mask in found if mask.fits(contrast)]
        if len(candidates) > 1:
            files = " and ".join(str(path) for path in candidates)
            raise ValueError(
                f"{scan}: got {len(candidates)} files, expected one {kind} mask: {files}; leave one there, or name it"
                " in a table of images and masks"
            )
        masks.append(candidates[0] if candidates else None)
        if candidates and leads_out(candidates[0], place.parent) is not None:
            check_inside(candidates[0], _dataset_of(place), f"{scan}: its mask {candidates[0]}")
    return masks


class _Mask(NamedTuple):
    path: Path
    contrast: str | None
    """Of the scans that it is for, where its name tells."""

    def fits(self, contrast: str | None) -> bool:
        """Whether it may be the mask of a scan of a contrast, which may be unknown."""
        return self.contrast == contrast or None in (self.contrast, contrast)


def _masks_in(folder: Path, kind: str) -> dict[frozenset[str], list[_Mask]]:
    """Masks of a kind by their names' entities; of labels without ``desc-`` and what says that they are of the kind."""
    masks: dict[frozenset[str], list[_Mask]] = {}
    for name in _images([path.name for path in folder.iterdir()]) if folder.is_dir() else []:
        entities, suffix = _split(folder / name)
        if kind == "desc-brain":
            if suffix == "mask" and any(entity.startswith(kind) for entity in entities):
                masks.setdefault(frozenset(entities), []).append(_Mask(folder / name, None))
            continue
        label = _LABEL_ENTITY[kind]
        told = [match for entity in entities if (match := label.fullmatch(entity))]
        if suffix not in ("mask", "roi") or not told or any(_OWN_LABEL.match(entity) for entity in entities):
            continue
        contrasts = [contrast_of(Path(match["contrast"])) for match in told if match["contrast"]]
        rest = frozenset(entity for entity in _undescribed(entities) if not label.fullmatch(entity))
        masks.setdefault(rest, []).append(_Mask(folder / name, contrasts[0] if contrasts else None))
    return masks


def _places(scan: Path) -> list[Path]:
    """Folders that may hold a scan's masks: its own, and its counterparts in the dataset's derivatives."""
    dataset = _dataset_of(scan)
    derivatives = dataset / "derivatives"
    if dataset == scan.parent or not derivatives.is_dir():
        return [scan.parent]
    return [scan.parent, *(pipeline / scan.parent.relative_to(dataset) for pipeline in sorted(derivatives.iterdir()))]


def _dataset_of(scan: Path) -> Path:
    """The folder that the one of a scan's person lies in; the scan's own where there is none."""
    return next((folder.parent for folder in scan.parents if folder.name == subject_of(scan)), scan.parent)


def _split(path: Path) -> tuple[list[str], str]:
    """Entities and suffix of a file name; a name without a suffix has an empty one."""
    parts = stem_of(path).split("_")
    return (parts[:-1], parts[-1]) if len(parts) > 1 and parts[-1].isalnum() else (parts, "")


def _undescribed(entities: list[str]) -> list[str]:
    return [entity for entity in entities if not entity.startswith("desc-")]


def _fail(error: OSError) -> None:
    raise error


def _walk(folder: Path) -> tuple[list[Path], int]:
    """Images below a folder, also in linked ones, each folder once; and how many linked folders lead out of it."""
    files, refused = [], 0
    seen = {str(parent) for parent in Path(os.path.realpath(folder)).parents}  # a link to one of them is a loop
    for root, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if os.path.islink(root) and leads_out(Path(root), folder) is not None:
            folders.clear()
            refused += 1
            continue
        # Links come last, so that a folder that is also reached without one keeps its own path.
        folders[:] = [name for name in folders if name != "derivatives" and not name.startswith(".")]
        folders.sort(key=lambda name: (os.path.islink(os.path.join(root, name)), name))
        files += [Path(root, name) for name in _images(names)]
    return sorted(files), refused


def _images(names: list[str]) -> list[str]:
    """Names of a folder's images, sorted; of the two files of a pair the ``.img``."""
    images = {name for name in names if IMAGE.search(name) and not name.startswith(".")}
    return sorted(name for name in images if not (is_header(name) and partner_of(name) in images))


def _reason_to_skip(path: Path, modality: str | None, folder: Path) -> str | None:
    if SAVED.search(stem_of(path)):
        return _RESULT
    if is_label(path):
        return _LABEL
    contrast = other_contrast(path, modality)
    if contrast is not None:
        return f"{contrast}, not {modality}"
    partner = partner_of(path.name)
    if partner is not None and not os.path.lexists(path.with_name(partner)):
        return f"one file of a pair, without its {'.img' if is_header(path.name) else '.hdr'}"
    if (reason := absent(path)) is not None:
        return reason
    files = [path] if partner is None else [path, path.with_name(partner)]
    out = (os.path.islink(file) and leads_out(file, folder) is not None for file in files)
    return LINKED_OUT if any(out) else None
