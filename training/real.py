"""Build the priors for real scans: ``python -m lesioncore.training.real IXI_FOLDER -o DIR``.

The anatomy is that of real people, IXI's T1w heads with MUSE regions; the contrasts and scanners are simulated
(:mod:`lesioncore.training.rendered`), and phantoms are mixed in. Thresholds come from whole heads of held-out people on
scanners that training has not seen, which go through the preprocessing of any scan. No patient is seen.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
import tyro

from lesioncore.calibration.record import Calibration
from lesioncore.data.grid import SliceGrid
from lesioncore.models import MultiscaleVAEConfig, load_model, save_calibration, save_model
from lesioncore.phantom import simulate
from lesioncore.restoration.calibrate import calibrate
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.prior_choice import PRIORS
from lesioncore.solvers import EMSolver
from lesioncore.subjects import FileSubject, Loaded, PhantomSubject, Subject
from lesioncore.training.augment import Augmentation
from lesioncore.training.config import TrainingConfig
from lesioncore.training.corruption import Corruption
from lesioncore.training.heads import brain_core
from lesioncore.training.job import Job
from lesioncore.training.recipes import MultiscaleVAERecipe
from lesioncore.training.rendered import Contrast, rendered_subjects
from lesioncore.training.train import train

VOXEL_SIZE = 2.0
_NEW_SCANNERS = 1000  # numbers of scanners that no training scan has

RESTORE = RestoreConfig(
    EMSolver(steps=8, outlier=3.0), tv_weight=0.5, smoothing=4.0, asymmetry=0.5, edge_preserving=True
)
"""Options of restoration. The search for the weight would go beyond 1, where the residual of healthy people is 0 nearly
everywhere: its spread, the score's unit, is no measure of a scan then (1 % of healthy voxels exceed 14 to 20 of it).
The search for the smoothing finds 4 mm for T2w, and for T1w what is within .001 of its best AUC. On real heads the
deviation at a place is predicted by that of its mirror image with a coefficient of .8 to 1.4, on these simulated
scanners with .4 to .9: half of it is taken off, so that limits of these hold for those. Smoothing that keeps edges
takes off the rim around large lesions that was detected with them."""

SIGN: dict[Contrast, Literal[1, -1]] = {"T1w": -1, "T2w": 1, "FLAIR": 1}
"""Whether most lesions are brighter or darker than healthy tissue; thresholds are kept for either."""

RECIPE = MultiscaleVAERecipe(
    MultiscaleVAEConfig(
        image_shape=(100, 100), channels=(24, 48, 80, 112), latent_channels=48, finer_channels=(3, 6, 12)
    ),
    corruption=Corruption(strength=2.0, spacing=9.0),
)
# bfloat16 takes half the time on CPUs with instructions for it, and ten times as long on those without.
TRAINING = TrainingConfig(
    slices_seen=200_000,
    batch_size=16,
    validate_every=20_000,
    augmentation=Augmentation(rotation=5.0, scaling=0.05, translation=2.0),
)


class CorePhantom(PhantomSubject):
    """A phantom whose brain ends where the tissue does, as extracted brains do: without the rim of CSF."""

    def key(self) -> str:
        return hashlib.sha256(f"core {super().key()}".encode()).hexdigest()

    def load(self, grid: SliceGrid) -> Loaded:
        phantom = simulate(self.number, split=self.split, seed=self.seed, contrast=self.modality, voxel_size=VOXEL_SIZE)
        core = brain_core(phantom.brain_mask, phantom.tissue[0] < 0.5)
        return Loaded(np.where(core, phantom.image, 0), phantom.affine, core, None, np.eye(4))


@dataclass(frozen=True)
class Build:
    """Build the priors for real scans.

    Parameters
    ----------
    folder : Path
        BIDS folder of IXI's T1w heads at 2 mm with ``derivatives/muse``
        (:func:`lesioncore.training.rendered.rendered_subjects`).
    output : Path
        Folder that receives ``real-t1``, ``real-t2``, ``real-flair`` and, under ``work``, the runs.
    contrasts : tuple of {"T1w", "T2w", "FLAIR"}
        Which to build.
    scanners : int
        Simulated scanners for each person.
    phantoms : int
        Phantoms among the training scans; of T1w and T2w alone.
    recipe : MultiscaleVAERecipe
        The model and its objective.
    training : TrainingConfig
        Length, learning rate, seed.
    start_from_embedded : bool
        Each prior starts from the embedded one of its name, and not from random weights.
    calibrate_only : bool
        Nothing is trained: copies of the embedded priors get new thresholds.
    threads : int
        Of the training; another number rounds differently.
    resume : bool
        Go on with interrupted runs.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    contrasts: tuple[Contrast, ...] = get_args(Contrast)
    scanners: int = 4
    phantoms: int = 200
    recipe: MultiscaleVAERecipe = RECIPE
    training: TrainingConfig = TRAINING
    start_from_embedded: bool = False
    calibrate_only: bool = False
    threads: int = 1
    resume: bool = False


