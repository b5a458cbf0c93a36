"""The options of ``lesioncore-bids``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from lesioncore.cli.output import Outcome, Output, UsageError

PROGRAM = "lesioncore-bids"


@dataclass(frozen=True)
class BidsApp:
    """Restore the scans of a BIDS dataset, and write residuals, scores and lesion masks as BIDS derivatives.

    Research software, not a medical device. A second run keeps complete results and restores the rest. --version alone
    prints the version.

    Parameters
    ----------
    bids_dir : Path
        The BIDS dataset.
    output_dir : Path
        Folder of the derivatives, such as bids_dir/derivatives/lesioncore.
    analysis_level : str
        participant restores scans; group makes tables of what was restored.
    participant_label : tuple of str
        People to take, with sub- or without; all when absent.
    session_label : tuple of str
        Sessions to take, with ses- or without; all when absent.
    bids_filter_file : Path, optional
        JSON file that says which scans to take by their names' entities, in fMRIPrep's form, such as
        {"t1w": {"session": "01", "acquisition": null}}. Its parts t1w, t2w and flair are read.
    modalities : tuple of str
        Contrasts to restore: T1w, T2w, FLAIR. When absent those that --prior is for: all of them with auto.
    prior : str
        Name of a prior, or its directory. auto is the embedded one of each scan's contrast.
    preprocess : str
        auto, as the prior was calibrated or trained; none; or some of extract, register, bias, separated by commas.
    skip_bids_validation : bool
        Do not have the dataset checked by the official validator, bids-validator-deno of the extra bids.
    n_procs : int
        CPU cores to use: scans in work at the same time, at most 4, share them. 0 is all cores.
    device : str
        auto, cpu or cuda.
    work_dir : Path, optional
        Folder for temporary files, which are removed; beside the results when absent.
    json : bool
        Print one JSON object on stdout.
    """

    GOES_ON: ClassVar[str] = "the same command goes on"

    bids_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BIDS_DIR")]
    output_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT_DIR")]
    analysis_level: tyro.conf.Positional[Literal["participant", "group"]]
    participant_label: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LABEL ...", help_behavior_hint="")] = ()
    session_label: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LABEL ...", help_behavior_hint="")] = ()
    bids_filter_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    modalities: Annotated[
        tuple[Literal["T1w", "T2w", "FLAIR"], ...],
        tyro.conf.arg(metavar="{T1w,T2w,FLAIR} ...", help_behavior_hint=""),
    ] = ()
    prior: Annotated[str, tyro.conf.arg(metavar="PRIOR")] = "auto"
    preprocess: Annotated[str, tyro.conf.arg(metavar="STEPS")] = "auto"
    skip_bids_validation: bool = False
    n_procs: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    device: str = "auto"
    work_dir: Annotated[Path | None, tyro.conf.arg(aliases=["-w"], metavar="DIR", help_behavior_hint="")] = None
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Run the analysis level."""
        if not self.bids_dir.is_dir():
            raise UsageError(f"bids_dir: got {self.bids_dir}, expected the folder of a BIDS dataset")
        if self.output_dir.resolve() == self.bids_dir.resolve():
            raise UsageError(
                "output_dir: got the dataset's own folder, expected one for derivatives; give"
                f" {self.bids_dir / 'derivatives' / 'lesioncore'}"
            )
        if self.n_procs < 0:
            raise UsageError(f"--n-procs: got {self.n_procs}, expected 0 or more")
        if self.analysis_level == "participant":
            from lesioncore.bids_app.participant import restore_participants

            return restore_participants(self, output)
        from lesioncore.bids_app.group import write_group

        return write_group(self, output)
