"""``lesioncore evaluate``."""

from __future__ import annotations

import ast
import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from lesioncore.cli.output import NOTE, CommandError, Output, Report, UsageError, bar

if TYPE_CHECKING:
    from lesioncore.detectors import Detector, MAPDetector
    from lesioncore.evaluation import Evaluation
    from lesioncore.subjects import Subject

_EXAMPLES = 3


@dataclass(frozen=True)
class Evaluate:
    """Compare detectors on scans with known lesions, and write figures, tables and pictures.

    Parameters
    ----------
    data : tuple of str
        Skull-stripped scans with lesion masks: BIDS folders with masks in derivatives, tables with the columns image
        and lesion (.csv, .tsv), or simulated patients (phantom:T2w:0-23:glioma).
    output : Path
        Folder for the results. The same command goes on where it was stopped, and computes what is new alone.
    methods : tuple of str
        Detectors, each as [NAME=]MODEL[:METHOD[:OPTION=VALUE,...]]. MODEL is an embedded prior's name or a directory;
        METHOD map, projection, unet, mean-distance, intensity or equalized; options are such as sign=-1 or smoothing=6.
        The first one is compared with the others.
    healthy : tuple of str
        Healthy scans that no calibration has seen: how well the false-positive limits hold. Named as data.
    calibration : tuple of str
        Other healthy scans, which give thresholds to the methods that have none. Named as data.
    limits : tuple of float
        False-positive-rate limits.
    modality : str, optional
        BIDS suffix of the scans, such as T2w; needed for folders with several.
    voxel_size : float
        Of simulated scans, mm. Files keep their own.
    examples : bool
        Draw the worst, the middle and the best detected scan of the first method, if that is map with thresholds.
    curves : bool
        Draw detection against the data-consistency weight and the solver's steps, for the first method, if that is map.
        Restores some 200 slices some twenty times.
    device : str
        auto, cpu or cuda.
    json : bool
        Print one JSON object on stdout.
    """

    data: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="DATA [DATA ...]", help_behavior_hint="(required)"),
    ]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="METHOD [METHOD ...]")]
    healthy: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA [DATA ...]", help_behavior_hint="")] = ()
    calibration: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA [DATA ...]", help_behavior_hint="")] = ()
    limits: tuple[float, ...] = (0.01, 0.05, 0.10)
    modality: Annotated[str | None, tyro.conf.arg(metavar="SUFFIX", help_behavior_hint="")] = None
    voxel_size: float = 1.0
    examples: bool = True
    curves: bool = False
    device: str = "auto"
    json: bool = False

    def run(self, output: Output) -> Report:
        """Score, compare, write."""
        from lesioncore.evaluation import evaluate, write_report
        from lesioncore.evaluation.tables import markdown
        from lesioncore.subjects import find_subjects

        if not self.data and not self.healthy:
            raise UsageError("DATA: expected scans with lesion masks, or healthy ones with --healthy")
        if not self.methods:
            raise UsageError("--methods: expected at least one, such as phantom-t2")
        if not all(0 < limit < 1 for limit in self.limits):
            raise UsageError(f"--limits: got {list(self.limits)}, expected false-positive rates between 0 and 1")

        def read(inputs: tuple[str, ...], split: Any) -> list[Subject]:
            return find_subjects(inputs, modality=self.modality, split=split) if inputs else []

        patients, healthy = read(self.data, "test"), read(self.healthy, "test")
        detectors = dict(open_detector(spec) for spec in self.methods)
        if len(detectors) < len(self.methods):
            raise UsageError("--methods: two have one name; name them, such as signed=phantom-t2:map:sign=1")
        if self.calibration:
            self._calibrate(detectors, read(self.calibration, "validation"), output)
        for name, detector in detectors.items():
            if detector.calibration is None:
                output.warn(f"{name}: has no thresholds for these settings; --calibration finds them on healthy scans")
        with bar("evaluating", "scan") as progress:
            found = evaluate(
                detectors,
                patients,
                healthy,
                limits=self.limits,
                voxel_size=self.voxel_size,
                store=self.output / "scores",
                device=self.device,
                progress=progress,
            )
        output.stage("tables and figures")
        written = write_report(found, self.output)
        written |= self._pictures(found, next(iter(detectors.values())), patients, healthy)
        summary = found.summary()
        output.say(markdown(summary).rstrip().removesuffix(NOTE).rstrip())
        output.say()
        output.say(f"{len(written)} files in {self.output}: {', '.join(sorted(written))}")
        output.say(NOTE)
        return Report({**summary, "files": {name: str(path) for name, path in written.items()}, "note": NOTE})

    def _calibrate(self, detectors: dict[str, Detector], healthy: list[Subject], output: Output) -> None:
        from lesioncore.evaluation import thresholds_from

        for name, detector in detectors.items():
            if detector.calibration is None:
                output.stage(f"thresholds of {name}")
                found = thresholds_from(detector, healthy, voxel_size=self.voxel_size, device=self.device)
                detector.metadata = detector.metadata.with_calibration(found)

    def _pictures(
        self, found: Evaluation, detector: Detector | MAPDetector, patients: list[Subject], healthy: list[Subject]
    ) -> dict[str, Path]:
        from lesioncore.detectors import MAPDetector
        from lesioncore.evaluation.curves import Curves, curves_figure
        from lesioncore.evaluation.examples import choose_examples, draw_examples
        from lesioncore.figure import save_figure

        written: dict[str, Path] = {}
        if not patients or not isinstance(detector, MAPDetector):
            return written
        cases = found.patients[found.methods[0]]
        if self.examples and detector.calibration is not None:
            limit = min(self.limits, key=lambda x: abs(x - 0.05))
            chosen = choose_examples(cases, limit, _EXAMPLES)
            people = [subject for subject in patients if subject.id in chosen]
            drawn = draw_examples(
                detector, people, self.output / "examples", voxel_size=self.voxel_size, device=self.device
            )
            written |= {f"examples/{path.name}": path for path in drawn}
        if self.curves:
            curves = Curves(
                detector.prior,
                patients,
                healthy,
                config=detector.config,
                voxel_size=self.voxel_size,
                device=self.device,
            )
            weights, steps = curves.weights(), curves.steps()
            assert detector.tv_weight is not None
            path = self.output / "curves.png"
            save_figure(curves_figure(weights, steps, detector.tv_weight), path)
            values = self.output / "curves.json"
            values.write_text(json_format.dumps({"weights": weights, "steps": steps}, indent=1) + "\n")
            written |= {path.name: path, values.name: values}
        return written


def open_detector(spec: str) -> tuple[str, Detector]:
    """Read ``[NAME=]MODEL[:METHOD[:OPTION=VALUE,...]]``.

    Raises
    ------
    UsageError
        If the options cannot be read, or are not the method's.
    CommandError
        If there is no such model, or it does not offer the method.
    """
    from lesioncore.detectors import load_detector

    before, equals, after = spec.partition("=")
    # An equals sign in the options names no method.
    name, rest = (before, after) if equals and ":" not in before else (spec, spec)
    model, _, rest = rest.partition(":")
    method, _, listed = rest.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, listed.split(",")):
        key, equals, text = part.partition("=")
        if not equals:
            raise UsageError(f"--methods: {spec}: {part} is no OPTION=VALUE")
        try:
            options[key.strip()] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key.strip()] = text
    try:
        return name, load_detector(model, method or None, **options)
    except TypeError as error:
        raise UsageError(f"--methods: {spec}: {error}") from error
    except (FileNotFoundError, ValueError, ImportError, RuntimeError) as error:
        raise CommandError(f"--methods: {spec}: {str(error).removeprefix('name: ')}") from error
