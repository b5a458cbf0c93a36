"""What the name of an image tells: its contrast, whether it is a segmentation, whose it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

IMAGE = re.compile(r"\.(nii|mgz|(img|hdr))(\.gz)?$", re.IGNORECASE)
"""Ending of a brain image: NIfTI, FreeSurfer's, or either file of an Analyze or NIfTI pair."""
FORMATS = ".nii, .nii.gz, .mgz or .img with .hdr"
"""The same in words, for messages."""

_ENDING = re.compile(r"\.(nii|mgz|mgh|img|hdr)(\.gz)?$", re.IGNORECASE)
_PAIR = re.compile(r"\.(img|hdr)(\.gz)?$", re.IGNORECASE)
_SEPARATOR = re.compile(r"[_\-. ]+")
_SUBJECT = re.compile(r"^sub-[0-9a-zA-Z]+")
_CHANNEL = re.compile(r"(?P<name>.+)_(?P<number>\d{4})$")  # of nnU-Net

_ENHANCED = "T1ce"
_BIDS = (
    *("T1w", "T2w", "T2starw", "FLAIR", "PDw", "PDT2", "UNIT1", "MTw", "inplaneT1", "inplaneT2", "T1map", "T2map"),
    *("angio", "defacemask", "bold", "sbref", "cbv", "dwi", "asl", "m0scan", "epi", "fieldmap", "phase", "phase1"),
    *("phase2", "phasediff", "magnitude", "magnitude1", "magnitude2"),
)
_WORDS = {
    "T1w": "t1 t1n 3dt1 mprage spgr",
    "T2w": "t2",
    "FLAIR": "t2f t2flair 3dflair",
    _ENHANCED: "t1c t1ce t1gd t1post t1wks gado gadolinium",
    "PDw": "pd",
    "ADC": "adc",
    "trace": "trace",
    "T2starw": "t2star",
    "swi": "swi",
}
_CONTRASTS = {name.lower(): name for name in _BIDS} | {
    word: contrast for contrast, words in _WORDS.items() for word in words.split()
}
"""Contrast of each word in lower case: the suffixes of BIDS, and what else people write."""
_AGENTS = frozenset(("ce", "gd", "gad", "gado", "gadolinium"))
"""Words that make a T1w scan beside them one with contrast agent."""
_TREATMENTS = frozenset(
    ("brain", "bet", "stripped", "n4", "reg", "registered", "coreg", "resampled", "preproc", "preprocessed", "defaced")
)
"""Words after a contrast that say what was done to the scan."""
_REFERENCES = frozenset(("to", "in"))
"""Words before a contrast that is another scan's: ``FLAIR_to_T1`` is a FLAIR."""
_LABEL = re.compile(
    r"([ad]?seg|segm|segmentation|probseg|labels?|masks?|msk|roi|lesions?|brainmask|pred|prediction|gt|truth"
    r"|groundtruth|wmh|.*\+aseg|wmparc|ribbon)\d?"
)
_LABEL_FOLDERS = frozenset(("labelstr", "labelsts", "labels", "masks"))
"""Folders, in lower case, whose files are label maps whatever their names: those of nnU-Net, and the like."""
_AGENT_ENTITY = re.compile(r"(^|_)ce-[0-9a-zA-Z]")


def stem_of(path: Path) -> str:
    """Return a file's name without the ending of an image."""
    return _ENDING.sub("", path.name)


def split_name(name: str) -> tuple[str, str]:
    """Split ``sub-01_T2w`` into ``("sub-01", "T2w")``; a name without a BIDS suffix gets ``"image"`` for one."""
    if not name or "/" in name:
        raise ValueError(f"name: got {name!r}, expected a base name such as 'sub-01_T2w'")
    stem, separator, suffix = name.rpartition("_")
    return (stem, suffix) if separator and suffix.isalnum() and "-" not in suffix else (name, "image")


