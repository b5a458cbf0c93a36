"""Accuracy and refusals of the registration to the template, on real heads.

    python bench/quality/template_registration.py DATA [--people 24]

DATA is a folder with ``ixi/`` (T1w heads with brain masks in ``derivatives/muse``) and ``openms/`` (stripped T1w, T2w
and FLAIR of the same people), both in BIDS. Writes ``registration.json``: figures, nothing of a scan.

Displacements are those of the template's brain between two maps, mean and largest, in mm. ``poses``: the scan's world
is turned and shifted by a known map, which the registration has to undo; ``voxels``: the turned scan is resampled to
other voxels; ``masks``: the mask is one voxel (2 mm) tighter and looser; ``contrasts``: two contrasts of one person;
``lesions``: a third of a hemisphere or more is made brighter or darker; ``wrong``: refinements from wrong poses, halves
of brains and brains of noise, whose figures must lie outside the limits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform, binary_dilation, binary_erosion, binary_fill_holes, gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.poses import turned
from common.results import write_json

from lesioncore.preprocess.mutual_information import PyramidLevel, refine, simpleitk
from lesioncore.preprocess.pose import CoarseBrain, apply, coarse_template
from lesioncore.preprocess.registration import Registration, measure, register
from lesioncore.preprocess.template import brain_template

Case = tuple[np.ndarray, np.ndarray, np.ndarray]  # values, affine, brain


def displacement(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean and largest distance (mm) between where two maps put the template's brain."""
    template = brain_template()
    points = apply(template.affine, np.argwhere(template.brain)[::37].astype(np.float64))
    distance = np.linalg.norm(apply(second @ np.linalg.inv(first), points) - points, axis=1)
    return float(distance.mean()), float(distance.max())


def resampled(case: Case, sizes: np.ndarray, world: np.ndarray) -> Case:
    """The scan turned by a map of its world, on an upright grid of other voxels around its brain."""
    values, affine, brain = case
    corners = apply(world @ affine, np.argwhere(brain)[::53].astype(np.float64))
    low = corners.min(axis=0) - 12
    shape = tuple(int(n) for n in np.ceil((np.ptp(corners, axis=0) + 24) / sizes))
    target = np.diag([*sizes, 1.0])
    target[:3, 3] = low
    matrix = np.linalg.inv(world @ affine) @ target
    moved = [
        affine_transform(part.astype(np.float32), matrix[:3, :3], matrix[:3, 3], shape, order=1)
        for part in (values, brain)
    ]
    return moved[0], target, moved[1] > 0.5


def with_lesion(case: Case, rng: np.random.Generator, millilitres: float, shift: float) -> Case:
    """A smooth-edged ball of a volume within the brain, its intensities moved by standard deviations of the brain."""
    values, affine, brain = case
    size = np.linalg.norm(affine[:3, :3], axis=0)
    places = np.argwhere(brain)
    centre = places[rng.integers(len(places))]
    distance = np.linalg.norm((places - centre) * size, axis=1)
    inside = np.zeros(brain.shape, dtype=np.float32)
    inside[tuple(places[np.argsort(distance)[: int(1000 * millilitres / size.prod())]].T)] = 1
    weight = gaussian_filter(inside, 3 / size)
    return values + shift * values[brain].std() * weight, affine, brain


