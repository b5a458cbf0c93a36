"""``lesioncore preprocess``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from lesioncore.about import NOTE
from lesioncore.cli.output import Outcome, Output, UsageError, check_voxel_size, concerning
from lesioncore.cli.resume import Standing, others_exist, standing_of
from lesioncore.cli.scans import ScanJob, select
from lesioncore.data.names import split_name, stem_of
from lesioncore.data.temporary import clear

if TYPE_CHECKING:
    from lesioncore.preprocess.pipeline import Step


@dataclass(frozen=True)
class Preprocess:
    """Extract the brain, take off the bias field and register to the ICBM152 2009a template, as restore does.

    Parameters
    ----------
    inputs : tuple of Path
        Images, or folders to search for them; masks, label maps, results and derivatives are left out.
    output : Path
        Folder for the results; those of the scans in a folder lie in it as the scans do in theirs.
    mask : tuple of Path
        Brain masks, one for each scan in the same order, or an installed tool that makes them all: hd-bet, synthstrip
        or deepbet. The brain lies within them.
    modality : str, optional
        Contrast of the scans to take from folders, such as T2w; all when absent, each by itself.
    steps : str
        Some of extract, register, bias, separated by commas.
    voxel_size : float
        Of the scan in the template's space, mm.
    deidentify : bool
        Refuse scans, masks and folders with names other than those of BIDS (sub-01_T2w), or with a date in them, since
        results have these names. Check that results hold a brain without its skull, and no header field beyond a list.
    overwrite : bool
        Replace results that are there already.
    resume : bool
        Keep whole results of the same scan, mask and options, and make what is missing or damaged. Those of others are
        refused, or replaced with --overwrite.
    json : bool
        Print one JSON object on stdout.
    """

    GOES_ON: ClassVar[str] = "the same command with --resume goes on"

    inputs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="INPUT [INPUT ...]", help_behavior_hint="(required)"),
    ]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    mask: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="")] = ()
    modality: Annotated[str | None, tyro.conf.arg(metavar="SUFFIX", help_behavior_hint="")] = None
    steps: Annotated[str, tyro.conf.arg(metavar="STEPS")] = "extract,register,bias"
    voxel_size: Annotated[float, tyro.conf.arg(metavar="MM")] = 1.0
    deidentify: bool = False
    overwrite: bool = False
    resume: bool = False
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Preprocess all scans; one that fails does not stop the others."""
        from lesioncore.preprocess.pipeline import parse_steps

        try:
            steps = parse_steps(self.steps) or ()
        except ValueError as error:
            raise UsageError(str(error).replace("preprocess:", "--steps:")) from error
        if not steps:
            raise UsageError(f"--steps: got {self.steps!r}, expected some of extract, register, bias")
        if self.deidentify and "extract" not in steps and not self.mask:
            raise UsageError("--deidentify: needs the step extract, or --mask; a scan with its skull shows a face")
        check_voxel_size(self.voxel_size)
        selection = select(self.inputs, self.mask, self.modality)
        for note in selection.notes:
            output.note(note)
        done, failed = [], []
        for number, job in enumerate(selection.jobs, start=1):
            output.say(f"[{number}/{len(selection.jobs)}] {job.scan}")
            with concerning(str(job.scan)):
                try:
                    facts = self._preprocess(job, steps)
                except Exception as error:
                    failed.append({"input": str(job.scan), "error": output.error(error)})
                    continue
            done.append(facts)
            if "kept" in facts:
                output.say("  finished before: kept")
            for step in facts["steps"]:
                figures = ", ".join(f"{key} {value}" for key, value in step["figures"].items())
                output.say(f"  {step['name']}: {figures} ({step['seconds']:.1f} s)")
        output.say(NOTE)
        return Outcome({"scans": done, "failed": failed, "note": NOTE}, failed=bool(failed), some=bool(done))

    def _preprocess(self, job: ScanJob, steps: tuple[Step, ...]) -> dict[str, Any]:
        import numpy as np

        from lesioncore import __version__
        from lesioncore.data.deidentify import check_images, check_name
        from lesioncore.data.files import manifest, replace_together, write_json
        from lesioncore.data.nifti import load_image, save_image
        from lesioncore.data.orientation import Orientation
        from lesioncore.engine.progress import ProgressBar
        from lesioncore.preprocess.pipeline import preprocess
        from lesioncore.preprocess.template_space import template_grid, template_plan, to_template_grid
        from lesioncore.restoration.plausibility import check_grey_values, check_size
        from lesioncore.restoration.volumes import brain_of, read_volume, sources_of

        if self.deidentify:
            for path in (job.scan, *([job.mask] if isinstance(job.mask, Path) else [])):
                check_name(path, job.place)
        start = time.perf_counter()
        folder, names = self.output / job.place, _names(job.scan)
        clear(folder)
        existing = [folder / name for name in names.values() if (folder / name).exists()]
        decided = {"Steps": list(steps), "VoxelSize": self.voxel_size if "register" in steps else None}
        standing = Standing("other" if existing else "none")
        if self.resume:
            standing = standing_of(job.scan, job.mask, existing, "_desc-preproc_", decided)
        if standing.state == "finished":
            return {"input": str(job.scan), "kept": [str(path) for path in existing], "steps": []}
        if standing.state == "other" and not self.overwrite:
            raise others_exist(standing, existing[0], self.resume)
        masked = job.mask is not None
        image = load_image(job.scan, allow_infinite=masked)
        values, _ = read_volume(image, masked=masked)
        affine = np.asarray(image.affine, dtype=np.float64)
        mask = None if job.mask is None else brain_of(job.mask, values, affine, affine)
        with ProgressBar(True, f"preprocessing {job.scan.name}") as report:
            preprocessed = preprocess(values, affine, mask=mask, steps=steps, progress=report)
        check_grey_values(values, preprocessed.brain, str(job.scan))
        orientation = Orientation.from_affine(affine, values.shape)
        check_size(orientation, orientation.to_ras(preprocessed.brain), template_grid(self.voxel_size), str(job.scan))
        stripped = np.where(preprocessed.brain, preprocessed.values, np.float32(0))
        with replace_together(folder, names["sidecar"], earlier=existing) as made:
            paths = {key: made / name for key, name in names.items()}
            save_image(stripped, affine, paths["preprocessed"], header=image.header)
            save_image(preprocessed.brain, affine, paths["brain"], header=image.header)
            if preprocessed.to_template is not None:
                plan = template_plan(stripped.shape, preprocessed.to_template @ affine, self.voxel_size)
                resampled = to_template_grid(plan, stripped, preprocessed.brain)
                save_image(resampled, plan.grid_to_template, paths["template"])
                paths["transform"].write_text(itk_transform(preprocessed.to_template))
            if self.deidentify:
                check_images(path for path in paths.values() if path.name.endswith(".nii.gz") and path.exists())
            sidecar = {
                "GeneratedBy": {"Name": "lesioncore", "Version": __version__},
                **sources_of(job.scan, job.mask),
                **decided,
                "SkullStripped": True,
                "Preprocessing": preprocessed.log(),
                "Note": NOTE,
                "Files": manifest(made.iterdir()),
            }
            write_json(paths["sidecar"], sidecar, indent=2)
        return {
            "input": str(job.scan),
            "files": {key: str(folder / name) for key, name in names.items() if (folder / name).exists()},
            "steps": preprocessed.log(),
            "seconds": round(time.perf_counter() - start, 3),
        }


