"""``lesioncore restore``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from lesioncore.about import NOTE
from lesioncore.cli.engine_options import EngineOptions
from lesioncore.cli.options import RestoreOptions
from lesioncore.cli.output import Outcome, Output, UsageError, concerning
from lesioncore.cli.scans import ScanJob, select
from lesioncore.command_options import Flat
from lesioncore.data.bids import left_out
from lesioncore.data.names import contrast_of, other_contrast
from lesioncore.prior_names import AUTO
from lesioncore.scoring.postprocess import PostProcessing

if TYPE_CHECKING:
    from lesioncore.cli.restore_scan import RestoreScan


@dataclass(frozen=True)
class Restore:
    """Restore scans and write the residuals, scores and lesion masks as NIfTI files.

    Parameters
    ----------
    inputs : tuple of Path
        Images, or folders to search for them; masks, label maps, results and derivatives are left out.
    output : Path
        Folder for the results; those of the scans in a folder lie in it as the scans do in theirs.
    prior : str
        Name of an embedded prior, such as real-t2 or phantom-t2, or of another package's, or a prior's directory, or
        hf://owner/name@revision on the Hugging Face hub. auto is for each scan the embedded one of its contrast, by its
        name or else its intensities.
    mask : tuple of Path
        Brain masks, one for each scan in the same order; or an installed tool that makes them all: hd-bet, synthstrip
        or deepbet. When absent, what the constant background leaves, or as --preprocess says.
    overwrite : bool
        Replace results that are there already.
    resume : bool
        Keep whole results of the same scan, mask, prior and settings, and restore what is missing or damaged. Those of
        others are refused, or replaced with --overwrite.
    figure : bool
        Draw a picture of each scan, too: slices with their residual and what was detected. Needs the extra figures.
    report : bool
        A page of each scan, and one of all, are written for the browser where the extra figures is installed;
        --no-report leaves them out.
    deidentify : bool
        Refuse a scan, mask or folder whose name, which results have, could tell who it is of: all but names of BIDS
        without dates. The restored image is 0 outside the brain, where it otherwise shows a face; reports and figures,
        which show the scan, are left out.
    json : bool
        Print one JSON object on stdout.
    """

    GOES_ON: ClassVar[str] = "the same command with --resume goes on"

    inputs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="INPUT [INPUT ...]", help_behavior_hint="(required)"),
    ]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    prior: Annotated[str, tyro.conf.arg(metavar="PRIOR")] = "auto"
    mask: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="")] = ()
    options: Flat[RestoreOptions] = field(default_factory=RestoreOptions)
    postprocessing: Flat[PostProcessing] = field(default_factory=PostProcessing)
    engine: Flat[EngineOptions] = field(default_factory=EngineOptions)
    overwrite: bool = False
    resume: bool = False
    figure: bool = False
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = True
    deidentify: bool = False
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Restore all scans; one that fails does not stop the others."""
        from lesioncore.restoration.figure import require_matplotlib

        self.engine.check()
        if self.figure and self.deidentify:
            raise UsageError("--figure: shows the scan, which may have its face; leave it or --deidentify out")
        if self.figure:
            try:
                require_matplotlib()
            except ImportError as error:
                raise UsageError(f"--figure: {error}") from error
        jobs, work = self._by_contrast(output) if self._auto else self._for_one_prior(output)
        if work.report:
            work.report = can_report(output)
        if work.runs and (config := work.runs[0].run.config).solver_name == "paper":
            output.note(
                f"the paper's solver takes {config.decided_solver.steps} passes forward and backward for each slice;"
                " 500 are minutes to tens of minutes for a scan on a CPU"
            )
        part = self.engine.part_of(jobs, output)
        done, failed = self._restore(part, work, output)
        if len(jobs) > 1 and done:
            self._gather(work.report, output)
        output.say(NOTE)
        return Outcome(
            {"prior": self.prior, "scans": done, "failed": failed, "note": NOTE}, failed=bool(failed), some=bool(done)
        )

    @property
    def _auto(self) -> bool:
        """Whether each scan is for the prior of its contrast."""
        return self.prior == AUTO

    def _restore(
        self, jobs: Sequence[ScanJob], work: RestoreScan, output: Output
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the facts of the scans that were restored, and of those that failed."""
        start = time.perf_counter()
        done, failed = [], []
        results = self.engine.made().run(jobs, work)
        for number, (job, result) in enumerate(results, start=1):
            output.say(f"[{number}/{len(jobs)}] {job.scan}")
            with concerning(str(job.scan)):
                try:
                    facts = result()
                except Exception as error:
                    failed.append({"input": str(job.scan), "error": output.error(error)})
                    continue
            done.append(facts)
            if self._auto:
                output.say(f"  prior {facts['prior']}")
            for line in lines(facts):
                output.say(f"  {line}")
        if len(jobs) > 1:
            seconds = time.perf_counter() - start
            output.say(f"{len(done)} of {len(jobs)} scans restored in {seconds:.1f} s")
        return done, failed

    def _gather(self, report: bool, output: Output) -> None:
        """Write what tells of all scans in the output folder, those of earlier runs too."""
        from lesioncore.report.group import write_group_page
        from lesioncore.report.table import write_volumes

        if self.engine.num_parts > 1:  # parts that end at the same time would write over each other
            output.note(f"once all parts have ended, lesioncore report {self.output} gathers their volumes and reports")
            return
        try:
            output.say(f"volumes of all: {write_volumes(self.output)}")
        except ValueError as error:  # results of an earlier version
            output.warn(f"no table of volumes is written: {error}")
        if report:
            output.say(f"reports of all: {write_group_page(self.output)}")

    def _work(self, priors: Sequence[str]) -> RestoreScan:
        from lesioncore.cli.restore_scan import RestoreScan

        work = RestoreScan(
            output=self.output,
            priors=tuple(priors),
            by_contrast=self._auto,
            options=self.options,
            postprocessing=self.postprocessing,
            overwrite=self.overwrite,
            resume=self.resume,
            figure=self.figure,
            report=self.report and not self.deidentify,
            deidentify=self.deidentify,
        )
        work.open()
        return work

    def _for_one_prior(self, output: Output) -> tuple[list[ScanJob], RestoreScan]:
        """Return the scans for the prior that is named, and what restores them, with notes and warnings on stderr."""
        work = self._work([self.prior])
        modality = work.runs[0].run.metadata.modality
        selection = select(self.inputs, self.mask, modality)
        if modality is None and selection.mixed:
            raise UsageError(
                f"INPUT: got scans of {selection.mixed} in folders, but prior {self.prior} is for no one contrast; name"
                " the files of one contrast"
            )
        for note in selection.notes:
            output.note(note)
        for job in selection.jobs:
            contrast = other_contrast(job.scan, modality)
            if contrast is not None:
                output.warn(f"{job.scan}: is a {contrast} image by its name, but the prior is for {modality}")
        return selection.jobs, work

    def _by_contrast(self, output: Output) -> tuple[list[ScanJob], RestoreScan]:
        """Return the scans that an embedded prior may be for, and what restores them, with notes on stderr."""
        from lesioncore.restoration.prior_choice import PRIORS

        selection = select(self.inputs, self.mask, None)
        for note in selection.notes:
            output.note(note)
        jobs: list[ScanJob] = []
        unnamed: list[str] = []
        named, skipped = Counter[str](), Counter[str]()
        for job in selection.jobs:
            contrast = contrast_of(job.scan)
            if contrast is not None and contrast not in PRIORS and not job.named:
                skipped[f"no embedded prior is for {contrast}"] += 1
                continue
            jobs.append(job)
            if contrast is None:
                unnamed.append(str(job.scan))
            else:
                named[contrast] += 1
        if not jobs:
            raise UsageError("; ".join(["INPUT: no scan is left in these folders", *left_out(skipped)]))
        for note in left_out(skipped):
            output.note(note)
        for contrast, name in PRIORS.items():
            if contrast in named:
                output.note(f"prior {name}: {named[contrast]} taken for {contrast} by name")
        if unnamed:
            output.note(
                f"names that tell no contrast, each with the prior that its intensities fit: {', '.join(unnamed)}"
            )
        return jobs, self._work([name for contrast, name in PRIORS.items() if unnamed or contrast in named])


def can_report(output: Output) -> bool:
    """Whether matplotlib is there, which reports need; a note says that it is not."""
    from lesioncore.restoration.figure import require_matplotlib

    try:
        require_matplotlib()
    except ImportError as error:
        output.note(f"no report is written: {error}")
        return False
    return True


def lines(facts: dict[str, Any]) -> list[str]:
    """Describe a restored scan in lines of text."""
    if "kept" in facts:
        return [f"finished before: {len(facts['kept'])} files kept in {facts['folder']}"]
    report = [f"done again: {facts['again']}"] if "again" in facts else []
    report += [f"written to {facts['folder']} ({len(facts['files'])} files) in {facts['seconds']:.1f} s"]
    if facts["preprocessing"]:
        steps = ", ".join(f"{step['name']} {step['seconds']:.1f} s" for step in facts["preprocessing"])
        report.append(f"preprocessed: {steps}")
    if "report" in facts["files"]:
        report.append(f"report: {facts['files']['report']}")
    if facts["detected_ml"] is None:
        report.append("no lesion masks: the prior's thresholds do not hold for these settings")
    else:
        parts = [
            f"{ml:.1f} ml at {100 * float(fpr):g} % ({facts['brain_ml'] * float(fpr):.0f} ml)"
            for fpr, ml in facts["detected_ml"].items()
        ]
        report.append(f"detected (allowed) at limits of false positives: {', '.join(parts)}")
        report.append(f"the brain has {facts['brain_ml']:.0f} ml")
    return report