def people(options: Build, contrast: Contrast) -> list[Subject]:
    """Scans to train on."""
    learning: list[Subject] = [*rendered_subjects(options.folder, contrast, options.scanners, _registrations(options))]
    if contrast != "FLAIR":
        learning += [CorePhantom.of(contrast, number, "train") for number in range(options.phantoms)]
    return learning


def held_out_people(options: Build, contrast: Contrast) -> list[Subject]:
    """Scans to validate and calibrate on, of other people and other scanners: whole heads.

    Their brains are found as a user's are, so that the borders of both are alike: thresholds follow from those as much
    as from the prior.
    """
    held_out: list[Subject] = [
        replace(subject, id=f"{subject.id}-new", number=subject.number + _NEW_SCANNERS, whole=True)
        for subject in rendered_subjects(options.folder, contrast, 2, _registrations(options), held_out=True)
    ]
    if contrast != "FLAIR":
        held_out += [CorePhantom.of(contrast, number, "validation") for number in range(8)]
    return held_out


def calibration_people(options: Build, contrast: Contrast) -> list[Subject]:
    """Scans that thresholds come from: the held-out people's, and on T1w real scans of every sixth trained person.

    Real T1w brains vary more from fold to fold than rendered ones: 2.6 to 3.1 % of their voxels exceed a limit of 1 %
    that comes from these alone. Held-out people's own scans are left to judge by.
    """
    held_out = held_out_people(options, contrast)
    if contrast != "T1w":
        return held_out
    learning = rendered_subjects(options.folder, contrast, 1, _registrations(options))
    own = [FileSubject(f"{subject.person}_T1w", subject.person, contrast, subject.scan) for subject in learning[3::6]]
    return own + held_out


def _registrations(options: Build) -> Path:
    return options.output / "work" / "registrations"


def build(options: Build, contrast: Contrast) -> Path:
    """Train, calibrate and write one prior; returns its directory."""
    name = PRIORS[contrast]
    learning, held_out = people(options, contrast), held_out_people(options, contrast)
    phantoms = sum(isinstance(subject, CorePhantom) for subject in learning)
    job = Job(
        recipe=options.recipe,
        data=(f"{contrast} rendered from {options.folder.name}", *([f"{phantoms} phantoms"] if phantoms else [])),
        output=options.output / "work" / name,
        modality=contrast,
        voxel_size=VOXEL_SIZE,
        training=options.training,
        start_from=name if options.start_from_embedded else None,
        workers=options.threads,
        device="cpu",
        calibrate=False,
        resume=options.resume,
    )
    report = partial(_report, contrast, {})
    facts = train(job, subjects=(learning, held_out), progress=report)
    model: Any = load_model(facts["directory"])
    model.metadata = model.metadata.with_calibration(thresholds(model, options, contrast, report))
    record = json.loads((Path(facts["directory"]) / "config.json").read_text())["training"]
    record["threads"] = options.threads
    del record["job"]["output"]  # where the run's files were does not belong in a published record
    card = _card(name, contrast, record, options)
    return save_model(model, options.output / name, card=card, training=record, overwrite=True)


