"""A simulated patient through the whole of lesioncore, and how well its lesion was found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lesioncore.data import save_image
from lesioncore.figure import require_matplotlib, restoration_figure, save_figure
from lesioncore.metrics import ScoreHistogram, dice
from lesioncore.phantom import Phantom, simulate
from lesioncore.priors import Prior, load_prior
from lesioncore.restore import restore
from lesioncore.result import Restoration

EMBEDDED = {"T2w": "phantom-t2", "T1w": "phantom-t1"}
"""Embedded prior of each contrast."""

LESION = {"T2w": "glioma", "T1w": "stroke"}
"""Lesion that is simulated by default in each contrast."""

FPR = 0.05
"""False-positive-rate limit of the reported mask."""


@dataclass(frozen=True)
class DemoReport:
    """What :func:`demo` found.

    Attributes
    ----------
    prior, contrast, lesion : str
        The prior's name, the scan's contrast and the kind of lesion.
    subject : int
        Number of the simulated patient.
    auc : float
        Area under the ROC curve of ``|D|`` over all brain voxels.
    dice, sensitivity, false_positive_rate : float
        Of the mask at the 5 % limit, over all brain voxels.
    lesion_ml, detected_ml : float
        Volumes of the true lesion and of that mask.
    seconds : dict
        Seconds of each stage.
    files : dict
        What was written.
    """

    prior: str
    contrast: str
    lesion: str
    subject: int
    auc: float
    dice: float
    sensitivity: float
    false_positive_rate: float
    lesion_ml: float
    detected_ml: float
    seconds: dict[str, float]
    files: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Form for people, each line saying what it is."""
        limit = f"{100 * FPR:g} %"
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.seconds.items())
        return [
            f"patient              simulated, number {self.subject} of the demo population: {self.contrast} with a"
            f" {self.lesion}-like lesion of {self.lesion_ml:.1f} ml",
            f"prior                {self.prior}",
            f"AUC                  {self.auc:.3f}  of |residual|, all brain voxels (0.5 is chance, 1 perfect)",
            f"Dice                 {self.dice:.3f}  of the mask at the {limit} limit with the true lesion",
            f"sensitivity          {self.sensitivity:.3f}  share of the true lesion's voxels in that mask",
            f"false-positive rate  {self.false_positive_rate:.3f}  share of the other brain voxels in it (limit"
            f" {FPR:g}, set on healthy brains)",
            f"detected volume      {self.detected_ml:.1f} ml in that mask",
            f"seconds              {sum(self.seconds.values()):.1f}  in all: {stages}",
            f"scan                 {self.files['scan']}",
            f"true lesion          {self.files['truth']}",
            f"mask at {limit:<12} {self.files['fpr05']}",
            f"figure               {self.files['figure']}",
        ]


def demo(
    directory: str | os.PathLike[str],
    *,
    prior: Prior | None = None,
    contrast: str = "T2w",
    lesion: str | None = None,
    subject: int = 0,
    voxel_size: float = 1.0,
    device: str = "auto",
    progress: bool = False,
    report: Callable[[str], None] | None = None,
) -> DemoReport:
    """Simulate a patient, restore the scan from its file, and write the results with a figure.

    The patient is of the phantom's "demo" population, which no embedded prior was trained or calibrated on.

    Parameters
    ----------
    directory : path
        Created when absent. Files of the same names are replaced.
    prior : Prior, optional
        With a calibration; the embedded one of `contrast` when absent.
    contrast : {"T2w", "T1w"}
        Image contrast.
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
    if contrast not in EMBEDDED:
        raise ValueError(f"contrast: got {contrast!r}, expected one of {sorted(EMBEDDED)}")
    require_matplotlib()  # now, and not after all the work
    lesion = LESION[contrast] if lesion is None else lesion
    prior = load_prior(EMBEDDED[contrast]) if prior is None else prior
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
    name = f"sub-demo{contrast}{subject:04d}"
    scan, truth = folder / f"{name}_{contrast}.nii.gz", folder / f"{name}_label-lesion_mask.nii.gz"
    with stage("simulate"):
        patient = simulate(subject, split="demo", contrast=contrast, lesion=lesion, voxel_size=voxel_size)
        for field, path in (("image", scan), ("lesion_mask", truth)):
            _save(patient, field, path)
    with stage("restore"):
        result = restore(scan, prior, device=device, progress=progress)
    with stage("write results"):
        files = {"scan": scan, "truth": truth, **result.save(folder)}
    with stage("figure"):
        files["figure"] = folder / f"{name}_{contrast}.png"
        save_figure(restoration_figure(result, patient.lesion_mask), files["figure"])
    return DemoReport(
        prior=result.record.metadata.name,
        contrast=contrast,
        lesion=lesion,
        subject=subject,
        **_quality(result, patient),
        seconds=seconds,
        files={key: str(path) for key, path in files.items()},
    )


def _quality(result: Restoration, patient: Phantom) -> dict[str, float]:
    score, mask, brain = (np.asanyarray(image.dataobj) for image in (result.score, result.mask(FPR), result.brain_mask))
    brain, detected, lesion = brain.astype(bool), mask.astype(bool), patient.lesion_mask
    histogram = ScoreHistogram(0.0, max(float(score.max()), 1e-6))
    histogram.add(score, lesion, brain)
    millilitres = abs(float(np.linalg.det(patient.affine[:3, :3]))) / 1000.0
    return {
        "auc": histogram.auc(),
        "dice": dice(detected, lesion, brain),
        "sensitivity": float(detected[lesion & brain].mean()),
        "false_positive_rate": float(detected[brain & ~lesion].mean()),
        "lesion_ml": float(lesion.sum()) * millilitres,
        "detected_ml": float(detected.sum()) * millilitres,
    }


def _save(patient: Phantom, field: str, path: Path) -> None:
    image = patient.nifti(field)
    save_image(np.asarray(image.dataobj), image.affine, path, header=image.header, dtype=image.get_data_dtype())
