"""Search for brain scans and their masks by file names (BIDS)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

NIFTI = re.compile(r"\.nii(\.gz)?$")
SAVED = re.compile(
    r"_(desc-(restored|residual|score|figure)_(?P<contrast>[^_]+)|desc-brain_mask|label-L_(probseg|desc-fpr\d\d_mask))$"
)
"""Parts that :meth:`lesioncore.Restoration.save` adds to a scan's name, without the ending."""

_LABELS = re.compile(r"(^|_)(mask|[ad]?seg|probseg|roi|labels?)$")
_CONTRAST = re.compile(
    r"_(T1w|T2w|T2starw|FLAIR|PDw|PDT2|UNIT1|MTw|inplaneT[12]|T1map|T2map|angio|defacemask|bold|sbref|cbv|dwi|asl|m0scan"
    r"|epi|fieldmap|phase[12]?|phasediff|magnitude[12]?)$"
)
_SUBJECT = re.compile(r"^sub-[0-9a-zA-Z]+")


def scans_in(folder: Path, modality: str | None) -> tuple[list[Path], Counter[str]]:
    """Find the scans in a folder and below.

    Every NIfTI file is one, but for masks and label maps, what lesioncore wrote, ``derivatives``, hidden files and
    folders, and files whose BIDS suffix names another contrast. Linked folders are searched as well, each once.

    Parameters
    ----------
    folder : Path
        Where to look.
    modality : str or None
        BIDS suffix of the images wanted, such as ``T2w``; None takes any.

    Returns
    -------
    scans : list of Path
        In the order of their names.
    skipped : Counter of str
        How many NIfTI files were left out, by reason.

    Raises
    ------
    OSError
        If the folder, or one in it, cannot be read.
    """
    scans, skipped = [], Counter[str]()
    for path in _walk(folder):
        reason = _reason_to_skip(path, modality)
        if reason is None:
            scans.append(path)
        else:
            skipped[reason] += 1
    return scans, skipped


def contrast_of(path: Path) -> str | None:
    """Return the contrast that a file's BIDS suffix names, such as ``T2w``."""
    match = _CONTRAST.search(NIFTI.sub("", path.name))
    return match.group(1) if match else None


def other_contrast(path: Path, modality: str | None) -> str | None:
    """Return the contrast that a file's BIDS suffix names, if it is another than `modality`."""
    contrast = contrast_of(path)
    return contrast if modality is not None and contrast != modality else None


def subject_of(path: Path) -> str | None:
    """Return the subject that a file's name begins with, such as ``sub-01``."""
    match = _SUBJECT.match(path.name)
    return match.group() if match else None


def masks_of(scans: Sequence[Path], kind: Literal["desc-brain", "label-lesion", "label-excluded"]) -> list[Path | None]:
    """Find the mask of a kind of each scan, where there is one.

    It lies beside the scan, or in the same place of a dataset in ``derivatives``, and has the scan's name but for
    ``desc-`` and the suffix: ``sub-01_run-1_T2w`` and ``sub-01_run-1_desc-brain_mask`` belong together. A mask of a
    ``label-`` may have a ``desc-`` of its own.

    Parameters
    ----------
    scans : sequence of Path
        NIfTI files.
    kind : {"desc-brain", "label-lesion", "label-excluded"}
        Entity that tells what the masks are of: the brain, the lesion, or what is neither lesion nor healthy.

    Raises
    ------
    ValueError
        If several files could be a scan's mask.
    """
    listed: dict[Path, dict[frozenset[str], list[Path]]] = {}
    masks: list[Path | None] = []
    for scan in scans:
        name = frozenset(_undescribed(_split(scan)[0])) | {kind}
        candidates = []
        for folder in _places(Path(os.path.abspath(scan))):
            if folder not in listed:
                listed[folder] = _masks_in(folder, kind)
            candidates += listed[folder].get(name, [])
        if len(candidates) > 1:
            names = " and ".join(str(path) for path in candidates)
            raise ValueError(
                f"{scan}: got {len(candidates)} files, expected one {kind} mask: {names}; leave one there, or name it"
                " in a table of images and masks"
            )
        masks.append(candidates[0] if candidates else None)
    return masks


def _masks_in(folder: Path, kind: str) -> dict[frozenset[str], list[Path]]:
    """Masks of a kind by their names' entities; of labels without ``desc-``."""
    masks: dict[frozenset[str], list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        entities, suffix = _split(path)
        if suffix == "mask" and kind in entities and NIFTI.search(path.name):
            name = entities if kind == "desc-brain" else _undescribed(entities)
            masks.setdefault(frozenset(name), []).append(path)
    return masks


def _places(scan: Path) -> list[Path]:
    """Folders that may hold a scan's masks: its own, and its counterparts in the dataset's derivatives."""
    places = [scan.parent]
    for folder in scan.parents:
        if folder.name == subject_of(scan):
            derivatives = folder.parent / "derivatives"
            pipelines = sorted(derivatives.iterdir()) if derivatives.is_dir() else []
            places += [pipeline / scan.parent.relative_to(folder.parent) for pipeline in pipelines]
            break
    return places


def _split(path: Path) -> tuple[list[str], str]:
    """Entities and suffix of a file name; a name without a suffix has an empty one."""
    parts = NIFTI.sub("", path.name).split("_")
    return (parts[:-1], parts[-1]) if len(parts) > 1 and parts[-1].isalnum() else (parts, "")


def _undescribed(entities: list[str]) -> list[str]:
    return [entity for entity in entities if not entity.startswith("desc-")]


def _fail(error: OSError) -> None:
    raise error


def _walk(folder: Path) -> list[Path]:
    """NIfTI files below a folder, also in linked ones; each folder once, however many links lead there."""
    files = []
    seen = {str(parent) for parent in Path(os.path.realpath(folder)).parents}  # a link to one of them is a loop
    for root, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # Links come last, so that a folder that is also reached without one keeps its own path.
        folders[:] = [name for name in folders if name != "derivatives" and not name.startswith(".")]
        folders.sort(key=lambda name: (os.path.islink(os.path.join(root, name)), name))
        files += [Path(root, name) for name in names if NIFTI.search(name) and not name.startswith(".")]
    return sorted(files)


def _reason_to_skip(path: Path, modality: str | None) -> str | None:
    stem = NIFTI.sub("", path.name)
    if SAVED.search(stem):
        return "a result of lesioncore"
    if _LABELS.search(stem):
        return "a mask or label map"
    contrast = other_contrast(path, modality)
    return None if contrast is None else f"{contrast}, not {modality}"
