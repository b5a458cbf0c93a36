"""The participant level: restores scans; a failure of one does not stop the others."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lesioncore.about import NOTE
from lesioncore.bids_app.command import BidsApp
from lesioncore.bids_app.dataset import check_output, logged, write_dataset_files
from lesioncore.bids_app.derivatives import write_derivatives
from lesioncore.bids_app.selection import BidsScan, find_scans, read_filters
from lesioncore.bids_app.validation import validate
from lesioncore.cli.options import RestoreOptions
from lesioncore.cli.output import Outcome, Output, concerning
from lesioncore.cli.prior_run import PriorRun
from lesioncore.cli.restore import can_report, lines
from lesioncore.cli.restore_scan import volumes, write_missing_report
from lesioncore.cli.resume import standing_of
from lesioncore.cohort.local import LocalEngine
from lesioncore.cohort.machine import cpu_cores, memory, scans_at_once
from lesioncore.data.bids import results_of
from lesioncore.data.names import split_name, stem_of
from lesioncore.data.temporary import clear
from lesioncore.prior_names import AUTO
from lesioncore.report.group import write_group_page
from lesioncore.report.page import write_report
from lesioncore.restoration.prior_choice import PRIORS
from lesioncore.restoration.restore import restore_scans


def restore_participants(app: BidsApp, output: Output) -> Outcome:
    """Restore the selected scans and write them as BIDS derivatives.

    Parameters
    ----------
    app : BidsApp
        Options of the command line.
    output : Output
        Writer of the command's lines.

    Returns
    -------
    Outcome
        Not complete if a scan failed.
    """
    check_output(app.output_dir)
    filters, unused = read_filters(app.bids_filter_file)
    for part in unused:
        output.note(f"--bids-filter-file: {part} is not read, only t1w, t2w and flair")
    options = RestoreOptions(device=app.device, preprocess=app.preprocess)
    named = None if app.prior == AUTO else PriorRun.of(app.prior, options)
    scans = find_scans(app.bids_dir, app.participant_label, app.session_label, _contrasts(app, named), filters)
    validation = "the dataset is not validated, as asked for" if app.skip_bids_validation else validate(app.bids_dir)
    runs = {
        contrast: named or PriorRun.of(PRIORS[contrast], options)
        for contrast in sorted({scan.contrast for scan in scans})
    }
    write_dataset_files(app.bids_dir, app.output_dir)
    with logged(app, output):
        output.note(validation)
        return _restore_all(app, scans, runs, output)


def _contrasts(app: BidsApp, named: PriorRun | None) -> tuple[str, ...]:
    """Return the contrasts that are asked for; without --modalities those that the prior is for, or all."""
    modality = None if named is None else named.run.metadata.modality
    return app.modalities or (tuple(PRIORS) if modality is None else (modality,))


def _restore_all(app: BidsApp, scans: list[BidsScan], runs: dict[str, PriorRun], output: Output) -> Outcome:
    cores = app.n_procs or cpu_cores()
    workers = min(scans_at_once(cores, memory()), len(scans))
    if app.n_procs:
        torch.set_num_threads(max(1, cores // workers))
    if app.work_dir is not None:
        app.work_dir.mkdir(parents=True, exist_ok=True)
    report = can_report(output)
    start = time.perf_counter()

    def restore(scan: BidsScan, again: bool = False) -> dict[str, Any]:
        with concerning(scan.relative):
            return _restore(scan, runs[scan.contrast], app, report)

    done, failed = [], []
    for number, (scan, result) in enumerate(LocalEngine(workers).run(scans, restore), start=1):
        output.say(f"[{number}/{len(scans)}] {scan.relative}")
        modality = runs[scan.contrast].run.metadata.modality
        if modality not in (None, scan.contrast):
            output.warn(f"{scan.relative}: is a {scan.contrast} image by its name, but the prior is for {modality}")
        with concerning(scan.relative):
            try:
                facts = result()
            except Exception as error:
                failed.append({"input": scan.relative, "error": output.error(error)})
                continue
        done.append(facts)
        for line in lines(facts):
            output.say(f"  {line}")
    if report:
        for person in sorted({Path(facts["input"]).parts[0] for facts in done}):
            write_group_page(app.output_dir / person, app.output_dir / f"{person}.html")
    output.say(f"{len(done)} of {len(scans)} scans are done, in {time.perf_counter() - start:.1f} s")
    if failed:
        output.say(f"{len(failed)} failed:")
        for failure in failed:
            output.say(f"  {failure['error']}")
    output.say(NOTE)
    return Outcome({"scans": done, "failed": failed, "note": NOTE}, failed=bool(failed), some=bool(done))


def _restore(scan: BidsScan, prior_run: PriorRun, app: BidsApp, report: bool) -> dict[str, Any]:
    """Restore one scan and write its files, unless an earlier run finished it."""
    folder = (app.output_dir / scan.relative).parent
    uri = f"bids:raw:{scan.relative}"
    clear(folder)
    existing = results_of(folder, *split_name(stem_of(scan.path)))
    # Sidecars that `lesioncore restore` wrote have no sources: such results lack files of the derivatives.
    expected = {**prior_run.expected, "Sources": [uri]}
    standing = standing_of(scan.path, None, existing, "_desc-restored_", expected)
    if standing.state == "finished":
        if report:
            write_missing_report(existing, scan.path, prior_run.prior)
        return {"input": scan.relative, "folder": str(folder), "kept": [str(path) for path in existing]}
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(prior_run.seed)
    result = restore_scans(scan.path, prior_run.prior, prior_run.run, progress=True, generator=generator)
    written = write_derivatives(result, uri, folder, app.work_dir)
    if report:
        written["report"] = write_report(written["sidecar"], result.scan.source, prior=prior_run.prior)
    return {
        "input": scan.relative,
        "folder": str(folder),
        "files": {key: str(path) for key, path in written.items()},
        "preprocessing": [asdict(step) for step in result.scan.steps],
        "seconds": round(time.perf_counter() - start, 3),
        **({"again": standing.reason} if standing.reason else {}),
        **volumes(result),
    }