def recalibrate(options: Build, contrast: Contrast) -> Path:
    """Calibrate a copy of the embedded prior; returns its directory."""
    name = PRIORS[contrast]
    target = options.output / name
    if target.exists():
        raise FileExistsError(f"output: {target} exists; remove it, or choose another folder")
    calibration = thresholds(load_model(name), options, contrast, partial(_report, contrast, {}))
    return save_calibration(name, calibration, target)


def thresholds(
    model: Any,
    options: Build,
    contrast: Contrast,
    report: Callable[[str, int, int, dict[str, float]], None],
) -> Calibration:
    """Calibrate a prior: thresholds and spread map."""
    people = calibration_people(options, contrast)
    scans = [subject.load(model.metadata.grid).prepare(model.metadata) for subject in people]
    calibration = calibrate(
        model,
        scans,
        config=replace(RESTORE, sign=SIGN[contrast]),
        device="cpu",
        progress=lambda done, total: report("calibrate", done, total, {}),
    )
    data = "whole heads of held-out people on scanners that training has not seen"
    own = sum(isinstance(subject, FileSubject) for subject in people)
    notes = {"data": f"{data}, and {own} trained people's own {contrast} heads" if own else data}
    return replace(calibration, notes=notes)


def _report(
    contrast: str, last: dict[str, int], stage: str, done: int, total: int, figures: Mapping[str, float]
) -> None:
    """A line for each twentieth of a stage."""
    part = 20 * done // max(1, total)
    if last.get(stage) != part:
        last[stage] = part
        shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        print(f"{contrast} {stage} {5 * part} % {shown}", file=sys.stderr, flush=True)


def _card(name: str, contrast: Contrast, record: dict, options: Build) -> str:
    height, width = options.recipe.model.image_shape
    start = "the embedded prior of that name" if options.start_from_embedded else "random weights"
    own = ", and from every sixth trained person's own T1w head" if contrast == "T1w" else ""
    with_phantoms = "" if contrast == "FLAIR" else ", and simulated\n  brains (`lesioncore.phantom`)"
    return f"""# {name}

A multiscale VAE prior of healthy {contrast} slices, {height} x {width} pixels of {VOXEL_SIZE:g} mm, for
`lesioncore.restore`.

- **Data**: {record["slices"]} transversal slices of {record["subjects"]} scans: the brains of healthy people of the IXI
  data set (T1w, one 3 T scanner), each as {options.scanners} simulated scanners show it in {contrast}{with_phantoms}.
  No patient was seen.
- **Training**: {options.training.slices_seen} slices, from {start}.
- **Preprocessing**: brain extraction without the rim of CSF, affine registration to ICBM152 2009a, bias correction.
- **Calibration**: spread by place and thresholds from whole heads of held-out people on simulated scanners that
  training has not seen, preprocessed as any scan is{own}.
  Scores are those of {"dark" if SIGN[contrast] < 0 else "bright"} lesions unless another sign is asked for.
- **Limits**: contrasts other than the person's own are rendered; children, strong atrophy and contrast agent are not in
  the data.
- **Rebuild**: `python -m lesioncore.training.real IXI_FOLDER -o DIR`; the figures of this build are in `config.json`.
- **Licence**: CC BY-SA 3.0, as the data: IXI data set, https://brain-development.org/ixi-dataset/. The ICBM152 maps
  behind the simulated brains are (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological
  Institute, McGill University.

Research software, not a medical device.
"""


def main() -> None:
    """Command line."""
    options = tyro.cli(Build, description=__doc__)
    torch.set_num_threads(options.threads)
    for contrast in options.contrasts:
        print((recalibrate if options.calibrate_only else build)(options, contrast), file=sys.stderr)


if __name__ == "__main__":
    main()
