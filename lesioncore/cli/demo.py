"""``lesioncore demo``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lesioncore.about import NOTE
from lesioncore.cli.options import open_prior
from lesioncore.cli.output import Outcome, Output, UsageError, check_voxel_size


@dataclass(frozen=True)
class Demo:
    """Find a simulated lesion in a head or brain that no prior has seen, and show how well that went.

    Parameters
    ----------
    out : Path
        Folder for the files; those of an earlier demo are replaced.
    patient : str
        template is a T1w head with its skull and the average brain of 152 people (ICBM152), restored by real-t1 as a
        raw scan; phantom is a simulated brain without a skull.
    contrast : str, optional
        Image contrast; when absent T1w for the template, which has no other, and T2w for the phantom.
    lesion : str, optional
        Kind of lesion; glioma for T2w and stroke for T1w when absent.
    subject : int
        Number of the patient, from 0.
    voxel_size : float
        Voxel size of the scan in mm, 0.5 to 8.
    prior : str, optional
        Another prior than the embedded one: its directory, or hf://owner/name.
    device : str
        auto, cpu or cuda.
    json : bool
        Print one JSON object on stdout.
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")] = Path("lesioncore-demo")
    patient: Literal["template", "phantom"] = "template"
    contrast: Annotated[Literal["T1w", "T2w"] | None, tyro.conf.arg(metavar="{T1w,T2w}", help_behavior_hint="")] = None
    lesion: Annotated[
        Literal["glioma", "stroke"] | None, tyro.conf.arg(metavar="{glioma,stroke}", help_behavior_hint="")
    ] = None
    subject: int = 0
    voxel_size: float = 1.0
    prior: Annotated[str | None, tyro.conf.arg(metavar="PRIOR", help_behavior_hint="")] = None
    device: str = "auto"
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Run the demo and print its results."""
        from lesioncore.demo import PATIENTS, check_patient, demo
        from lesioncore.engine.device import resolve_device

        resolve_device(self.device)  # a missing device is an error before seconds of work
        if self.subject < 0:
            raise UsageError(f"--subject: got {self.subject}, expected a whole number of at least 0")
        check_voxel_size(self.voxel_size)
        try:
            contrast = check_patient(self.patient, self.contrast)
        except ValueError as error:
            raise UsageError(f"--{error}") from error
        demo_report = demo(
            self.out,
            patient=self.patient,
            prior=open_prior(self.prior or PATIENTS[self.patient][contrast]),
            contrast=contrast,
            lesion=self.lesion,
            subject=self.subject,
            voxel_size=self.voxel_size,
            device=self.device,
            progress=True,
            report=output.stage,
        )
        for line in demo_report.lines():
            output.say(line)
        output.say(NOTE)
        return Outcome({**demo_report.to_dict(), "note": NOTE})
