"""``lesioncore calibrate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from lesioncore.cli.options import RestoreOptions, fetched, open_prior
from lesioncore.cli.output import (
    CommandError,
    Outcome,
    Output,
    UsageError,
    bar,
    check_voxel_size,
    concerning,
    why_unwritable,
)
from lesioncore.command_options import Flat
from lesioncore.metrics.limits import LIMITS
from lesioncore.words import people

if TYPE_CHECKING:
    from lesioncore.calibration.record import Calibration


@dataclass(frozen=True)
class Calibrate:
    """Find a prior's data-consistency weight, smoothing and thresholds on healthy scans, and write them with it.

    Parameters
    ----------
    data : tuple of str
        Scans of healthy people that the prior was not trained on: folders, images, lists of paths
        (.txt, .csv, .tsv), or simulated ones (phantom:T2w:0-19).
    prior : str
        Name or directory of the prior, or hf://owner/name of one on the Hugging Face hub.
    output : Path, optional
        Folder for a copy of the prior with the new calibration. Without it the prior's own directory is changed.
    criterion : str, optional
        How weight and smoothing are chosen: implant, those that best find anomalies implanted into the healthy scans;
        or change, the paper's, the smallest weight that changes healthy scans least, and no smoothing. By default
        implant, or change for the paper solver. What --tv-weight and --smoothing give is taken.
    tv_weights : tuple of float, optional
        Weights to try, ascending.
    modality : str, optional
        Contrast of the scans, such as T2w; the prior's when absent.
    voxel_size : float, optional
        Of simulated scans, mm; the prior's when absent.
    json : bool
        Print one JSON object on stdout.
    """

    data: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="DATA [DATA ...]", help_behavior_hint="(required)"),
    ]
    prior: Annotated[str, tyro.conf.arg(metavar="PRIOR")]
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="OUT", help_behavior_hint="")] = None
    criterion: Annotated[
        Literal["implant", "change"] | None, tyro.conf.arg(metavar="{implant,change}", help_behavior_hint="")
    ] = None
    tv_weights: Annotated[tuple[float, ...], tyro.conf.arg(metavar="W [W ...]", help_behavior_hint="")] = ()
    modality: Annotated[str | None, tyro.conf.arg(metavar="SUFFIX", help_behavior_hint="")] = None
    voxel_size: Annotated[float | None, tyro.conf.arg(metavar="MM", help_behavior_hint="")] = None
    options: Flat[RestoreOptions] = field(default_factory=RestoreOptions)
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Calibrate and write."""
        from lesioncore.calibration.healthy import FEWEST_TO_COMPARE
        from lesioncore.evaluation.scans import load
        from lesioncore.models import embedded_priors, save_calibration
        from lesioncore.models.hub import is_hub_name
        from lesioncore.models.prior import metadata_of
        from lesioncore.restoration.calibrate import DEFAULT_WEIGHTS, calibrate
        from lesioncore.restoration.healthy_scans import about
        from lesioncore.subjects import check_distinct, find_subjects

        if not self.data:
            raise UsageError("DATA: expected scans of healthy people")
        if self.voxel_size is not None:
            check_voxel_size(self.voxel_size)
        if self.output is not None and self.output.exists():
            raise CommandError(f"{self.output}: exists; remove it, or choose another --output")
        if self.output is None and self.prior in embedded_priors():
            raise _needs_output(self.prior, "comes with lesioncore")
        if self.output is None and is_hub_name(self.prior):
            raise _needs_output(self.prior, "is on the hub")
        source = fetched(self.prior)  # once: a branch may be another commit when the calibration is found
        prior = open_prior(source)
        if source not in embedded_priors() and not Path(source).is_dir():
            raise CommandError(
                f"--prior: {self.prior} is another package's, which lesioncore cannot write with a calibration"
            )
        if self.output is None and why_unwritable(Path(source)) is not None:
            raise _needs_output(self.prior, "lies where you may not write")
        # config() takes an absent --spread-map from the calibration that is replaced, but these scans are to decide it.
        config = replace(self.options.config(prior), spread_map=self.options.spread_map)
        precision = self.options.precision_of(config, prior)
        metadata = metadata_of(prior)
        modality = self.modality or metadata.modality
        subjects = find_subjects(self.data, modality=modality, split="validation", note=output.note)
        check_distinct("DATA", subjects)
        persons = len({subject.person for subject in subjects})
        if persons < len(subjects):
            output.warn(
                f"DATA: {len(subjects)} scans of {people(persons)}; each counts as a person, so that a risk"
                " (mask(risk=...)) is too small; give one scan of each"
            )
        voxel_size = self.voxel_size
        if voxel_size is None:
            voxel_size = metadata.grid.voxel_size if metadata.grid else 1.0
        scans = []
        with bar("preparing", "scan") as progress:
            for number, subject in enumerate(subjects, start=1):
                with concerning(subject.id), about(subject.id):
                    loaded = load(subject, voxel_size, ill=False)
                    scans.append(loaded.prepare(metadata, normalized=config.normalized, steps=config.preprocess))
                progress(number, len(subjects))
        with bar("calibrating", "round") as progress:
            calibration = calibrate(
                prior,
                scans,
                config=config,
                tv_weights=self.tv_weights or DEFAULT_WEIGHTS,
                criterion=self.criterion,
                seed=self.options.seed,
                device=self.options.device,
                progress=progress,
            )
        calibration = replace(calibration, notes={"data": list(self.data), "precision": precision})
        directory = save_calibration(source, calibration, self.output)
        for line in lines(calibration):
            output.say(line)
        output.say(f"written to {directory}")
        if calibration.subjects < FEWEST_TO_COMPARE:
            output.warn(
                f"DATA: got {people(calibration.subjects, 'healthy')}, which is few: scans unlike the healthy ones are"
                f" remarked on from {FEWEST_TO_COMPARE} on, and a limit that a new person exceeds with a risk of 0.05"
                " (mask(risk=0.05)) takes 19; give more"
            )
        thresholds = {f"{limit:g}": calibration.threshold(limit) for limit in LIMITS}
        return Outcome(
            {
                "directory": str(directory),
                "tv_weight": calibration.tv_weight,
                "smoothing": calibration.smoothing,
                "criterion": calibration.criterion,
                "precision": precision,
                "curve": list(calibration.curve),
                "thresholds": thresholds,
                "subjects": calibration.subjects,
                "pixels": calibration.pixels,
            }
        )


