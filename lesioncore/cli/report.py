"""``lesioncore report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lesioncore.about import NOTE
from lesioncore.cli.options import open_prior
from lesioncore.cli.output import CommandError, Outcome, Output, UsageError, concerning


@dataclass(frozen=True)
class Report:
    """Write an HTML page for each saved restoration and one for all of them.

    The table of all volumes, volumes.tsv, is written beside the latter, and alone where there is no page.

    Parameters
    ----------
    results : tuple of Path
        Folders with results of lesioncore restore or lesioncore-bids, which receive the pages.
    scans : tuple of Path
        The scans that were restored, or folders with them. When absent, the pages that are there already are gathered
        in the page of the group.
    prior : str, optional
        Prior that restored the scans, where it is not part of lesioncore: without it the scores are not compared with
        those of healthy people.
    json : bool
        Print one JSON object on stdout.
    """

    results: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RESULTS [RESULTS ...]", help_behavior_hint="(required)"),
    ]
    scans: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="SCAN [SCAN ...]", help_behavior_hint="")] = ()
    prior: Annotated[str | None, tyro.conf.arg(metavar="PRIOR", help_behavior_hint="")] = None
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Write the pages; a failure does not keep the rest from being written."""
        from lesioncore.data.bids import scans_in
        from lesioncore.report.group import write_group_page
        from lesioncore.report.page import write_report
        from lesioncore.report.saved import find_scan, scans_by_content, sidecars_in
        from lesioncore.report.table import write_volumes
        from lesioncore.restoration.figure import require_matplotlib

        if not self.results:
            raise UsageError("RESULTS: expected at least one folder with results")
        can_draw = True
        try:
            require_matplotlib()
        except ImportError as error:
            if self.scans:
                raise CommandError(str(error)) from error
            output.note(f"no page is written: {error}")
            can_draw = False
        prior = None if self.prior is None else open_prior(self.prior)
        files = [path for given in self.scans for path in (scans_in(given, None).scans if given.is_dir() else [given])]
        try:
            scans = scans_by_content(files)
        except OSError as error:
            raise CommandError(f"--scans: {error}") from error
        pages, failed = [], []
        for sidecar in (sidecar for folder in self.results for sidecar in sidecars_in(folder) if scans):
            with concerning(str(sidecar)):
                try:
                    page = write_report(sidecar, find_scan(sidecar, scans), prior=prior)
                except Exception as error:
                    failed.append({"input": str(sidecar), "error": output.error(error)})
                    continue
            pages.append(str(page))
            output.say(str(page))
        groups, tables = [], []
        for folder in self.results:
            restored = bool(sidecars_in(folder))
            if restored:
                tables.append(str(write_volumes(folder)))
                output.say(tables[-1])
            if restored and not can_draw:
                continue
            try:
                groups.append(str(write_group_page(folder)))
            except FileNotFoundError as error:
                if not restored:
                    raise CommandError(f"{error} and no results of lesioncore restore") from error
                if not failed:
                    output.note(f"{error}; to have pages, name the scans with --scans")
                continue
            output.say(groups[-1])
        output.say(NOTE)
        facts = {"reports": pages, "groups": groups, "volumes": tables, "failed": failed, "note": NOTE}
        return Outcome(facts, failed=bool(failed), some=bool(pages))
