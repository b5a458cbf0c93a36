"""What a released data set looks like: one description for each, read by one engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

_NIFTI = r"\.nii(?:\.gz)?"
_ANALYZE = r"\.hdr"


@dataclass(frozen=True)
class Image:
    """A kind of scan in a release.

    Attributes
    ----------
    modality : str
        What ``--modality`` calls it.
    pattern : str
        Regular expression of the last part of its path, without the ending; upper and lower case are alike. The groups
        ``subject``, ``session``, ``acq`` and ``run`` go into names, any other is a column of ``participants.tsv``.
    name : str
        BIDS suffix, after an entity where that is needed; the modality where empty.
    folder : str
        BIDS folder of its kind.
    default : bool
        It is imported where no modality is asked for.
    axes : str or None
        Of Analyze pairs, whose headers do not tell it: where the voxel indices lead, such as ``ASL``. None is NIfTI.
    beside : tuple of (str, str)
        Ending and text of files that BIDS wants beside it.
    """

    modality: str
    pattern: str
    name: str = ""
    folder: str = "anat"
    default: bool = True
    axes: str | None = None
    beside: tuple[tuple[str, str], ...] = ()

    @property
    def bids_name(self) -> str:
        """BIDS suffix, after an entity where that is needed."""
        return self.name or self.modality

    def match(self, path: str) -> re.Match[str] | None:
        """Match the path of a file, relative to the data set and with slashes."""
        return _compiled(self.pattern, _NIFTI if self.axes is None else _ANALYZE).fullmatch(path)


@dataclass(frozen=True)
class Mask:
    """A kind of mask, or of label map, in a release.

    Attributes
    ----------
    pattern : str
        As of an `Image`.
    kind : str
        Entity that tells what the mask is of: ``label-lesion``, ``label-excluded`` or ``desc-brain``.
    about : str
        What its voxels are, for its JSON file.
    labels : mapping of str to tuple of int
        Labels that are in the mask, by the region that ``--region`` names. A region without any has all voxels above
        one half.
    known : tuple of int
        Labels that the file may have, beside 0; empty where it is no label map.
    on : tuple of str
        Modalities on whose grid it lies; all where empty.
    parts : bool
        A scan may have several, one for each lesion; the mask is their union.
    """

    pattern: str
    kind: str = "label-lesion"
    about: str = "Voxels of the lesion"
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"whole": ()})
    known: tuple[int, ...] = ()
    on: tuple[str, ...] = ()
    parts: bool = False

    def match(self, path: str) -> re.Match[str] | None:
        """Match the path of a file, relative to the data set and with slashes."""
        return _compiled(self.pattern, _NIFTI).fullmatch(path)


@dataclass(frozen=True)
class Table:
    """A table of people in a release, as CSV or TSV.

    Attributes
    ----------
    name : str
        Regular expression of the file's name; upper and lower case are alike, here and below.
    subject : str
        Regular expression of the column that names the subject.
    columns : mapping of str to str
        Column of ``participants.tsv``, and regular expression of the table's.
    key : callable
        Makes the subject of the files' names from a cell.
    values : mapping of str to mapping of str to str
        Of columns with codes: what a code means. Other codes become ``n/a``.
    """

    name: str
    subject: str
    columns: Mapping[str, str]
    key: Callable[[str], str] = str
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperSplit:
    """How many people of a data set the paper has for what.

    Attributes
    ----------
    train, validation, test : int
        Those that a prior is trained on, that its limits are from, and that it is tested on.
    """

    train: int = 0
    validation: int = 0
    test: int = 0

    @property
    def people(self) -> int:
        """All of them."""
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class Dataset:
    """A released data set.

    Attributes
    ----------
    name : str
        What the command line calls it.
    title : str
        Its name.
    home : str
        Web page.
    images, masks, tables
        What is in it.
    example : str
        A path in it, for errors.
    licence : str
        Short name of its licence; empty where there is none, or it is not known.
    terms : str
        What else is to be respected.
    facts : mapping
        What is known of every scan, for its JSON file.
    split : PaperSplit or None
        Of the paper's data sets.
    """

    name: str
    title: str
    home: str
    images: tuple[Image, ...]
    example: str
    masks: tuple[Mask, ...] = ()
    tables: tuple[Table, ...] = ()
    licence: str = ""
    terms: str = ""
    facts: Mapping[str, bool | str] = field(default_factory=dict)
    split: PaperSplit | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities that can be asked for."""
        return tuple(dict.fromkeys(image.modality for image in self.images))

    @property
    def regions(self) -> tuple[str, ...]:
        """All regions of a lesion that can be asked for; the first is the whole."""
        lesions = (mask for mask in self.masks if mask.kind == "label-lesion")
        return tuple(dict.fromkeys(region for mask in lesions for region in mask.labels)) or ("whole",)

    def check_options(self, modalities: Sequence[str], region: str) -> None:
        """Raise ``ValueError`` if the data set does not have a modality or region that is asked for."""
        for modality in modalities:
            if modality not in self.modalities:
                raise ValueError(
                    f"modality: got {modality}, expected {', '.join(self.modalities)}, which {self.name} has"
                )
        if region not in self.regions:
            raise ValueError(f"region: got {region}, expected {', '.join(self.regions)}, which {self.name} has")


@cache
def _compiled(pattern: str, ending: str) -> re.Pattern[str]:
    # The folders before it are as few as possible, so that groups for folders, which are optional, get theirs.
    return re.compile(f"(?:.*?/)??{pattern}{ending}", re.IGNORECASE | re.ASCII)
