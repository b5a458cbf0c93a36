"""``lesioncore demo``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lesioncore.cli.options import open_prior
from lesioncore.cli.output import NOTE, Output, Report, UsageError


@dataclass(frozen=True)
class Demo:
    """Simulate a patient that no prior has seen, find the lesion, and show how well that went.

    Parameters
    ----------
    out : Path
        Folder for the files; those of an earlier demo are replaced.
    contrast : str
        Image contrast; decides the embedded prior.
    lesion : str, optional
        Kind of lesion; glioma for T2w and stroke for T1w when absent.
    subject : int
        Number of the simulated patient, from 0.
    voxel_size : float
        Voxel size of the scan in mm, 0.5 to 8.
    prior : str, optional
        Another prior than the embedded one: its directory.
    device : str
        auto, cpu or cuda.
    json : bool
        Print one JSON object on stdout.
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")] = Path("lesioncore-demo")
    contrast: Literal["T2w", "T1w"] = "T2w"
    lesion: Annotated[
        Literal["glioma", "stroke"] | None, tyro.conf.arg(metavar="{glioma,stroke}", help_behavior_hint="")
    ] = None
    subject: int = 0
    voxel_size: float = 1.0
    prior: Annotated[str | None, tyro.conf.arg(metavar="PRIOR", help_behavior_hint="")] = None
    device: str = "auto"
    json: bool = False

    def run(self, output: Output) -> Report:
        """Run the demo and print what came of it."""
        from lesioncore.demo import EMBEDDED, demo
        from lesioncore.restore import resolve_device

        resolve_device(self.device)  # its error, before seconds of work
        if self.subject < 0:
            raise UsageError(f"--subject: got {self.subject}, expected a whole number of at least 0")
        if not 0.5 <= self.voxel_size <= 8.0:
            raise UsageError(f"--voxel-size: got {self.voxel_size:g}, expected millimetres between 0.5 and 8")
        found = demo(
            self.out,
            prior=open_prior(self.prior or EMBEDDED[self.contrast]),
            contrast=self.contrast,
            lesion=self.lesion,
            subject=self.subject,
            voxel_size=self.voxel_size,
            device=self.device,
            progress=True,
            report=output.stage,
        )
        for line in found.lines():
            output.say(line)
        output.say(NOTE)
        return Report({**found.to_dict(), "note": NOTE})
