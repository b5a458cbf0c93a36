"""Hashes of what lesioncore computes, to show that a change of its structure changes no bit.

``python bench/same_results.py before.json`` with one version, ``python bench/same_results.py after.json --against
before.json`` with another on the same machine: scans, solvers, priors, detectors, calibration, training and commands,
each as the SHA-256 of its arrays, or of its JSON without times and versions. Takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

import lesioncore as lc
from lesioncore.cli import main as command
from lesioncore.phantom import simulate, template_head

CHANGING = ("seconds", "Seconds", "GeneratedBy", "seconds_per_scan", "slices_per_second", "data_wait", "versions")
"""Entries of JSON files that differ between runs."""


def digest(value: Any) -> str:
    """SHA-256 of an array, an image's voxels and affine, or anything that JSON can hold."""
    if isinstance(value, nib.spatialimages.SpatialImage):
        return digest(np.asanyarray(value.dataobj))[:32] + digest(np.asarray(value.affine))[:32]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        content = f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    else:
        content = json.dumps(without_times(value), sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if key not in CHANGING}
    if isinstance(value, (list, tuple)):
        return [without_times(entry) for entry in value]
    return value


def of_folder(folder: Path) -> dict[str, str]:
    """Each file of a folder by its name: images by their voxels, JSON without times, tables and text as they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.endswith((".nii.gz", ".nii")):
            found[name] = digest(nib.load(path))
        elif path.suffix == ".json":
            text = re.sub(re.escape(str(folder.parent)), "FOLDER", path.read_text())
            found[name] = digest(json.loads(text))
        elif path.name in ("checkpoint.safetensors", "metrics.csv"):  # which tell their time
            continue
        elif path.suffix in (".safetensors", ".csv", ".tsv"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def restorations() -> Iterator[tuple[str, Any]]:
    """Solvers, priors, forms of the objective and kinds of input."""
    patient = simulate(3, split="test", contrast="T2w", lesion="glioma")
    prior = lc.load_prior("phantom-t2")
    configs = {
        "default": lc.RestoreConfig(),
        "prox": lc.RestoreConfig(solver="prox", tv_weight=2.0),
        "isotropic": lc.RestoreConfig(solver=lc.EMSolver(steps=3), tv="isotropic"),
        "slices alone": lc.RestoreConfig(solver=lc.EMSolver(steps=3), tv_dimensions=2),
        "paper": lc.RestoreConfig(solver=lc.PaperSolver(steps=20), protocol=None, tv_dimensions=2, tv_weight=1.0),
        "sample": lc.RestoreConfig(solver=lc.EMSolver(steps=3), latent="sample"),
        "bright, cleaned": lc.RestoreConfig(sign=1, postprocessing=lc.PostProcessing(erosion=2.0, min_volume=50.0)),
        "plain score": lc.RestoreConfig(smoothing=0.0, standardize=False),
        "bfloat16": lc.RestoreConfig(solver=lc.EMSolver(steps=2), precision="bfloat16"),
    }
    image = nib.Nifti1Image(patient.image, patient.affine)
    mask = nib.Nifti1Image(patient.brain_mask.astype(np.uint8), patient.affine)
    for name, config in configs.items():
        result = lc.restore(image, prior, mask=mask, config=config)
        for part in ("restored", "residual", "score"):
            yield f"restore, {name}: {part}", getattr(result, part)
        if name in ("default", "bright, cleaned"):
            yield f"restore, {name}: mask", result.mask(0.05)
    for name in ("phantom-t1", "real-t2", "real-flair"):
        result = lc.restore(patient.image, name, mask=patient.brain_mask, affine=patient.affine)
        yield f"restore, {name}", result.score
    torch.manual_seed(0)
    shape = {"image_shape": (48, 48), "channels": (8, 8, 16)}
    models = (
        lc.GMVAE(lc.GMVAEConfig(**shape)),
        lc.VAE(lc.VAEConfig(**shape)),
        lc.MultiscaleVAE(lc.MultiscaleVAEConfig(**shape, finer_channels=(4, 8))),
    )
    for model in models:
        x = torch.randn(3, 1, 48, 48)
        config = lc.RestoreConfig(tv_weight=1.0)
        result = lc.restore(x, model, config=config, mask=torch.ones_like(x, dtype=torch.bool))
        yield f"restore, {type(model).__name__}", result.restored


def detectors() -> Iterator[tuple[str, Any]]:
    """Detectors, thresholds and the calibration of a prior."""
    patient = simulate(5, split="test", contrast="T2w", lesion="stroke")
    people = [simulate(number, split="validation", contrast="T2w") for number in range(3)]
    scans = [nib.Nifti1Image(person.image, person.affine) for person in people]
    masks = [nib.Nifti1Image(person.brain_mask.astype(np.uint8), person.affine) for person in people]
    image = nib.Nifti1Image(patient.image, patient.affine)
    mask = nib.Nifti1Image(patient.brain_mask.astype(np.uint8), patient.affine)
    for method in ("map", "projection", "intensity", "equalized"):
        detector = lc.load_detector("phantom-t2", method, **({"smoothing": 3.0} if method == "projection" else {}))
        yield f"detect, {method}", detector.detect(image, mask=mask)
        yield f"thresholds, {method}", detector.thresholds(scans, masks=masks).to_dict()
    prior = lc.load_prior("phantom-t2")
    for name, config in {"em": lc.RestoreConfig(), "prox": lc.RestoreConfig(solver="prox", smoothing=2.0)}.items():
        found = lc.calibrate(prior, scans, masks=masks, config=config, tv_weights=(0.5, 1.0))
        yield f"calibrate, {name}", found.to_dict()


def commands(folder: Path) -> Iterator[tuple[str, Any]]:
    """What the commands write."""
    head = template_head(1, lesion="stroke")
    heads = folder / "heads"
    heads.mkdir()
    nib.save(nib.Nifti1Image(head.image, head.affine), heads / "sub-01_T1w.nii.gz")
    runs = {
        "phantom": ["phantom", "PLACE", "--subjects", "2", "--voxel-size", "2"],
        "preprocess": ["preprocess", str(heads), "-o", "PLACE"],
        "restore": ["restore", str(heads), "-o", "PLACE"],
        "evaluate": [
            *("evaluate", "phantom:T2w:0-1:glioma", "-o", "PLACE", "--calibration", "phantom:T2w:0-2"),
            *("--methods", "phantom-t2", "intensity:phantom-t2", "--voxel-size", "2", "--no-figures"),
        ],
        "train": [
            *("train", "vae", "phantom:T2w:0-2", "-o", "PLACE", "--voxel-size", "4", "--slices-seen", "256"),
            *("--image-shape", "64", "64", "--channels", "8", "8", "16", "--batch-size", "16"),
        ],
    }
    for name, arguments in runs.items():
        place = folder / name
        code = command([str(place) if argument == "PLACE" else argument for argument in arguments])
        yield f"{name}: exit code", code
        for file, value in of_folder(place).items() if place.exists() else ():
            yield f"{name}: {file}", value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # more sum up in another order each time
    warnings.simplefilter("ignore")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in (restorations(), detectors(), commands(Path(folder))):
            for name, value in part:
                found[name] = value if isinstance(value, str) and len(value) == 64 else digest(value)
                print(name, found[name][:12], file=sys.stderr, flush=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    if options.against is None:
        return
    before = json.loads(options.against.read_text())
    differing = [name for name in {**before, **found} if before.get(name) != found.get(name)]
    print(f"{len(found) - len(differing)} of {len(found)} results are the same", *differing, sep="\n")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
