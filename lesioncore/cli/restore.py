"""``lesioncore restore``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from lesioncore.about import NOTE
from lesioncore.cli.options import RestoreOptions
from lesioncore.cli.output import CommandError, Outcome, Output, UsageError, check_writable
from lesioncore.cli.resume import Standing, others_exist, standing_of
from lesioncore.cli.scans import ScanJob, select
from lesioncore.cli.workers import in_order
from lesioncore.command_options import Flat
from lesioncore.data.bids import left_out, results_of
from lesioncore.data.files import check_here
from lesioncore.data.names import contrast_of, other_contrast, split_name, stem_of
from lesioncore.data.temporary import clear
from lesioncore.scoring.postprocess import PostProcessing

if TYPE_CHECKING:
    from lesioncore.cli.prior_run import PriorRun
    from lesioncore.models import Prior
    from lesioncore.restoration.result import Restoration
    from lesioncore.restoration.scan import Scan


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
    workers : int
        Scans in work at the same time: while the device restores one, others are read and written. Each takes memory
        for a scan and its results. 0 is as many as there are CPU cores, but at most 4.
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
    workers: int = 0
    overwrite: bool = False
    resume: bool = False
    figure: bool = False
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = True
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Restore all scans; one that fails does not stop the others."""
        from lesioncore.restoration.figure import require_matplotlib

        if self.workers < 0:
            raise UsageError(f"--workers: got {self.workers}, expected 0 or more")
        if self.figure:
            try:
                require_matplotlib()
            except ImportError as error:
                raise UsageError(f"--figure: {error}") from error
        if self.output.exists() and not self.output.is_dir():
            raise CommandError(f"{self.output}: exists and is no folder; choose another --output")
        check_writable(self.output)
        report = self.report and can_report(output)
        jobs, runs = self._by_contrast(output) if self._auto else self._for_one_prior(output)
        if runs and (config := runs[0].run.config).solver_name == "paper":
            output.note(
                f"the paper's solver takes {config.decided_solver.steps} passes forward and backward for each slice;"
                " 500 are minutes to tens of minutes for a scan on a CPU"
            )
        start = time.perf_counter()
        done, failed = [], []
        for number, (job, result) in enumerate(self._results(jobs, runs, report, output), start=1):
            output.say(f"[{number}/{len(jobs)}] {job.scan}")
            with output.about(str(job.scan)):
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
            if done:
                self._gather(report, output)
        output.say(NOTE)
        return Outcome(
            {"prior": self.prior, "scans": done, "failed": failed, "note": NOTE}, failed=bool(failed), some=bool(done)
        )

    @property
    def _auto(self) -> bool:
        """Whether each scan is for the prior of its contrast."""
        from lesioncore.restoration.prior_choice import AUTO

        return self.prior == AUTO

    def _gather(self, report: bool, output: Output) -> None:
        """Write what tells of all scans in the output folder, those of earlier runs too."""
        from lesioncore.report.group import write_group_page
        from lesioncore.report.table import write_volumes

        try:
            output.say(f"volumes of all: {write_volumes(self.output)}")
        except ValueError as error:  # results of an earlier version
            output.warn(f"no table of volumes is written: {error}")
        if report:
            output.say(f"reports of all: {write_group_page(self.output)}")

    def _for_one_prior(self, output: Output) -> tuple[list[ScanJob], list[PriorRun]]:
        """Return the scans for the prior that is named, and its run, with notes and warnings on stderr."""
        from lesioncore.cli.prior_run import PriorRun

        one = PriorRun.of(self.prior, self.options, self.postprocessing)
        modality = one.run.metadata.modality
        selection = select(self.inputs, self.mask, modality)
        if modality is None and selection.mixed:
            raise UsageError(
                f"INPUT: got scans of {selection.mixed} in folders, but prior {one.name} is for no one contrast; name"
                " the files of one contrast"
            )
        for note in selection.notes:
            output.note(note)
        for job in selection.jobs:
            contrast = other_contrast(job.scan, modality)
            if contrast is not None:
                output.warn(f"{job.scan}: is a {contrast} image by its name, but the prior is for {modality}")
        return selection.jobs, [one]

    def _by_contrast(self, output: Output) -> tuple[list[ScanJob], list[PriorRun]]:
        """Return the scans that an embedded prior may be for, and the runs of these priors, with notes on stderr."""
        from lesioncore.cli.prior_run import PriorRun
        from lesioncore.restoration.prior_choice import PRIORS

        selection = select(self.inputs, self.mask, None)
        for note in selection.notes:
            output.note(note)
        jobs: list[ScanJob] = []
        unnamed: list[str] = []
        named, skipped = Counter[str](), Counter[str]()
        for job in selection.jobs:
            contrast = contrast_of(job.scan)
            if contrast is not None and contrast not in PRIORS and job.scan not in self.inputs:
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
        runs = [
            PriorRun.of(name, self.options, self.postprocessing)
            for contrast, name in PRIORS.items()
            if unnamed or contrast in named
        ]
        for contrast, name in PRIORS.items():
            if contrast in named:
                output.note(f"prior {name}: {named[contrast]} taken for {contrast} by name")
        if unnamed:
            output.note(
                f"{len(unnamed)} whose names tell no contrast, each with the prior that its intensities fit:"
                f" {', '.join(unnamed)}"
            )
        return jobs, runs

    def _results(
        self, jobs: Sequence[ScanJob], runs: Sequence[PriorRun], report: bool, output: Output
    ) -> Iterator[tuple[ScanJob, Callable[[], dict[str, Any]]]]:
        """Yield the jobs in their order, each with a function that waits for its facts; several are in work at once."""

        def restore(job: ScanJob) -> dict[str, Any]:
            with output.about(str(job.scan)):
                return self._restore(job, self._candidates(job.scan, runs), report)

        return in_order(jobs, restore, self.workers)

    def _candidates(self, scan: Path, runs: Sequence[PriorRun]) -> Sequence[PriorRun]:
        """Return the runs that a scan may be for: several only where its intensities have to tell its contrast."""
        from lesioncore.restoration.prior_choice import PRIORS

        contrast = contrast_of(scan)
        if not self._auto or contrast is None:
            return runs
        if contrast not in PRIORS:
            raise ValueError(f"--prior: no embedded prior is for {contrast}, only for {', '.join(PRIORS)}; name one")
        return [one for one in runs if one.name == PRIORS[contrast]]

    def _restore(self, job: ScanJob, candidates: Sequence[PriorRun], report: bool) -> dict[str, Any]:
        import torch

        from lesioncore.report.page import write_report
        from lesioncore.restoration.restore import restore_scans

        check_here(job.scan)
        folder = self.output / job.place
        clear(folder)
        existing = results_of(folder, *split_name(stem_of(job.scan)))
        standings = [(self._standing(job, existing, one), one) for one in candidates]
        # Which prior an unnamed scan had in an earlier run is told by its results.
        standing, chosen = min(standings, key=lambda one: one[0].state == "other")
        if standing.state == "finished":
            if report:
                write_missing_report(existing, job.scan, chosen.prior)
            return {
                "input": str(job.scan),
                "prior": chosen.name,
                "folder": str(folder),
                "kept": [str(path) for path in existing],
            }
        if standing.state == "other" and not self.overwrite:
            raise others_exist(standing, existing[0], self.resume)
        start = time.perf_counter()
        scan, chosen = self._judged(job, candidates)
        result = restore_scans(
            scan,
            chosen.prior,
            chosen.run,
            mask=job.mask,
            progress=True,
            generator=torch.Generator().manual_seed(self.options.seed),
        )
        written = result.save(folder, figure=self.figure)
        if report:
            written["report"] = write_report(written["sidecar"], result.scan.source, prior=chosen.prior)
        return {
            "input": str(job.scan),
            "prior": chosen.name,
            "mask": None if job.mask is None else str(job.mask),
            "folder": str(folder),
            "files": {key: str(path) for key, path in written.items()},
            "preprocessing": [asdict(step) for step in result.scan.steps],
            "precision": result.record.precision,
            "seconds": round(time.perf_counter() - start, 3),
            **({"again": standing.reason} if standing.reason else {}),
            **volumes(result),
        }

    def _judged(self, job: ScanJob, candidates: Sequence[PriorRun]) -> tuple[Path | Scan, PriorRun]:
        """Return a scan and its prior; the scan is prepared already where its intensities have to tell its contrast.

        A prior that is named holds for a file that is named, whatever its intensities.
        """
        from lesioncore.restoration.healthy_scans import check_contrast
        from lesioncore.restoration.prepare import prepare, rescaled
        from lesioncore.restoration.prior_choice import choose_by_intensities

        first = candidates[0]
        if contrast_of(job.scan) is not None or (not self._auto and job.scan in self.inputs):
            return job.scan, first
        if not self._auto:
            config = first.run.config
            scan = prepare(
                job.scan, first.run.metadata, mask=job.mask, normalized=config.normalized, steps=config.preprocess
            )
            check_contrast(scan, first.run.metadata.modality)
            return scan, first
        scan = prepare(job.scan, first.run.metadata, mask=job.mask)
        try:
            choice = choose_by_intensities(scan)
        except ValueError as error:
            raise ValueError(str(error).replace("prior: ", "--prior: ", 1)) from error
        chosen = next(one for one in candidates if one.name == choice.prior)
        if chosen.run.config.normalized or chosen.run.config.preprocess is not None:
            return job.scan, chosen  # it is wanted in another form than the one that it was judged by
        return rescaled(scan, chosen.run.metadata), chosen

    def _standing(self, job: ScanJob, existing: Sequence[Path], one: PriorRun) -> Standing:
        """How far earlier runs came with a scan; results are others' where nothing is to be resumed."""
        if not self.resume:
            return Standing("other" if existing else "none")
        standing = standing_of(job.scan, job.mask, existing, "_desc-restored_", one.expected)
        if standing.state == "finished" and self.figure and not any(path.suffix == ".png" for path in existing):
            return Standing("unfinished", "they have no figure")
        return standing


def write_missing_report(results: Sequence[Path], scan: Path, prior: Prior) -> None:
    """Write the report of saved results if there is none that is whole."""
    from lesioncore.report.page import is_whole, report_path, write_report

    sidecar = next(path for path in results if "_desc-restored_" in path.name and path.suffix == ".json")
    if not is_whole(report_path(sidecar)):
        write_report(sidecar, scan, prior=prior)


def can_report(output: Output) -> bool:
    """Whether matplotlib is there, which reports need; a note says that it is not."""
    from lesioncore.restoration.figure import require_matplotlib

    try:
        require_matplotlib()
    except ImportError as error:
        output.note(f"no report is written: {error}")
        return False
    return True


def volumes(result: Restoration) -> dict[str, Any]:
    """Volumes in ml of the brain and, if the result has thresholds, of the detections at each FPR limit."""
    return {"brain_ml": result.volumes["BrainMillilitres"], "detected_ml": result.volumes["DetectedMillilitres"]}


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