def partner_of(name: str) -> str | None:
    """Return the name of the other file of an Analyze or NIfTI pair; None for what is no file of a pair."""
    match = _PAIR.search(name)
    if match is None:
        return None
    other = "img" if is_header(name) else "hdr"
    return f"{name[: match.start(1)]}{other.upper() if match[1].isupper() else other}{match[2] or ''}"


def is_header(name: str) -> bool:
    """Whether a file is the ``.hdr`` of a pair."""
    match = _PAIR.search(name)
    return match is not None and match[1].lower() == "hdr"


def subject_of(path: Path) -> str | None:
    """Return the subject that a file's name begins with, such as ``sub-01``."""
    match = _SUBJECT.match(path.name)
    return match.group() if match else None


def contrast_of(path: Path) -> str | None:
    """Return the contrast that the end of a file's name tells; None where it tells none.

    Case and separators (``_``, ``-``, ``.`` and the space) do not matter: ``sub-01_T2w``, ``x-t2w`` and ``T2.NII.GZ``
    are all ``T2w``. Only the last word counts, but for words that say what was done to the scan, such as ``brain``. A
    word before it may say that there was a contrast agent: such scans are ``T1ce``, and never ``T1w``. What the channel
    of a scan in nnU-Net's form is, ``case_0001.nii.gz``, is read from its ``dataset.json``.

    Parameters
    ----------
    path : Path
        The file, which need not exist.

    Returns
    -------
    str or None
        A suffix of BIDS, such as ``T2w``, or ``T1ce``, ``ADC``, ``trace`` or ``swi``.
    """
    stem = stem_of(path)
    if channel := _CHANNEL.fullmatch(stem):
        told = _channel_contrast(path, int(channel["number"]))
        if told is not None:
            return told
        stem = channel["name"]
    return _contrast_in(stem)


def other_contrast(path: Path, modality: str | None) -> str | None:
    """Return the contrast that a file's name tells, if it is another than `modality`."""
    contrast = contrast_of(path)
    return contrast if modality is not None and contrast != modality else None


def is_label(path: Path) -> bool:
    """Whether a file is a mask or a label map, and no scan, by the last word of its name or by its folder."""
    words = _words(stem_of(path))
    while words and words[-1] in _TREATMENTS:
        words.pop()
    return path.parent.name.lower() in _LABEL_FOLDERS or bool(words and _LABEL.fullmatch(words[-1]))


def several(contrasts: Iterable[str | None]) -> str | None:
    """List contrasts with how many scans have each, as ``T1w (3), T2w (4)``; None unless there are at least two."""
    counts = Counter(contrast for contrast in contrasts if contrast is not None)
    return ", ".join(f"{name} ({counts[name]})" for name in sorted(counts)) if len(counts) > 1 else None


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATOR.split(text.lower()) if word]


def _contrast_in(text: str) -> str | None:
    words = _words(text)
    while words and (words[-1] in _TREATMENTS or (len(words) > 2 and words[-2] in _REFERENCES)):
        del words[-1 if words[-1] in _TREATMENTS else -2 :]
    if not words:
        return None
    last, before = words[-1], words[-2:-1]
    contrast = _CONTRASTS.get(last)
    if contrast == "T1w" and (_AGENTS.intersection(before) or _AGENT_ENTITY.search(text)):
        return _ENHANCED
    if contrast is None and last in _AGENTS and before and _CONTRASTS.get(before[0]) == "T1w":
        return _ENHANCED
    return contrast


def _channel_contrast(path: Path, number: int) -> str | None:
    """Contrast of a channel by the ``dataset.json`` of nnU-Net beside the file or in the folder above."""
    for folder in (path.parent, path.parent.parent):
        try:
            facts = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        channels = facts.get("channel_names", facts.get("modality")) if isinstance(facts, dict) else None
        name = channels.get(str(number)) if isinstance(channels, dict) else None
        return _contrast_in(name) if isinstance(name, str) else None
    return None