def _names(scan: Path) -> dict[str, str]:
    """Names of a scan's results; those in the template's space are not there without a registration."""
    from lesioncore.preprocess.template_space import SPACE

    stem, suffix = split_name(stem_of(scan))
    return {
        "preprocessed": f"{stem}_desc-preproc_{suffix}.nii.gz",
        "brain": f"{stem}_desc-brain{suffix}_mask.nii.gz",
        "template": f"{stem}_space-{SPACE}_desc-preproc_{suffix}.nii.gz",
        "transform": f"{stem}_from-{suffix}_to-{SPACE}_mode-image_xfm.txt",
        "sidecar": f"{stem}_desc-preproc_{suffix}.json",
    }


def itk_transform(to_template: Any) -> str:
    """Format an affine as an ITK transform file, with which ITK and ANTs resample a scan to the template.

    ITK maps each point of the output to the input: the file holds the inverse affine, in LPS+ coordinates.

    Parameters
    ----------
    to_template : ndarray
        4 x 4 matrix from the scan's world coordinates to the template's, both RAS+ in mm.

    Returns
    -------
    str
        Text of the file.
    """
    import numpy as np

    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ np.linalg.inv(to_template) @ flip
    numbers = " ".join(f"{number:.12g}" for number in [*matrix[:3, :3].ravel(), *matrix[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )
