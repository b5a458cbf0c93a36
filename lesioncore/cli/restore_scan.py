"""Restores one scan as ``lesioncore restore`` does, in this process or another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from socket import gethostname
from typing import Any

import torch

from lesioncore.cli.options import RestoreOptions
from lesioncore.cli.output import CommandError, concerning
from lesioncore.cli.prior_run import PriorRun
from lesioncore.cli.resume import Standing, others_exist, standing_of
from lesioncore.cli.scans import ScanJob
from lesioncore.data.bids import results_of
from lesioncore.data.deidentify import check_images, check_name
from lesioncore.data.files import check_here
from lesioncore.data.names import contrast_of, split_name, stem_of
from lesioncore.data.temporary import clear
from lesioncore.engine.progress import ProgressBar
from lesioncore.models import Prior
from lesioncore.report.page import is_whole, report_path, write_report
from lesioncore.restoration.healthy_scans import check_contrast
from lesioncore.restoration.prepare import prepare, rescaled
from lesioncore.restoration.prior_choice import PRIORS, choose_by_intensities
from lesioncore.restoration.restore import restore_scans
from lesioncore.restoration.result import Restoration
from lesioncore.restoration.saving import saving
from lesioncore.restoration.scan import Scan
from lesioncore.scoring.postprocess import PostProcessing


@dataclass
class RestoreScan:
    """Restores scans and writes their results.

    It is sent to other processes without its priors, and loads them there.

    Attributes
    ----------
    output : Path
        Folder for the results.
    priors : tuple of str
        Names of the priors.
    by_contrast : bool
        Each scan is for the prior of its contrast, by its name or else its intensities.
    options, postprocessing
        How scans are restored.
    overwrite, resume, figure, report, deidentify : bool
        As the command's options.
    runs : list of PriorRun
        The priors with their runs, once it is open.
    fingerprints : list of str
        What they have to be like where they were opened first.
    """

    output: Path
    priors: tuple[str, ...]
    by_contrast: bool
    options: RestoreOptions
    postprocessing: PostProcessing
    overwrite: bool
    resume: bool
    figure: bool
    report: bool
    deidentify: bool
    runs: list[PriorRun] = field(init=False, default_factory=list)
    fingerprints: list[str | None] = field(init=False, default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "runs": []}

    def open(self) -> None:
        """Load the priors.

        Raises
        ------
        CommandError
            If one cannot be loaded, or has other weights than where it was opened first.
        UsageError
            If an option is out of its range, or two options contradict each other.
        """
        self.runs = [PriorRun.of(name, self.options, self.postprocessing) for name in self.priors]
        fingerprints = [one.run.metadata.fingerprint for one in self.runs]
        if self.fingerprints and fingerprints != self.fingerprints:
            raise CommandError(
                f"--prior: {', '.join(self.priors)} has other weights on {gethostname()} than where the command was"
                " given; install the same version of lesioncore, or name a prior's directory that all machines see"
            )
        self.fingerprints = fingerprints

    def __call__(self, job: ScanJob, again: bool = False) -> dict[str, Any]:
        """Restore a scan, and return what is to be told of it (JSON-able); whole results of a lost worker are kept."""
        with concerning(str(job.scan)):
            return self._restore(job, again)

    def _restore(self, job: ScanJob, again: bool) -> dict[str, Any]:
        check_here(job.scan)
        if self.deidentify:
            for path in (job.scan, *([job.mask] if isinstance(job.mask, Path) else [])):
                check_name(path, job.place)
        candidates = self._candidates(job.scan)
        folder = self.output / job.place
        clear(folder)
        existing = results_of(folder, *split_name(stem_of(job.scan)))
        standings = [(self._standing(job, existing, one, self.resume or again), one) for one in candidates]
        # Which prior an unnamed scan had in an earlier run is told by its results.
        standing, chosen = min(standings, key=lambda one: one[0].state == "other")
        if standing.state == "finished":
            if self.report:
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
        with saving(result, folder, figure=self.figure, brain_only=self.deidentify) as saved:
            if self.deidentify:
                check_images(path for path in saved.files.values() if path.name.endswith(".nii.gz"))
        written = saved.files
        if self.report:
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

    def _candidates(self, scan: Path) -> Sequence[PriorRun]:
        """Return the runs that a scan may be for: several only where its intensities have to tell its contrast."""
        contrast = contrast_of(scan)
        if not self.by_contrast or contrast is None:
            return self.runs
        if contrast not in PRIORS:
            raise ValueError(f"--prior: no embedded prior is for {contrast}, only for {', '.join(PRIORS)}; name one")
        return [one for one in self.runs if one.name == PRIORS[contrast]]

    def _judged(self, job: ScanJob, candidates: Sequence[PriorRun]) -> tuple[Path | Scan, PriorRun]:
        """Return a scan and its prior; the scan is prepared already where its intensities have to tell its contrast.

        A prior that is named holds for a file that is named, whatever its intensities.
        """
        first = candidates[0]
        if contrast_of(job.scan) is not None or (not self.by_contrast and job.named):
            return job.scan, first
        if not self.by_contrast:
            config = first.run.config
            with ProgressBar(True, f"preprocessing {job.scan.name}") as progress:
                scan = prepare(
                    job.scan,
                    first.run.metadata,
                    mask=job.mask,
                    normalized=config.normalized,
                    steps=config.preprocess,
                    progress=progress,
                )
            check_contrast(scan, first.run.metadata.modality)
            return scan, first
        with ProgressBar(True, f"preprocessing {job.scan.name}") as progress:
            scan = prepare(job.scan, first.run.metadata, mask=job.mask, progress=progress)
        try:
            choice = choose_by_intensities(scan)
        except ValueError as error:
            raise ValueError(str(error).replace("prior: ", "--prior: ", 1)) from error
        chosen = next(one for one in candidates if one.name == choice.prior)
        if chosen.run.config.normalized or chosen.run.config.preprocess is not None:
            return job.scan, chosen  # it is wanted in another form than the one that it was judged by
        return rescaled(scan, chosen.run.metadata), chosen

    def _standing(self, job: ScanJob, existing: Sequence[Path], one: PriorRun, resume: bool) -> Standing:
        """How far earlier runs came with a scan; results are others' where nothing is to be resumed."""
        if not resume:
            return Standing("other" if existing else "none")
        expected = {**one.expected, "BrainOnly": self.deidentify or None}
        standing = standing_of(job.scan, job.mask, existing, "_desc-restored_", expected)
        if standing.state == "finished" and self.figure and not any(path.suffix == ".png" for path in existing):
            return Standing("unfinished", "they have no figure")
        return standing


def write_missing_report(results: Sequence[Path], scan: Path, prior: Prior) -> None:
    """Write the report of saved results if there is none that is whole."""
    sidecar = next(path for path in results if "_desc-restored_" in path.name and path.suffix == ".json")
    if not is_whole(report_path(sidecar)):
        write_report(sidecar, scan, prior=prior)


def volumes(result: Restoration) -> dict[str, Any]:
    """Volumes in ml of the brain and, if the result has thresholds, of the detections at each FPR limit."""
    return {"brain_ml": result.volumes["BrainMillilitres"], "detected_ml": result.volumes["DetectedMillilitres"]}
