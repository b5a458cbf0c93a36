"""The files of one restored scan: native and template space, each with its JSON sidecar."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lesioncore.cli.restore import volumes
from lesioncore.data.files import replace_atomically, write_json
from lesioncore.data.nifti import save_image
from lesioncore.metrics.limits import LIMITS
from lesioncore.preprocess.template_space import SPACE, mask_to_template_grid, template_plan, to_template_grid
from lesioncore.restoration.result import Restoration, base_name, split_name

_VOXEL_SIZE = 2.0  # mm: that of the embedded priors' slices, which scores are computed on
_REFERENCE = "https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"
_PROVENANCE = (
    *("GeneratedBy", "Source", "SourceSHA256", "Prior", "PriorFingerprint", "Settings", "TVWeight", "Smoothing"),
    *("Thresholds", "PostProcessing", "Precision", "Remarks", "Note"),
)
"""What every sidecar has of that of the restored image, which has all."""

_DESCRIPTIONS = {
    "restored": "Most probable healthy image, in the scan's units",
    "residual": "Scan minus restored image, z-scores of the prior's intensity scale",
    "score": "Detection map: higher is more lesion-like",
    "brain": "Brain",
    "probability": "Fraction of healthy brain voxels that score lower",
}
_LIMITS = {f"fpr{round(100 * limit):02d}": limit for limit in LIMITS}


def write_derivatives(result: Restoration, uri: str, folder: Path, work: Path) -> dict[str, Path]:
    """Write all files of a restored scan; the sidecar of the restored image, by which they are known, comes last.

    Parameters
    ----------
    result : Restoration
        Of a scan that was a file.
    uri : str
        The scan's BIDS URI.
    folder : Path
        Where they belong; created when absent.
    work : Path
        Where they are made.

    Returns
    -------
    dict
        What was written, by names as of :meth:`lesioncore.Restoration.save` and their sidecars'.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix=".lesioncore-") as temporary:
        made = result.save(temporary)
        made |= _in_template(result, made)
        made |= _write_sidecars(result, made, uri)
        last = made["sidecar"]
        (folder / last.name).unlink(missing_ok=True)  # what is being replaced is not whole
        for path in [*(path for path in made.values() if path != last), last]:
            with replace_atomically(folder / path.name) as place:
                shutil.move(path, place)
    return {key: folder / path.name for key, path in made.items()}


def _in_template(result: Restoration, made: dict[str, Path]) -> dict[str, Path]:
    """Write score and masks in the template's space beside the native ones, if the scan was registered."""
    scan = result.scan
    if scan.to_template is None or scan.affine is None:
        return {}
    brain = scan.brain()
    plan = template_plan(brain.shape, scan.to_template @ scan.affine, _VOXEL_SIZE)
    score = np.asarray(result.score.dataobj, dtype=np.float32)
    moved: dict[str, np.ndarray] = {"score": to_template_grid(plan, score, brain)}
    for key, limit in _LIMITS.items():
        if key in made:
            moved[key] = mask_to_template_grid(plan, np.asarray(result.mask(limit).dataobj) > 0)
    stem, _ = split_name(base_name(scan.path))
    written = {}
    for key, values in moved.items():
        entities = made[key].name.removeprefix(stem)
        path = made[key].with_name(f"{stem}_space-{SPACE}_res-{_VOXEL_SIZE:g}{entities}")
        save_image(values, plan.grid_to_template, path)
        written[f"template_{key}"] = path
    return written


def _write_sidecars(result: Restoration, made: dict[str, Path], uri: str) -> dict[str, Path]:
    """Write the JSON file of each image, and complete that of the restored one."""
    facts = json.loads(made["sidecar"].read_text())
    found = volumes(result)
    facts |= {
        **_own_facts(result, "restored", uri),
        "BrainMillilitres": found["brain_ml"],
        "DetectedMillilitres": found["detected_ml"],
    }
    written = {}
    for key, path in made.items():
        if key not in ("restored", "sidecar"):
            values = {**_own_facts(result, key, uri), **{name: facts[name] for name in _PROVENANCE}}
            written[f"{key}_sidecar"] = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
            write_json(written[f"{key}_sidecar"], values, indent=2)
    facts["Files"] = sorted(path.name for path in (made | written).values())
    write_json(made["sidecar"], facts, indent=2)
    return written


def _own_facts(result: Restoration, key: str, uri: str) -> dict[str, Any]:
    """What BIDS asks of one image."""
    what = key.removeprefix("template_")
    values: dict[str, Any] = {"Sources": [uri], "SpatialReference": uri}
    if key != what:
        values |= {"SpatialReference": _REFERENCE, "Resolution": f"{_VOXEL_SIZE:g} mm isotropic"}
    if what in _LIMITS:
        limit = _LIMITS[what]
        values |= {
            "Description": f"Voxels whose score is above what at most {100 * limit:g} % of healthy brain voxels exceed",
            "Type": "Lesion",
            "FalsePositiveLimit": limit,
        }
        return values
    values["Description"] = _DESCRIPTIONS[what]
    if what == "brain":
        values["Type"] = "Brain"
    elif what == "restored":  # outside the brain it is the scan
        values["SkullStripped"] = not any(step.figures.get("input") == "head" for step in result.scan.steps)
    elif what in ("residual", "score"):
        values["SkullStripped"] = True
    return values
