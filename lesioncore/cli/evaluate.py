"""``lesioncore evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from lesioncore.about import NOTE
from lesioncore.cli.methods import open_detector
from lesioncore.cli.output import CommandError, Outcome, Output, UsageError, bar, check_voxel_size

if TYPE_CHECKING:
    from lesioncore.detectors import Detector
    from lesioncore.evaluation import Evaluation
    from lesioncore.evaluation.boxes import Box
    from lesioncore.subjects import Subject

_EXAMPLES = 3


@dataclass(frozen=True)
class Evaluate:
    """Compare detectors on scans with known lesions, and write figures, tables and pictures.

    Parameters
    ----------
    data : tuple of str
        Scans with lesion masks: BIDS folders with masks in derivatives, tables with the columns image
        and lesion (.csv, .tsv), or simulated patients (phantom:T2w:0-23:glioma). May be left out with --healthy.
    output : Path
        Folder for the results. The same command goes on where it was stopped, and computes what is new alone.
    methods : tuple of str
        Detectors, each as [NAME=]MODEL[:METHOD[:OPTION=VALUE,...]]. MODEL is an embedded prior's name, a directory or
        hf://owner/name; METHOD map, projection, unet, mean-distance, intensity or equalized; options are such as
        sign=-1 or smoothing=6, for map also solver=prox, tv_weight=3 or protocol=paper; and erosion, median (mm) and
        min_volume (mm^3), which clean what is detected, as for restore. The first one is compared with the others.
    healthy : tuple of str
        Healthy scans that no calibration has seen: how well the false-positive limits hold. Named as data.
    calibration : tuple of str
        Other healthy scans, which give thresholds to the methods that have none. Named as data.
    limits : tuple of float
        False-positive-rate limits.
    boxes : Path, optional
        Boxes around lesions (.csv, .tsv, .json), in place of lesion masks or beside them: how many are found.
    by : tuple of str
        Columns of participants.tsv by which people are grouped, and lesion_size or lesion_contrast. Numbers are cut
        at their quartiles, or at edges: age:40,60,sex.
    modality : str, optional
        Contrast of the scans, such as T2w; that of the methods' models when absent, where they have one.
    preprocess : str
        auto, each method as its model was trained; none; or some of extract, register, bias, separated by commas.
    voxel_size : float
        Of simulated scans, mm, 0.5 to 8. Files keep their own.
    figures : bool
        ROC curves and detection against the lesion's size are drawn, and, if the first method is map with
        thresholds, the scans that it detects worst, middling and best; --no-figures leaves them out.
    curves : bool
        Draw detection against the data-consistency weight and the solver's steps, if the first method is map. Restores
        slabs of up to eight scans of each kind some twenty times.
    device : str
        auto, cpu or cuda.
    json : bool
        Print one JSON object on stdout.
    """

    GOES_ON: ClassVar[str] = "the same command goes on"

    data: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="[DATA ...]", help_behavior_hint=""),
    ]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="METHOD [METHOD ...]")]
    healthy: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA [DATA ...]", help_behavior_hint="")] = ()
    calibration: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA [DATA ...]", help_behavior_hint="")] = ()
    limits: tuple[float, ...] = (0.01, 0.05, 0.10)
    boxes: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    by: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN[,COLUMN ...]", help_behavior_hint="")] = ()
    modality: Annotated[str | None, tyro.conf.arg(metavar="SUFFIX", help_behavior_hint="")] = None
    preprocess: Annotated[str, tyro.conf.arg(metavar="STEPS")] = "auto"
    voxel_size: float = 1.0
    figures: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = True
    curves: bool = False
    device: str = "auto"
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Score, compare, write."""
        from lesioncore.evaluation import write_report
        from lesioncore.evaluation.boxes import read_boxes
        from lesioncore.evaluation.scans import check_patients
        from lesioncore.evaluation.tables import markdown

        self._check()
        detectors = self._open()
        modalities = {detector.metadata.modality for detector in detectors.values()}
        modality = self.modality or (modalities.pop() if len(modalities) == 1 else None)
        patients = _find(self.data, "test", modality=modality, note=output.note)
        modality = modality or next((patient.modality for patient in patients if patient.modality), None)
        healthy = _find(self.healthy, "test", modality=modality, note=output.note)
        calibration_subjects = _find(self.calibration, "validation", modality=modality, note=output.note)
        boxes = None if self.boxes is None else read_boxes(self.boxes)
        check_patients(patients, boxes)
        contrasts = {s.modality for s in (*patients, *healthy, *calibration_subjects) if s.modality is not None}
        for name, detector in detectors.items():
            own = detector.metadata.modality
            if own is not None and (others := sorted(contrasts - {own})):
                output.warn(f"{name}: is for {own} images, but some scans are {', '.join(others)}")
        _check_disjoint(patients, healthy, calibration_subjects)
        evaluation = self._score(detectors, patients, healthy, calibration_subjects, boxes, output)
        output.stage("tables and figures")
        files = write_report(evaluation, self.output, figures=self.figures)
        summary = evaluation.summary()
        output.say(markdown(summary).removesuffix(f"\n{NOTE}\n"))  # before pictures, without which it is worth as much
        files |= self._draw(evaluation, next(iter(detectors.values())), patients, healthy)
        output.say(f"{len(files)} files in {self.output}: {', '.join(sorted(files))}")
        output.say(NOTE)
        return Outcome({**summary, "files": {name: str(path) for name, path in files.items()}, "note": NOTE})

    def _check(self) -> None:
        """Check what needs neither scans nor models, so that a mistake is reported at once."""
        from lesioncore.evaluation.strata import parse_by
        from lesioncore.preprocess.pipeline import parse_steps
        from lesioncore.restoration.figure import require_matplotlib

        if not self.data and not self.healthy:
            raise UsageError("DATA: expected scans with lesion masks, or healthy ones with --healthy")
        if not self.methods:
            raise UsageError("--methods: expected at least one, such as phantom-t2")
        if not self.limits or not all(0 < limit < 1 for limit in self.limits):
            raise UsageError(f"--limits: got {list(self.limits)}, expected false-positive rates between 0 and 1")
        try:
            parse_steps(self.preprocess)
            parse_by(self.by)
        except ValueError as error:
            raise UsageError(f"--{error}") from error
        check_voxel_size(self.voxel_size)
        if self.figures or self.curves:
            try:
                require_matplotlib()
            except ImportError as error:
                raise CommandError(f"{error}; or give --no-figures, and no --curves") from error

    def _open(self) -> dict[str, Detector]:
        from lesioncore.preprocess.pipeline import parse_steps

        detectors = dict(open_detector(spec) for spec in self.methods)
        if len(detectors) < len(self.methods):
            raise UsageError("--methods: two have one name; name them, such as signed=phantom-t2:map:sign=1")
        for detector in detectors.values():
            detector.preprocess = parse_steps(self.preprocess)
        return detectors

    def _score(
        self,
        detectors: dict[str, Detector],
        patients: list[Subject],
        healthy: list[Subject],
        calibration_subjects: list[Subject],
        boxes: dict[str, list[Box]] | None,
        output: Output,
    ) -> Evaluation:
        from lesioncore.evaluation import evaluate, thresholds_from
        from lesioncore.evaluation.strata import parse_by

        options: dict[str, Any] = {"voxel_size": self.voxel_size, "device": self.device}
        options["store"] = self.output / "scores"
        for name, detector in detectors.items():
            if detector.calibration is None and calibration_subjects:
                with bar(f"thresholds of {name}", "scan") as progress:
                    calibration = thresholds_from(detector, calibration_subjects, **options, progress=progress)
                detector.metadata = detector.metadata.with_calibration(calibration)
            elif detector.calibration is None:
                output.warn(f"{name}: has no thresholds for these settings; --calibration finds them on healthy scans")
        with bar("evaluating", "scan") as progress:
            options |= {"limits": self.limits, "boxes": boxes, "by": parse_by(self.by), "progress": progress}
            return evaluate(detectors, patients, healthy, **options)

    def _draw(
        self, evaluation: Evaluation, detector: Detector, patients: list[Subject], healthy: list[Subject]
    ) -> dict[str, Path]:
        from lesioncore.detectors import MAPDetector
        from lesioncore.evaluation.curves import Curves, write_curves
        from lesioncore.evaluation.examples import choose_examples, draw_examples
        from lesioncore.evaluation.scans import lacks_mask

        files: dict[str, Path] = {}
        summary = evaluation.summary()
        if not isinstance(detector, MAPDetector) or summary["subjects"] == summary["without_lesion"]:
            return files
        options: dict[str, Any] = {"voxel_size": self.voxel_size, "device": self.device}
        if self.figures and detector.calibration is not None:
            limit = min(self.limits, key=lambda x: abs(x - 0.05))
            names = choose_examples(next(iter(evaluation.patients.values())), limit, _EXAMPLES)
            examples = [subject for subject in patients if subject.id in names]
            paths = draw_examples(detector, examples, self.output / "examples", **options)
            files |= {f"examples/{path.name}": path for path in paths}
        if self.curves and next(iter(summary["methods"].values()))["auc"] is not None:
            masked = [subject for subject in patients if not lacks_mask(subject)]
            config = replace(detector.config, preprocess=detector.preprocess)
            curves = Curves(detector.prior, masked, healthy, config=config, **options)
            files |= write_curves(curves, self.output)
        return files


def _find(data: Sequence[str], split: Literal["test", "validation"], **options: Any) -> list[Subject]:
    from lesioncore.subjects import find_subjects

    return find_subjects(data, split=split, **options) if data else []


def _check_disjoint(patients: Sequence[Subject], healthy: Sequence[Subject], calibration: Sequence[Subject]) -> None:
    """Raise an error if a scan is given twice, as two people or for two ends; patients alone are checked before."""
    from lesioncore.evaluation.scans import check_names
    from lesioncore.subjects import same_scan

    for argument, subjects in (("--healthy", healthy), ("--calibration", calibration)):
        check_names(argument, subjects)
    if (both := same_scan([*patients, *healthy, *calibration])) is None:
        return
    first, second = both
    if second in calibration:
        raise UsageError(
            f"--calibration: {second.id} is among the scans to judge, too (as {first.id}); a limit holds on the scans"
            " that it was found on whatever the method, so give others"
        )
    raise UsageError(f"--healthy: {second.id} is the scan of the patient {first.id}, too; leave it out of one of them")