def heads(data: Path, people: int) -> Iterator[tuple[str, Case]]:
    folders = sorted((data / "ixi").glob("sub-*"))
    chosen = [folder for folder in folders if next(folder.glob("anat/*T1w.nii.gz"), None)]
    for folder in chosen[:: max(1, len(chosen) // people)][:people]:
        mask = next((data / "ixi/derivatives/muse" / folder.name).glob("anat/*desc-brain_mask.nii.gz"))
        yield folder.name, read(next(folder.glob("anat/*T1w.nii.gz")), mask)


def read(path: Path, mask: Path | None = None) -> Case:
    image = nib.load(path)
    values = image.get_fdata(dtype=np.float32)
    if mask is None:
        brain = binary_fill_holes(np.abs(values) > 1e-3)
        return values, image.affine, binary_dilation(binary_erosion(brain, iterations=2), iterations=2) & brain
    return values, image.affine, nib.load(mask).get_fdata() > 0


def wrong(case: Case, right: Registration, rng: np.random.Generator) -> Iterator[tuple[str, Registration]]:
    """Registrations that must be refused."""
    sitk = simpleitk()
    fixed, moving = coarse_template(), CoarseBrain.of(*case)
    centre = np.eye(4)
    centre[:3, 3] = (0, -17, 5)
    for name, diagonal in (("x", (1, -1, -1)), ("y", (-1, 1, -1)), ("z", (-1, -1, 1))):
        turn = centre @ np.diag([*diagonal, 1.0]) @ np.linalg.inv(centre)
        matrix = np.linalg.inv(right.matrix) @ turn
        for size in (8.0, 4.0, 2.0):
            level = PyramidLevel.of(sitk, fixed, moving, size)
            _, matrix = refine(sitk, level, matrix, rigid=size > 4)
        yield f"turned 180 about {name}", Registration(np.eye(4), measure(fixed, moving, matrix))
    values, affine, brain = case
    where = apply(right.matrix @ affine, np.argwhere(brain).astype(np.float64))
    for name, kept in (("left", where[:, 0] < 0), ("upper", where[:, 2] > 10), ("front", where[:, 1] > -20)):
        half = np.zeros_like(brain)
        half[tuple(np.argwhere(brain)[kept].T)] = True
        yield f"{name} half", register(values, affine, half, check=False)
    noise = gaussian_filter(rng.normal(size=brain.shape), 2.5).astype(np.float32)
    yield "noise in its mask", register(noise, affine, brain, check=False)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    axes = np.meshgrid(*((np.arange(n) - n / 2) * s for n, s in zip(brain.shape, size, strict=True)), indexing="ij")
    ball = sum((part / radius) ** 2 for part, radius in zip(axes, rng.uniform(55, 90, 3), strict=True)) < 1
    yield "noise in an ellipsoid", register(noise, affine, ball, check=False)
    yield "whole head", register(values, affine, binary_fill_holes(values > 0.5 * values.mean()), check=False)


def main() -> None:
    arguments = parser(__doc__, writes="registration.json")
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--people", type=int, default=24)
    arguments.add_argument("--wrong", type=int, default=6, help="people whose wrong registrations are made")
    options = arguments.parse_args()
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []

    def note(kind: str, name: str, found: Registration, reference: np.ndarray | None = None, **more: Any) -> None:
        quality = found.quality
        row: dict[str, Any] = {
            "kind": kind,
            "name": name,
            "overlap": round(quality.overlap, 4),
            "likeness": round(quality.likeness, 4),
            "scales": [round(scale, 3) for scale in quality.scales],
            "accepted": found.accepted,
            **more,
        }
        if reference is not None:
            row["mean_mm"], row["max_mm"] = (round(d, 3) for d in displacement(reference, found.matrix))
        rows.append(row)
        print(row, flush=True)

    for folder in sorted(options.data.glob("openms/sub-*")):
        found = {}
        for path in sorted(folder.glob("anat/*.nii.gz")):
            contrast = path.name.split("_")[-1].removesuffix(".nii.gz")
            found[contrast] = register(*read(path), check=False)
        for contrast, one in found.items():
            note("contrasts", f"{folder.name} {contrast}", one, found["T1w"].matrix)
    for number, (name, case) in enumerate(heads(options.data, options.people)):
        started = time.process_time()
        right = register(*case, check=False)
        note("heads", name, right, seconds=round(time.process_time() - started, 2))
        values, affine, brain = case
        degrees = (10, 20, 30, 45, 90, 180)[number % 6]
        world = turned(rng, degrees)
        moved = register(values, world @ affine, brain, check=False)
        note("poses", f"{name} {degrees} degrees", moved, right.matrix @ np.linalg.inv(world))
        if number % 3 == 0:
            sizes = np.array(((1.0, 1.0, 1.0), (0.8, 0.8, 3.0), (3.0, 3.0, 3.0), (1.0, 1.0, 6.0))[number // 3 % 4])
            world = turned(rng, 20)
            moved = register(*resampled(case, sizes, world), check=False)
            note("voxels", f"{name} {sizes.tolist()} mm", moved, right.matrix @ np.linalg.inv(world))
        elif number % 3 == 1:
            shift = (3.0, -2.0)[number // 3 % 2]
            note("lesions", f"{name} 230 ml {shift:+g} SD", register(*with_lesion(case, rng, 230, shift), check=False),
                 right.matrix)  # fmt: skip
        else:
            for change, mask in (("tighter", binary_erosion(brain)), ("looser", binary_dilation(brain))):
                note("masks", f"{name} {change}", register(values, affine, mask, check=False), right.matrix)
        if number < options.wrong:
            for kind, one in wrong(case, right, rng):
                note("wrong", f"{name} {kind}", one)
    write_json(options.out / "registration.json", {"environment": environment("cpu"), "rows": rows})


if __name__ == "__main__":
    main()
