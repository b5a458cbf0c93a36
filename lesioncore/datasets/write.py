"""Writing of a BIDS data set: scans, masks, people and where all of it is from."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lesioncore.data.deidentify import copy_image, listed
from lesioncore.data.files import file_digest, write_json
from lesioncore.data.json_files import read_object
from lesioncore.data.table_cells import table_cell
from lesioncore.datasets.description import Dataset
from lesioncore.datasets.people import COLUMNS, split
from lesioncore.datasets.plan import PIPELINE, MaskJob, Plan, Scan

_BIDS_VERSION = "1.10.0"
_SHOWN = 5
_write_json = partial(write_json, indent=2, allow_nan=False)

_README = """# {title}

Made by `lesioncore import {name}` from the files of the release, <{home}>. Licence and terms are the release's:
{terms}.

- `sub-*`: the scans, {copied}{converted}; of their JSON files, the fields that say how they were measured.
- `derivatives/{pipeline}`: masks, where the release has them.
- `provenance.tsv`: which file was made of which, and the SHA-256 of the released one; of an Analyze pair, of `.hdr` and
  `.img` one after the other.
- `missing.tsv`: what the release does not have of a person. `left_out.tsv`: files that are not here, and why.
"""


@dataclass
class Writer:
    """Writes a data set into a folder, and keeps the account.

    Attributes
    ----------
    dataset : Dataset
        What is written.
    source, root : Path
        Folders of the release and of the BIDS data set.
    link : bool
        Make hard links instead of copies.
    deidentify : bool
        Write scans with the header fields of a list alone.
    region : str
        Part of the lesion that masks are of.
    masks : Counter of str
        Number of masks by kind.
    empty : list of str
        Lesion masks without any voxel.
    remarks : list of str
        What else is to be known.
    unlisted : Counter of str
        Fields of the scans' JSON files that were not taken over.
    provenance : list of (str, str, str)
        Files, what they were made of, and its SHA-256.
    """

    dataset: Dataset
    source: Path
    root: Path
    link: bool
    deidentify: bool
    region: str
    masks: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unlisted: Counter[str] = field(default_factory=Counter)
    provenance: list[tuple[str, str, str]] = field(default_factory=list)

    def files(self, plan: Plan, progress: Callable[[int, int], None] | None) -> None:
        """Read all files to their end, and write masks and scans if none is damaged.

        Masks come first, because a label that is not known stops the import.
        """
        jobs: list[MaskJob | Scan] = [*plan.masks, *plan.scans]
        paths = list(dict.fromkeys(found.path for job in jobs for found in job.sources))
        tell = (lambda *_: None) if progress is None else progress
        damaged = []
        for done, path in enumerate(paths, start=1):
            damaged += _damage(path)
            tell(done, len(paths) + len(jobs))
        if damaged:
            more = f"; and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
            raise ValueError(
                f"SRC: got {len(damaged)} damaged files of {len(paths)}, expected none; copy them again, or take them"
                f" out: {'; '.join(damaged[:_SHOWN])}{more}"
            )
        for done, job in enumerate(jobs, start=len(paths) + 1):
            if isinstance(job, MaskJob):
                self._mask(job)
            else:
                self._scan(job)
            tell(done, len(paths) + len(jobs))

    def people(self, plan: Plan, told: dict[str, dict[str, str]]) -> None:
        """Write the participants, with what tables told of them."""
        rows = {
            subject: {"participant_id": name, "source_id": "", **told.get(subject, {})}
            for subject, name in plan.people.items()
        }
        for scan in plan.scans:
            row = rows[scan.found.subject.lower()]
            row |= {**scan.found.columns, "source_id": scan.found.subject}
        columns = [column for column in COLUMNS if any(column in row for row in rows.values())]
        cells = [tuple(row.get(column, "n/a") for column in columns) for row in rows.values()]
        self.table("participants.tsv", columns, cells)
        _write_json(self.root / "participants.json", {column: COLUMNS[column] for column in columns})

    def split(self, people: Sequence[str], seed: int) -> Counter[str]:
        """Write the paper's split of the people, if it has one; the number of people in each part."""
        paper = self.dataset.split
        if paper is None:
            return Counter()
        kinds = split(people, paper, seed)
        self.table("split.tsv", ("participant_id", "split"), kinds.items())
        if len(kinds) != paper.people:
            self.remarks.append(f"got {len(kinds)} people, the paper has {paper.people}; its shares were kept")
        return Counter(kinds.values())

    def top_level(self) -> None:
        """Write what BIDS wants of a data set, and of its derivatives."""
        from lesioncore import __version__

        data = self.dataset
        terms = " ".join(text for text in (data.licence, data.terms) if text)
        common = {
            "BIDSVersion": _BIDS_VERSION,
            **({"License": terms} if terms else {}),
            "GeneratedBy": [
                {"Name": "lesioncore import", "Version": __version__, "Description": f"import {data.name}"}
            ],
            "SourceDatasets": [{"URL": data.home}],
        }
        readme = _README.format(
            title=data.title,
            name=data.name,
            home=data.home,
            terms=terms or "see there",
            copied="with headers of their grids alone" if self.deidentify else "as they were released",
            converted=", Analyze made NIfTI" if any(image.axes for image in data.images) else "",
            pipeline=PIPELINE,
        )
        _write_json(self.root / "dataset_description.json", {"Name": data.title, "DatasetType": "raw", **common})
        _write_text(self.root / "README.md", readme)
        _write_text(self.root / ".bidsignore", "split.tsv\nprovenance.tsv\nmissing.tsv\nleft_out.tsv\n")
        derived = self.root / "derivatives" / PIPELINE
        if derived.is_dir():
            about = {"Name": f"Masks of {data.title}", "DatasetType": "derivative", "DatasetLinks": {"raw": "../.."}}
            _write_json(derived / "dataset_description.json", {**about, **common})
            _write_text(derived / "README.md", readme)

    def table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table."""
        lines = ["\t".join(map(_cell, row)) for row in (header, *rows)]
        _write_text(self.root / name, "\n".join(lines) + "\n")

    def _scan(self, scan: Scan) -> None:
        from lesioncore.datasets.volumes import write_from_analyze

        found, axes = scan.found, scan.kind.axes
        ending = ".nii" if axes is None and found.source.lower().endswith(".nii") else ".nii.gz"
        target = self._place(scan.path + ending)
        if axes is not None:
            write_from_analyze(found.path, axes, target)
        else:
            self._take(found.path, target)
        self._record(target, found.source, found.path)
        told = self._sidecar(found.sidecar)
        if facts := {**self.dataset.facts, **told}:
            sidecar = self._place(f"{scan.path}.json")
            _write_json(sidecar, facts)
            if told:
                self._record(sidecar, found.sidecar, self.source / found.sidecar)
        for other, text in scan.kind.beside:
            _write_text(self._place(scan.path + other), text)

    def _mask(self, job: MaskJob) -> None:
        from lesioncore.datasets.volumes import same_grid, write_mask

        base = f"derivatives/{PIPELINE}/{job.path}"
        target = self._place(f"{base}.nii.gz")
        paths = [found.path for found in job.sources]
        voxels = write_mask(paths, job.kind.labels.get(self.region, ()), job.kind.known, target)
        for found in job.sources:
            self._record(target, found.source, found.path)
        for scan in job.scans:
            if scan.kind.axes is None and not same_grid(scan.found.path, paths[0]):
                self.remarks.append(f"{target.name}: lies on another grid than {scan.path.rpartition('/')[2]}")
        name = {"label-lesion": "Lesion", "label-excluded": "ROI", "desc-brain": "Brain"}[job.kind.kind]
        region = "" if self.region == "whole" else f" ({self.region})"
        _write_json(self._place(f"{base}.json"), {"Description": job.kind.about + region, "Type": name})
        self.masks[job.kind.kind] += 1
        if job.kind.kind == "label-lesion" and not voxels:
            self.empty.append(target.name)

    def _place(self, path: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _take(self, path: Path, target: Path) -> None:
        if self.deidentify:
            copy_image(path, target)
            return
        if not self.link:
            shutil.copyfile(path, target)
            return
        try:
            os.link(os.path.realpath(path), target)  # not to the link, where it is one
        except OSError as error:
            raise OSError(f"link: {path} cannot be linked to from OUT ({error.strerror}); copy it instead") from error

    def _record(self, target: Path, source: str, path: Path) -> None:
        self.provenance.append((target.relative_to(self.root).as_posix(), source, file_digest(path).hex()))

    def _sidecar(self, name: str) -> dict[str, object]:
        """What the JSON file of a release tells; nothing, and a remark, where it is none."""
        if not name:
            return {}
        try:
            told = read_object(self.source / name)
        except ValueError:
            self.remarks.append(f"{name}: no JSON object that can be read, not taken over")
            return {}
        taken = listed(told)
        if left := [field for field in told if field not in taken]:
            self.unlisted.update(left)
        return taken


def _damage(path: Path) -> list[str]:
    """What is wrong with a file that is not there to its end."""
    from lesioncore.data.nifti import check_whole

    try:
        check_whole(path)
    except ValueError as error:
        return [str(error)]
    return []


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _cell(text: str) -> str:
    """A text as a cell can have it: without tabs, line breaks and bytes that are no characters, and no formula."""
    return table_cell(" ".join(text.splitlines()).replace("\t", " ").encode("utf-8", "backslashreplace").decode())
