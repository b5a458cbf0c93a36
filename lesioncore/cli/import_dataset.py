"""``lesioncore import``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lesioncore.choices import DatasetName, LesionRegion
from lesioncore.cli.output import Outcome, Output, UsageError, bar
from lesioncore.words import counted, people

if TYPE_CHECKING:
    from lesioncore.datasets import Imported

_SHOWN = 5


@dataclass(frozen=True)
class Import:
    """Make a BIDS data set of a public data set, as it was downloaded: scans, lesion masks, people, split.

    Nothing is downloaded. docs/how-to/import-datasets.md says where each data set is to be had, and under which terms.

    Parameters
    ----------
    dataset : str
        Which data set it is.
    source : Path
        Folder that its archives were unpacked in.
    out : Path
        Folder to make; one that exists is refused.
    modality : tuple of str
        Scans that are wanted, such as T2w. Where none is given: all but those with contrast agent (T1ce) and ADC maps.
    region : str
        Part of a tumour that the masks are of; other lesions have the whole alone.
    seed : int
        Of the paper's split, which CamCAN, BRATS17 and ATLAS 1.2 have.
    link : bool
        Make hard links instead of copies: no space is used, but who changes a file here changes the released one.
    deidentify : bool
        Write scans anew with the header fields of a list alone, and no extensions: nothing else of a release's headers
        is copied. Their voxels stay, and show a face where the release does.
    json : bool
        Print one JSON object on stdout.
    """

    dataset: tyro.conf.Positional[DatasetName]
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    modality: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SUFFIX [SUFFIX ...]", help_behavior_hint="")] = ()
    region: LesionRegion = "whole"
    seed: int = 0
    link: bool = False
    deidentify: bool = False
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Import, and say what is there and what is not."""
        from lesioncore.datasets import DATASETS, import_dataset

        if self.seed < 0:
            raise UsageError(f"--seed: got {self.seed}, expected a whole number of at least 0")
        if self.link and self.deidentify:
            raise UsageError(
                "--link: a linked file keeps its header, which --deidentify is to write anew; leave one out"
            )
        dataset = DATASETS[self.dataset]
        try:
            dataset.check_options(self.modality, self.region)
        except ValueError as error:
            raise UsageError(f"--{error}") from error
        with bar("importing", "file") as progress:
            imported = import_dataset(
                dataset,
                self.source,
                self.out,
                modalities=self.modality,
                region=self.region,
                seed=self.seed,
                link=self.link,
                deidentify=self.deidentify,
                progress=progress,
            )
        self._say(imported, output)
        facts = {
            "folder": str(self.out),
            "people": imported.people,
            "scans": imported.scans,
            "masks": imported.masks,
            "empty_masks": imported.empty,
            "split": imported.splits,
            "seed": self.seed,
            "missing": [{"person": person, "what": what} for person, what in imported.missing],
            "left_out": imported.left_out,
            "remarks": imported.remarks,
        }
        return Outcome(facts)

    def _say(self, imported: Imported, output: Output) -> None:
        masks = _listed(imported.masks)
        output.say(
            f"{self.out}: {people(imported.people)}, scans: {_listed(imported.scans)}"
            + (f", masks: {masks}" if masks else "")
        )
        if imported.splits:
            output.say(f"split.tsv, seed {self.seed}: {_listed(imported.splits)}")
        for reason, count in imported.left_out.most_common():
            output.say(f"left out: {counted(count, 'file', 'files')}: {reason} (left_out.tsv)")
        _warn(output, [f"{person}: {what}" for person, what in imported.missing], "missing.tsv")
        _warn(output, [f"{name}: has no voxel" for name in imported.empty], "")
        _warn(output, imported.remarks, "")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _warn(output: Output, lines: list[str], table: str) -> None:
    """The first lines of a list, and how many more there are."""
    for line in lines[:_SHOWN]:
        output.warn(line)
    if len(lines) > _SHOWN:
        output.warn(f"and {len(lines) - _SHOWN} more, all of them " + (f"in {table}" if table else "with --json"))
