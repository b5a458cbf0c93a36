"""What the name of an image tells: its contrast, whether it is a segmentation, whose it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from lesioncore.data.json_files import read_object

IMAGE = re.compile(r"\.(nii|mgz|(img|hdr))(\.gz)?$", re.IGNORECASE)
"""Ending of a brain image: NIfTI, FreeSurfer's, or either file of an Analyze or NIfTI pair."""
FORMATS = ".nii, .nii.gz, .mgz or .img with .hdr"
"""The same in words, for messages."""

_ENDING = re.compile(r"\.(nii|mgz|mgh|img|hdr)(\.gz)?$", re.IGNORECASE)
_PAIR = re.compile(r"\.(img|hdr)(\.gz)?$", re.IGNORECASE)
_SEPARATOR = re.compile(r"[_\-. ]+|(?<=\w)(?=\+\w)")  # T1+C is T1 and +C
_SUBJECT = re.compile(r"^sub-[0-9a-zA-Z]+")
_CHANNEL = re.compile(r"(?P<name>.+)_(?P<number>\d{4})$")  # of nnU-Net

_ENHANCED = "T1ce"
_BIDS = (
    *("T1w", "T2w", "T2starw", "FLAIR", "PDw", "PDT2", "UNIT1", "MTw", "inplaneT1", "inplaneT2", "T1map", "T2map"),
    *("angio", "defacemask", "bold", "sbref", "cbv", "dwi", "asl", "m0scan", "epi", "fieldmap", "phase", "phase1"),
    *("phase2", "phasediff", "magnitude", "magnitude1", "magnitude2"),
)
_BIDS_SCAN = re.compile(rf"sub-[^_]+(_[a-z]+-[^_]+)*_({'|'.join(_BIDS)})", re.IGNORECASE)
_WORDS = {
    "T1w": "t1 t1n mprage spgr",
    "T2w": "t2",
    "FLAIR": "t2f t2flair darkfluid tirm",
    _ENHANCED: "t1c t1ce t1gd t1post t1wks t1km gado gadolinium",
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
_AFFIXED = re.compile(r"(3d|[wmrs]{1,3})?(?P<word>t1w?|t2w?|flair|mprage)(3d)?")
"""Contrasts written in one word with 3D, or with the letters that SPM puts before what it wrote, such as ``wmT1``."""
_PHRASES = {
    re.compile(r"\bdark fluid\b"): "darkfluid",
    re.compile(r"\bt2( star\b| ?\*)"): "t2star",
    re.compile(r"\b(pre|post) op\b"): r"\1op",
    re.compile(r"\bpost contrast\b"): "ce",
    re.compile(r"\bpre (contrast|ce|gd|gad|gado|gadolinium|km)\b"): "pre",
}
"""Words of several parts, as separators leave them, and what they are taken for."""
_AGENTS = frozenset(("ce", "gd", "gad", "gado", "gadolinium", "km", "+c", "c+", "+ce", "+gd", "+gad", "+km"))
"""Words that make a T1w scan beside them one with contrast agent."""
_AFTER = "post"
"""Does so behind the contrast alone: before it, it may be a time."""
_SKIPPED = frozenset(
    (
        *("brain", "bet", "stripped", "n4", "reg", "registered", "coreg", "resampled", "preproc", "preprocessed"),
        *("defaced", "pre", "preop", "postop", "postoperative"),
        *("sag", "sagittal", "tra", "trans", "transversal", "cor", "coronal", "ax", "axial", "iso", "3d", "2d", "mpr"),
        *("tse", "fse", "se", "tfe", "space", "cube", "vista", "bravo", "haste", "blade", "propeller", "fs", "nd"),
    )
)
"""Words beside a contrast that do not change it: what was done to the scan, when, in which plane and how."""
_KNOWN = frozenset((*_CONTRASTS, *_AGENTS, _AFTER, *_SKIPPED))
_NUMBER = re.compile(r"\(?\d+\)?|p\d|\d+mm")
"""Numbers, also of a browser's copy ``(1)``, of parallel imaging ``p2``, and voxel sizes."""
_REFERENCES = frozenset(("to", "in"))
"""Words before a contrast that is another scan's: ``FLAIR_to_T1`` is a FLAIR."""
_LAST_LABEL = re.compile(
    r"([ad]?seg|segm|segmentation|probseg|labels?|masks?|msk|roi|lesions?|brainmask|pred|prediction|gt|truth"
    r"|groundtruth|wmh|.*\+aseg|wmparc|ribbon)\d?"
)
_LABEL = re.compile(r"masks?|lesions?|d?seg|labels?|consensus|roi")
_LESION_ENTITY = re.compile(r"label-(lesion|L)|desc-\w*lesion")
_LESION = frozenset(("lesion", "lesions", "wmh"))
_CASE = re.compile(r".*\d_\d{4}")
"""Name of a scan in nnU-Net's form, of a case that has a number."""
_LABEL_FOLDERS = frozenset(("labelstr", "labelsts", "labels", "masks"))
"""Folders, in lower case, whose files are label maps whatever their names: those of nnU-Net, and the like."""
_AGENT_ENTITY = re.compile(r"(^|_)ce-[0-9a-zA-Z]")


def stem_of(path: Path) -> str:
    """Return a file's name without the ending of an image."""
    return _ENDING.sub("", path.name)


def split_name(name: str) -> tuple[str, str]:
    """Split the name of a scan into the parts between which the names of its results have theirs.

    ``sub-01_T2w`` gives ``("sub-01", "T2w")``. Only a word for a contrast is split off: a name that ends otherwise
    stays whole, and its second part is the contrast that it tells, or ``"image"``.
    """
    if not name or "/" in name:
        raise ValueError(f"name: got {name!r}, expected a base name such as 'sub-01_T2w'")
    stem, _, suffix = name.rpartition("_")
    if stem and suffix.lower() in _CONTRASTS:
        return stem, suffix
    return name, _contrast_in(_CHANNEL.sub(r"\g<name>", name)) or "image"


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
    are all ``T2w``. Only the last word counts, but for numbers and words for plane, sequence and what was done to the
    scan: ``t2_tse_tra_001`` is a ``T2w``. A ``T2w`` with a word for FLAIR beside it is a ``FLAIR``, and a ``T1w`` with
    one for contrast agent is ``T1ce``, never ``T1w``. Of names in BIDS the suffix counts, and the entity ``ce-``. What
    the channel of a scan in nnU-Net's form is, ``case_0001.nii.gz``, is read from its ``dataset.json``.

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
    """Whether a file is a mask or a label map, and no scan, by the words of its name or by its folder.

    A word such as ``mask`` counts as the last of a name, anywhere in a name that tells no contrast, and directly before
    the contrast; not in a scan's name in BIDS, or as a subject's label.
    """
    stem = stem_of(path)
    if path.parent.name.lower() in _LABEL_FOLDERS:
        return True
    if _BIDS_SCAN.fullmatch(stem):
        return False
    run, words = _last_words(_SUBJECT.sub("", stem))
    if any(word in _CONTRASTS for word in run):
        return bool(words and _LABEL.fullmatch(words[-1]))
    if words and not any(map(_NUMBER.fullmatch, run)) and _LAST_LABEL.fullmatch(words[-1]):
        return True
    return not _CASE.fullmatch(stem) and any(map(_LABEL.fullmatch, words))


def names_lesion(path: Path) -> bool:
    """Whether a file's name says that it is a mask of lesions, and not of the brain.

    So do the entities ``label-L``, ``label-lesion`` and ``desc-T1lesion``, and the words ``lesion`` and ``wmh`` beside
    none for the brain; a subject's label does not.
    """
    name = _SUBJECT.sub("", stem_of(path))
    if any(map(_LESION_ENTITY.fullmatch, name.split("_"))):
        return True
    words = _words(name)
    return not _LESION.isdisjoint(words) and not any("brain" in word for word in words)


def several(contrasts: Iterable[str | None]) -> str | None:
    """List contrasts with how many scans have each, as ``T1w (3), T2w (4)``; None unless there are at least two."""
    counts = Counter(contrast for contrast in contrasts if contrast is not None)
    return ", ".join(f"{name} ({counts[name]})" for name in sorted(counts)) if len(counts) > 1 else None


def _words(text: str) -> list[str]:
    """Words in lower case, where phrases are one word and a contrast is without what is affixed to it."""
    phrase = " ".join(word for word in _SEPARATOR.split(text.lower()) if word)
    for pattern, word in _PHRASES.items():
        phrase = pattern.sub(word, phrase)
    affixed = [(word, _AFFIXED.fullmatch(word)) for word in phrase.split()]
    return [match["word"] if match else word for word, match in affixed]


def _last_words(text: str) -> tuple[list[str], list[str]]:
    """Split off the last words that tell about a contrast, last first; return them and the words before."""
    words, run = _words(text), list[str]()
    while words:
        if len(words) > 2 and words[-2] in _REFERENCES:
            del words[-2:]
            run.clear()
            continue
        number = _NUMBER.fullmatch(words[-1])
        if number and any(word in _CONTRASTS for word in run):
            break  # that of a subject or a visit
        if not number and words[-1] not in _KNOWN:
            break
        run.append(words.pop())
    return run, words


def _contrast_in(text: str) -> str | None:
    if _BIDS_SCAN.fullmatch(text):
        last, before = _words(text)[-1], _words(text)[-2]
        run = [last, before] if before in _AGENTS else [last]
    else:
        run, _ = _last_words(text)
    contrasts = [_CONTRASTS.get(word) for word in run]
    contrast = next(filter(None, contrasts), None)
    if contrast == "T2w" and "FLAIR" in contrasts:
        return "FLAIR"
    if contrast == "PDw" and any(map(_NUMBER.fullmatch, run)):
        return None  # PD_001 may be somebody with Parkinson's disease
    if contrast != "T1w":
        return contrast
    first = len(run) - contrasts[::-1].index("T1w")  # of the name's words for T1w
    enhanced = _AGENTS.intersection(run) or _AFTER in run[:first] or _AGENT_ENTITY.search(text)
    return _ENHANCED if enhanced else contrast


def _channel_contrast(path: Path, number: int) -> str | None:
    """Contrast of a channel by the ``dataset.json`` of nnU-Net beside the file or in the folder above."""
    for folder in (path.parent, path.parent.parent):
        file = folder / "dataset.json"
        try:
            facts = file.stat()
            channels = _channels(file, facts.st_mtime_ns, facts.st_size)
        except (OSError, ValueError):
            continue
        name = channels.get(str(number))
        return _contrast_in(name) if isinstance(name, str) else None
    return None


@lru_cache(maxsize=4)
def _channels(file: Path, changed: int, size: int) -> dict[str, object]:
    """Names of the channels in a ``dataset.json``, which lists all cases, too; read once as long as it is the same."""
    facts = read_object(file)
    channels = facts.get("channel_names", facts.get("modality"))
    return channels if isinstance(channels, dict) else {}
