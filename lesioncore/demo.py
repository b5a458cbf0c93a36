"""A patient with a simulated lesion through the whole of lesioncore, and how well the lesion was found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lesioncore.metrics import ScoreHistogram, dice
from lesioncore.metrics.limits import LIMITS
from lesioncore.models import Prior, load_prior
from lesioncore.phantom import Phantom, simulate, template_head
from lesioncore.phantom.dataset import save_part
from lesioncore.report.page import write_report
from lesioncore.restoration.figure import require_matplotlib, restoration_figure, save_figure
from lesioncore.restoration.restore import restore
from lesioncore.restoration.result import Restoration

PATIENTS = {"template": {"T1w": "real-t1"}, "phantom": {"T2w": "phantom-t2", "T1w": "phantom-t1"}}
"""Contrasts of each patient, the default first, and the embedded prior of each."""

LESION = {"T2w": "glioma", "T1w": "stroke"}
"""Lesion that is simulated by default in each contrast."""

ANATOMY = {
    "template": "the average {contrast} brain of 152 people (ICBM152) in a simulated head",
    "phantom": "a simulated brain, {contrast}",
}
"""What the patients are, for people."""


@dataclass(frozen=True)
class DemoReport:
    """What :func:`demo` found.

    Attributes
    ----------
    prior, patient, contrast, lesion : str
        The prior's name, the kind of patient, the scan's contrast and the kind of lesion.
    subject : int
        Number of the patient.
    auc : float
        Area under the ROC curve of the score over all brain voxels.
    lesion_ml : float
        Volume of the true lesion.
    at_limit : dict
        Of the mask at each false-positive limit, by the limit ("0.01"): ``dice``, ``sensitivity`` and
        ``false_positive_rate`` over all brain voxels, and ``detected_ml``, its volume.
    seconds : dict
        Seconds of each stage.
    files : dict
        What was written.
    """

    prior: str
    patient: str
    contrast: str
    lesion: str
    subject: int
    auc: float
    lesion_ml: float
    at_limit: dict[str, dict[str, float]]
    seconds: dict[str, float]
    files: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Form for people, each line saying what it is."""
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.seconds.items())
        anatomy = ANATOMY[self.patient].format(contrast=self.contrast)
        lines = [
            f"patient     number {self.subject}: {anatomy}",
            f"lesion      a simulated {self.lesion} of {self.lesion_ml:.1f} ml",
            f"prior       {self.prior}",
            f"AUC         {self.auc:.3f}, of the score, all brain voxels (0.5 is chance, 1 perfect)",
            "",
            "limit       Dice   sensitivity   false positives   detected",
        ]
        for limit, found in self.at_limit.items():
            lines.append(
                f"{f'{100 * float(limit):g} %':<11} {found['dice']:.3f}  {found['sensitivity']:.3f}"
                f"         {100 * found['false_positive_rate']:4.1f} %            {found['detected_ml']:.1f} ml"
            )
        return [
            *lines,
            "            (sensitivity: share of the lesion's voxels in the mask; false positives: share of the brain's",
            "            others in it, which the limit, set on healthy people, is for)",
            "",
            f"seconds     {sum(self.seconds.values()):.1f} in all: {stages}",
            f"scan        {self.files['scan']}",
            f"true lesion {self.files['truth']}",
            f"detections  {self.files['fpr01']} and fpr05, fpr10",
            f"figure      {self.files['figure']}",
            f"report      {self.files['report']}",
        ]


