"""The files of one restored scan: native and template space, each with its JSON sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lesioncore.data.files import write_json
from lesioncore.data.names import split_name, stem_of
from lesioncore.data.nifti import save_image
from lesioncore.metrics.limits import LIMIT_KEYS
from lesioncore.preprocess.template_space import SPACE, mask_to_template_grid, template_plan, to_template_grid
from lesioncore.restoration.result import Restoration
from lesioncore.restoration.saving import Saved, saving

_VOXEL_SIZE = 2.0  # mm, in the template's space: that of the embedded priors' grids, on which scores are computed
_REFERENCE = "https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"
_PROVENANCE = (
    *("GeneratedBy", "Source", "SourceSHA256", "Prior", "PriorFingerprint", "Settings", "TVWeight", "Smoothing"),
    *("Thresholds", "PostProcessing", "Precision", "Remarks", "Note"),
)
"""Entries of the restored image's sidecar that the other sidecars repeat."""

_DESCRIPTIONS = {
    "restored": "Most probable healthy image, in the scan's units",
    "residual": "Scan minus restored image, z-scores of the prior's intensity scale",
    "score": "Detection map: higher is more lesion-like",
    "brain": "Brain",
    "probability": "Fraction of healthy brain voxels that score lower",
}


def write_derivatives(result: Restoration, uri: str, folder: Path, work: Path | None) -> dict[str, Path]:
    """Write all files of a restored scan, which appear together.

    Parameters
    ----------
    result : Restoration
        Result of a scan that was read from a file.
    uri : str
        BIDS URI of the scan.
    folder : Path
        Folder of the results; created when absent.
    work : Path, optional
        Folder for temporary files; `folder` when absent.

    Returns
    -------
    dict
        Paths by the keys of :meth:`lesioncore.Restoration.save`; with the prefix ``template_`` in the template's space,
        and with the suffix ``_sidecar`` of the JSON files.
    """
    with saving(result, folder, work=work) as saved:
        saved.facts |= _bids_entries(result, "restored", uri)
        saved.files |= _write_in_template(result, saved.files)
        saved.files |= _write_sidecars(result, saved, uri)
    return saved.files


def _write_in_template(result: Restoration, paths: dict[str, Path]) -> dict[str, Path]:
    """Write the score and the masks in the template's space beside the native ones, if the scan is registered."""
    scan = result.scan
    if scan.to_template is None or scan.affine is None or scan.path is None:
        return {}
    brain = scan.brain()
    plan = template_plan(brain.shape, scan.to_template @ scan.affine, _VOXEL_SIZE)
    score = np.asarray(result.score.dataobj, dtype=np.float32)
    resampled: dict[str, np.ndarray] = {"score": to_template_grid(plan, score, brain)}
    for key, limit in LIMIT_KEYS.items():
        if key in paths:
            resampled[key] = mask_to_template_grid(plan, np.asarray(result.mask(limit).dataobj) > 0)
    stem, _ = split_name(stem_of(scan.path))
    written = {}
    for key, values in resampled.items():
        ending = paths[key].name.removeprefix(stem)
        path = paths[key].with_name(f"{stem}_space-{SPACE}_res-{_VOXEL_SIZE:g}{ending}")
        save_image(values, plan.grid_to_template, path)
        written[f"template_{key}"] = path
    return written


def _write_sidecars(result: Restoration, saved: Saved, uri: str) -> dict[str, Path]:
    """Write the JSON file of each image but the restored one, whose is written last."""
    written = {}
    for key, path in saved.files.items():
        if key != "restored":
            entries = {**_bids_entries(result, key, uri), **{name: saved.facts[name] for name in _PROVENANCE}}
            written[f"{key}_sidecar"] = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
            write_json(written[f"{key}_sidecar"], entries, indent=2)
    return written


def _bids_entries(result: Restoration, key: str, uri: str) -> dict[str, Any]:
    """Return the metadata of one image that BIDS defines."""
    image = key.removeprefix("template_")
    entries: dict[str, Any] = {"Sources": [uri], "SpatialReference": uri}
    if key != image:
        entries |= {"SpatialReference": _REFERENCE, "Resolution": f"{_VOXEL_SIZE:g} mm isotropic"}
    if image in LIMIT_KEYS:
        limit = LIMIT_KEYS[image]
        return entries | {
            "Description": f"Voxels whose score is above what at most {100 * limit:g} % of healthy brain voxels exceed",
            "Type": "Lesion",
            "FalsePositiveLimit": limit,
        }
    entries["Description"] = _DESCRIPTIONS[image]
    if image == "brain":
        entries["Type"] = "Brain"
    elif image == "restored":  # outside the brain it equals the scan
        entries["SkullStripped"] = not any(step.figures.get("input") == "head" for step in result.scan.steps)
    elif image in ("residual", "score"):
        entries["SkullStripped"] = True
    return entries
