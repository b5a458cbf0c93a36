"""Which files a BIDS data set is made of, and what is missing, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lesioncore.datasets.description import Dataset, Image, Mask
from lesioncore.datasets.search import Found, Release

PIPELINE = "manual"
"""Folder of the masks in ``derivatives``."""


@dataclass(frozen=True)
class Scan:
    """A scan: where it is from, and its folder and name in BIDS, without suffix and ending."""

    found: Found
    kind: Image
    folder: str
    entities: str

    @property
    def path(self) -> str:
        """Its path in BIDS, without the ending."""
        return f"{self.folder}/{self.entities}_{self.kind.bids_name.rpartition('_')[2]}"

    @property
    def sources(self) -> tuple[Found, ...]:
        """What it is made of."""
        return (self.found,)


@dataclass(frozen=True)
class MaskJob:
    """A mask: what it is made of, its path in the derivatives without the ending, and the scans that it is of."""

    kind: Mask
    sources: tuple[Found, ...]
    path: str
    scans: tuple[Scan, ...]


@dataclass
class Plan:
    """What is to be written.

    Attributes
    ----------
    people : dict of str to str
        Names in BIDS, by the subject in lower case; in their order.
    scans, masks : list
        Files.
    missing : list of (str, str)
        Person, with the session, and what the release does not have of it.
    """

    people: dict[str, str] = field(default_factory=dict)
    scans: list[Scan] = field(default_factory=list)
    masks: list[MaskJob] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)


def make_plan(dataset: Dataset, release: Release, modalities: Sequence[str]) -> Plan:
    """Give each file its name.

    Raises
    ------
    ValueError
        If two files or two people would have one name.
    """
    plan = Plan(_people(release.images))
    taken: dict[str, Found] = {}
    for found in release.images:
        assert isinstance(found.kind, Image)
        scan = _scan(found, found.kind, plan.people[found.subject.lower()])
        first = taken.setdefault(scan.path, found)
        if first is not found:
            raise _twice(scan.path.rpartition("/")[2], [first, found])
        plan.scans.append(scan)
    visits: dict[tuple[str, str], list[Scan]] = {}
    for scan in plan.scans:
        visits.setdefault(scan.found.visit, []).append(scan)
    masks: dict[tuple[str, str], list[Found]] = {}
    for found in release.masks:
        masks.setdefault(found.visit, []).append(found)
    for visit, scans in visits.items():
        name = "_".join(scans[0].entities.split("_")[: 2 if visit[1] else 1])
        present = {scan.kind.modality for scan in scans}
        plan.missing += [(name, f"no {modality}") for modality in modalities if modality not in present]
        for kind in _kinds(dataset):
            of = [scan for scan in scans if not kind.on or scan.kind.modality in kind.on]
            sources = [found for found in masks.get(visit, []) if _alike(found.kind, kind)]
            if len(sources) > 1 and not kind.parts:
                raise _twice(f"{kind.kind} mask of {name}", sources)
            if not sources:
                plan.missing += [(name, f"no {kind.kind} mask")] if of else []
                continue
            for place in dict.fromkeys((scan.folder, scan.entities) for scan in of):
                on_it = tuple(scan for scan in of if (scan.folder, scan.entities) == place)
                plan.masks.append(MaskJob(kind, tuple(sources), f"{place[0]}/{place[1]}_{kind.kind}_mask", on_it))
    for visit, alone in masks.items():
        if visit not in visits:
            plan.missing += [(found.subject, f"no scan to its mask {found.source}") for found in alone]
    return plan


def _people(images: Iterable[Found]) -> dict[str, str]:
    """Names in BIDS, which have letters and digits alone."""
    people: dict[str, str] = {}
    owners: dict[str, str] = {}
    for found in sorted(images, key=lambda found: _natural(found.subject)):
        name = f"sub-{_label(found.subject)}"
        owner = owners.setdefault(name.lower(), found.subject)
        if owner.lower() != found.subject.lower():
            raise ValueError(
                f"SRC: got the subjects {owner} and {found.subject}, which would both be {name}, expected names that"
                " differ in letters or digits; import them separately"
            )
        people.setdefault(found.subject.lower(), name)
    return people


def _scan(found: Found, kind: Image, person: str) -> Scan:
    given = (("ses", found.session), ("acq", found.acq), ("run", found.run))
    parts = {key: f"{key}-{_label(value)}" for key, value in given if value}
    contrast = kind.bids_name.split("_")[:-1]
    entities = [person, *(parts[key] for key in ("ses", "acq") if key in parts), *contrast]
    entities += [parts["run"]] if "run" in parts else []
    folders = [person, *([parts["ses"]] if "ses" in parts else []), kind.folder]
    return Scan(found, kind, "/".join(folders), "_".join(entities))


def _kinds(dataset: Dataset) -> list[Mask]:
    """Each kind of mask once, whatever the patterns of its files."""
    return list({mask.kind: mask for mask in dataset.masks}.values())


def _alike(kind: Image | Mask, mask: Mask) -> bool:
    return isinstance(kind, Mask) and kind.kind == mask.kind


def _label(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", text)


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts numbers by their size."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", text)]


def _twice(what: str, files: Sequence[Found]) -> ValueError:
    names = " and ".join(found.source for found in files)
    return ValueError(f"{what}: got {len(files)} files, {names}, expected one; leave one of them in SRC")