def demo(
    directory: str | os.PathLike[str],
    *,
    patient: str = "template",
    prior: Prior | None = None,
    contrast: str | None = None,
    lesion: str | None = None,
    subject: int = 0,
    voxel_size: float = 1.0,
    device: str = "auto",
    progress: bool = False,
    report: Callable[[str], None] | None = None,
) -> DemoReport:
    """Make a patient, restore the scan from its file, and write the results with a figure and a report.

    Parameters
    ----------
    directory : path
        Created when absent. Files of the same names are replaced.
    patient : {"template", "phantom"}
        A T1w head with its skull, in it the ICBM152 average brain (:func:`lesioncore.phantom.template_head`), which
        goes the whole way of a raw scan. Or a simulated brain of the phantom's "demo" population, without a skull,
        which no embedded prior was trained or calibrated on.
    prior : Prior, optional
        With a calibration; the embedded one of `patient` and `contrast` when absent.
    contrast : {"T1w", "T2w"}, optional
        Image contrast; T1w alone for the template, T2w for the phantom when absent.
    lesion : {"glioma", "stroke"}, optional
        Glioma for T2w and stroke for T1w when absent.
    subject : int
        Number of the patient, from 0.
    voxel_size : float
        Voxel size of the scan, mm.
    device : str
        As for ``restore``.
    progress : bool
        Show a bar on a terminal.
    report : callable, optional
        Called with the name of each stage as it starts.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the prior has no calibration for the default settings.
    ImportError
        If the extra `demo` is not installed.
    """
    contrast = check_patient(patient, contrast)
    require_matplotlib()  # now, and not after all the work
    lesion = LESION[contrast] if lesion is None else lesion
    prior = load_prior(PATIENTS[patient][contrast]) if prior is None else prior
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        if report is not None:
            report(name)
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 3)

    # The contrast is part of the subject's name: mask names have none, and T1w must not replace the masks of T2w.
    name = f"sub-{patient}{contrast}{subject:04d}"
    scan, truth = folder / f"{name}_{contrast}.nii.gz", folder / f"{name}_label-lesion_mask.nii.gz"
    with stage("simulate"):
        if patient == "template":
            made = template_head(subject, lesion=lesion, voxel_size=voxel_size)
        else:
            made = simulate(subject, split="demo", contrast=contrast, lesion=lesion, voxel_size=voxel_size)
        for field, path in (("image", scan), ("lesion_mask", truth)):
            save_part(made, field, path)
    with stage("restore"):
        result = restore(scan, prior, device=device, progress=progress)
    with stage("write results"):
        files = {"scan": scan, "truth": truth, **result.save(folder)}
    with stage("figure"):
        files["figure"] = folder / f"{name}_{contrast}.png"
        save_figure(restoration_figure(result, made.lesion_mask), files["figure"])
    with stage("report"):
        files["report"] = write_report(files["sidecar"], result.scan.source, prior=prior)
    return DemoReport(
        prior=result.record.metadata.name,
        patient=patient,
        contrast=contrast,
        lesion=lesion,
        subject=subject,
        **_quality(result, made),
        seconds=seconds,
        files={key: str(path) for key, path in files.items()},
    )


def check_patient(patient: str, contrast: str | None) -> str:
    """The contrast of a patient's scan; ``ValueError`` if there is no such patient or it has no such contrast."""
    if patient not in PATIENTS:
        raise ValueError(f"patient: got {patient!r}, expected one of {sorted(PATIENTS)}")
    contrasts = PATIENTS[patient]
    if contrast is None:
        return next(iter(contrasts))
    if contrast not in contrasts:
        others = [name for name, its in PATIENTS.items() if contrast in its]
        hint = f"; {' or '.join(others)} has it" if others else ""
        raise ValueError(f"contrast: got {contrast!r}, expected {' or '.join(contrasts)} for patient {patient!r}{hint}")
    return contrast


def _quality(result: Restoration, patient: Phantom) -> dict[str, Any]:
    score, brain = (np.asanyarray(image.dataobj) for image in (result.score, result.brain_mask))
    brain, lesion = brain.astype(bool), patient.lesion_mask
    histogram = ScoreHistogram(0.0, max(float(score.max()), 1e-6))
    histogram.add(score, lesion, brain)
    millilitres = abs(float(np.linalg.det(patient.affine[:3, :3]))) / 1000.0
    at_limit = {}
    for fpr in LIMITS:
        detected = np.asanyarray(result.mask(fpr).dataobj).astype(bool)
        at_limit[f"{fpr:g}"] = {
            "dice": dice(detected, lesion, brain),
            "sensitivity": float(detected[lesion & brain].mean()),
            "false_positive_rate": float(detected[brain & ~lesion].mean()),
            "detected_ml": float(detected.sum()) * millilitres,
        }
    return {"auc": histogram.auc(), "lesion_ml": float(lesion.sum()) * millilitres, "at_limit": at_limit}
