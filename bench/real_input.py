"""Real input: the ICBM152 T1 template (an average of 152 people) through ``lesioncore restore``, in its own space.

    python bench/real_input.py

The template, as nilearn ships it, is written as NIfTI and restored with the embedded T1w prior by the command line, as
it is and with a dark ball of known place implanted in the white matter. Writes ``real_input.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _bench import RESULTS, environment, write_json
from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from scipy.ndimage import gaussian_filter

from lesioncore.metrics import ScoreHistogram, dice

CENTRE_MM = (-28.0, -30.0, 28.0)  # parietal white matter, left
RADII_MM = (4.0, 5.0, 6.0, 8.0, 12.0)
FINER = ("--tv-weight", "0.75", "--smoothing", "1")  # for small lesions; not calibrated, so without masks


def restore(image: nib.Nifti1Image, name: str, folder: Path, *options: str) -> dict[str, Any]:
    """Run the command line on an image; voxels of what it wrote, and the seconds it reports."""
    path = folder / f"{name}_T1w.nii.gz"
    nib.save(image, path)
    command = [sys.executable, "-m", "lesioncore", "restore", str(path), "-o", str(folder / name)]
    run = subprocess.run(
        [*command, "--prior", "phantom-t1", "--json", *options], capture_output=True, text=True, check=True
    )
    written = {p.name: p for p in (folder / name).iterdir()}

    def voxels(part: str) -> np.ndarray:
        return np.asanyarray(nib.load(written[f"{name}_{part}.nii.gz"]).dataobj)

    return {
        "score": voxels("desc-score_T1w"),
        "brain": voxels("desc-brain_mask") > 0,
        "masks": {
            limit: voxels(f"label-L_desc-fpr{limit}_mask") > 0
            for limit in ("01", "05", "10")
            if f"{name}_label-L_desc-fpr{limit}_mask.nii.gz" in written
        },
        "seconds": json.loads(run.stdout)["scans"][0]["seconds"],
    }


def implant(template: nib.Nifti1Image, radius: float) -> tuple[nib.Nifti1Image, np.ndarray]:
    """The template with a ball of 85 % of its grey matter's intensity, its edge blurred by 1.5 mm; and the ball."""
    values = template.get_fdata()
    grey = load_mni152_gm_template(resolution=1).get_fdata() > 0.9
    index = np.indices(values.shape).reshape(3, -1)
    world = nib.affines.apply_affine(template.affine, index.T).reshape(*values.shape, 3)
    ball = np.linalg.norm(world - CENTRE_MM, axis=-1) <= radius
    blend = gaussian_filter(ball.astype(float), 1.5)
    darker = 0.85 * float(np.median(values[grey]))
    return nib.Nifti1Image((values + blend * (darker - values)).astype(np.float32), template.affine), ball & (
        values > 0
    )


def auc(found: dict[str, Any], ball: np.ndarray) -> float:
    histogram = ScoreHistogram(0.0, 12.0)
    histogram.add(found["score"], ball, found["brain"])
    return round(histogram.auc(), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    template = load_mni152_template(resolution=1)
    white = load_mni152_wm_template(resolution=1).get_fdata()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        healthy = restore(template, "icbm", folder)
        brain = healthy["brain"]
        result: dict[str, Any] = {
            "brain_voxels": int(brain.sum()),
            "fpr_at_limit": {k: round(float(m[brain].mean()), 4) for k, m in healthy["masks"].items()},
            "fpr_at_5_percent_by_tissue": {
                "white matter": round(float(healthy["masks"]["05"][brain & (white > 0.9)].mean()), 4),
                "rest": round(float(healthy["masks"]["05"][brain & (white <= 0.9)].mean()), 4),
            },
            "seconds": healthy["seconds"],
            "implants": [],
        }
        print({k: result[k] for k in ("brain_voxels", "fpr_at_limit", "fpr_at_5_percent_by_tissue")}, flush=True)
        for radius in RADII_MM:
            image, ball = implant(template, radius)
            found = restore(image, f"implant{radius:.0f}mm", folder)
            finer = restore(image, f"finer{radius:.0f}mm", folder, *FINER)
            row = {
                "radius_mm": radius,
                "white_matter_share": round(float((white[ball] > 0.5).mean()), 3),
                "auc": auc(found, ball),
                "auc_finer": auc(finer, ball),
                "sensitivity_at_5_percent": round(float(found["masks"]["05"][ball].mean()), 4),
                "same_place_before": round(float(healthy["masks"]["05"][ball].mean()), 4),
                "dice_at_1_percent": round(dice(found["masks"]["01"], ball, found["brain"]), 4),
                "dice_at_5_percent": round(dice(found["masks"]["05"], ball, found["brain"]), 4),
            }
            result["implants"].append(row)
            print(row, flush=True)
    write_json(options.out / "real_input.json", {**environment("cpu"), **result})


if __name__ == "__main__":
    main()