def _needs_output(prior: str, where: str) -> UsageError:
    name = Path(prior).name
    return UsageError(
        f"--output: got none, but {prior} {where}, and cannot be changed; give a new folder for a copy of it with the"
        f" new calibration, such as -o {name}-calibrated, and later --prior {name}-calibrated"
    )


def lines(calibration: Calibration) -> Sequence[str]:
    """Describe a calibration in lines of text."""
    limits = ", ".join(f"{calibration.threshold(limit):.3g} at {100 * limit:g} %" for limit in LIMITS)
    table = []
    if calibration.curve:
        key, label = (
            ("implant_auc", "AUC of implanted anomalies")
            if "implant_auc" in calibration.curve[0]
            else ("change", "mean change of healthy pixels")
        )
        table.append(f"   weight  smoothing, mm  {label}")
        for weight in dict.fromkeys(row["tv_weight"] for row in calibration.curve):
            best = max((row for row in calibration.curve if row["tv_weight"] == weight), key=lambda row: row[key])
            chosen = "  <- chosen" * (weight == calibration.tv_weight)
            table.append(f"{weight:9g}  {best['smoothing']:13g}  {best[key]:{len(label)}.4f}{chosen}")
    return [
        *table,
        f"data-consistency weight {calibration.tv_weight:g}, smoothing {calibration.smoothing:g} mm"
        f" ({calibration.criterion})",
        f"thresholds: {limits}, from {calibration.pixels} voxels of {people(calibration.subjects)}",
    ]
