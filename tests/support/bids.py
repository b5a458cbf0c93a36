"""Small BIDS datasets on disk, of noise in the shape of a head."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from support.command_line import AFFINE, SHAPE
from support.models import head, scan_values


def write_bids(folder: Path, *scans: str) -> Path:
    """Write a valid dataset.

    Parameters
    ----------
    folder : Path
        Its root.
    scans : str
        Names without an ending, such as ``sub-01_ses-1_T1w``; each gets other values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    description = {"Name": "Noise", "BIDSVersion": "1.10.0", "DatasetDOI": "doi:10.0000/noise"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    (folder / "README.md").write_text("# Noise\n\n" + "No person was scanned. " * 10 + "\n")
    for seed, name in enumerate(scans):
        labels = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        path = folder.joinpath(*labels, "anat", f"{name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(scan_values(head(SHAPE), seed).numpy(), in_template())
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
    return folder


def in_template() -> np.ndarray:
    """An affine that has the head in the middle of the slices of a registered scan."""
    affine = AFFINE.copy()
    affine[1, 3] -= 14
    return affine
