"""Stability of detections when a head is turned, moved, resampled or scanned with a stronger bias field.

    LESIONCORE_REAL_DATA=folder python bench/quality/changed_heads.py                  # three heads of each contrast

Healthy heads with a real stroke's shape implanted (``bench/common/real_data.py``) are restored as they are, from the
raw scan on with the embedded prior of their contrast, and changed: turned by 20 degrees about any axis, moved by 15 mm
in any direction, resampled to voxels of .8 and of 3 mm, multiplied by a smooth field from .7 to 1.3. Writes
``real_changes.json``: for each change the volume detected at the 5 % limit relative to that of the unchanged scan, the
Dice of both detections where they lie in the head, and the implant's Dice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.poses import turned
from common.real_data import implants, real_data
from common.results import write_json

import lesioncore as lc
from lesioncore.data.grid import SliceGrid
from lesioncore.metrics import dice
from lesioncore.restoration.prior_choice import PRIORS

LIMIT = 0.05

Head = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Values, voxel-to-world matrix, and the map of the world from the unchanged scan's to this one's."""


def resampled(head: Head, sizes: np.ndarray, world: np.ndarray) -> Head:
    """The whole head after a map of its world, on an upright grid that holds it, averaged where voxels get larger."""
    values, affine, _ = head
    own = np.linalg.norm(affine[:3, :3], axis=0)
    blur = 0.42 * np.sqrt(np.maximum(0, (sizes / own) ** 2 - 1))
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in values.shape], indexing="ij"), -1).reshape(-1, 3)
    places = corners @ (world @ affine)[:3, :3].T + (world @ affine)[:3, 3]
    target = np.diag([*sizes, 1.0])
    target[:3, 3] = places.min(axis=0)
    shape = tuple(int(n) for n in np.ceil(np.ptp(places, axis=0) / sizes) + 1)
    matrix = np.linalg.inv(world @ affine) @ target
    moved = affine_transform(gaussian_filter(values, blur), matrix[:3, :3], matrix[:3, 3], shape, order=1)
    return np.maximum(moved, 0), target, world


def biased(head: Head, rng: np.random.Generator) -> Head:
    """A smooth field from .7 to 1.3 over the scan."""
    values, affine, world = head
    places = [np.linspace(-1, 1, n) for n in values.shape]
    x, y, z = np.meshgrid(*places, indexing="ij", sparse=True)
    a = rng.normal(size=7)
    field = a[0] * x + a[1] * y + a[2] * z + a[3] * x * y + a[4] * y * z + a[5] * x * x + a[6] * z * z
    field = (field - field.min()) / np.ptp(field)
    return (values * (0.7 + 0.6 * field)).astype(np.float32), affine, world


def changes(rng: np.random.Generator) -> dict[str, Callable[[Head], Head]]:
    """What is done to a head."""
    turn, shift = turned(rng, 20.0, shift=0.0), turned(rng, 0.0, shift=15.0)

    def sizes(head: Head) -> np.ndarray:
        return np.linalg.norm(head[1][:3, :3], axis=0)

    return {
        "turned by 20 degrees": lambda head: resampled(head, np.full(3, sizes(head).min()), turn),
        "moved by 15 mm": lambda head: resampled(head, sizes(head), shift),
        "voxels of 0.8 mm": lambda head: resampled(head, np.full(3, 0.8), np.eye(4)),
        "voxels of 3 mm": lambda head: resampled(head, np.full(3, 3.0), np.eye(4)),
        "bias of 30 %": lambda head: biased(head, rng),
    }


def compared(subject: Any, contrast: str, number: int) -> dict[str, dict[str, float]]:
    """Detections of a head, as it is and changed."""
    loaded = subject.load(SliceGrid(2.0, (100, 100)))
    image, lesion = loaded.volume, loaded.lesion
    head: Head = (image.get_fdata(dtype=np.float32), np.asarray(image.affine), np.eye(4))
    found: dict[str, dict[str, float]] = {}
    first: tuple[np.ndarray, float] | None = None
    rng = np.random.default_rng(number)
    for name, change in {"unchanged": lambda head: head, **changes(rng)}.items():
        values, affine, world = change(head)
        start = time.perf_counter()
        result = lc.restore(nib.Nifti1Image(values, affine), PRIORS[contrast])
        mask = np.asarray(result.mask(LIMIT).dataobj) > 0
        millilitres = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
        # Both detections, and the lesion, on the unchanged head's voxels.
        back = np.linalg.inv(affine) @ world @ head[1]
        places = np.indices(lesion.shape).reshape(3, -1)
        share = map_coordinates(mask.astype(np.float32), back[:3, :3] @ places + back[:3, 3:], order=1)
        there = share.reshape(lesion.shape) > 0.5
        first = first or (there, float(millilitres))
        found[name] = {
            "ml": float(millilitres),
            "relative": float(millilitres) / first[1],
            "dice_with_unchanged": dice(there, first[0]),
            "dice_with_implant": dice(there, lesion),
            "seconds": time.perf_counter() - start,
        }
        print(f"  {subject.id}, {name}: {found[name]}", flush=True)
    return found


def main() -> None:
    arguments = parser(__doc__, writes="real_changes.json", contrasts=list(PRIORS))
    arguments.add_argument("--people", type=int, default=3, help="heads of each contrast")
    options, data = arguments.parse_args(), real_data()
    rows: dict[str, list[dict[str, dict[str, float]]]] = {}
    for contrast in options.contrasts:
        everyone = implants(data, contrast, 1)
        # The last ones are heads of other scanners than IXI's.
        rows[contrast] = [compared(one, contrast, i) for i, one in enumerate(everyone[-options.people :])]
    found: dict[str, Any] = {}
    for contrast, heads in rows.items():
        for name in heads[0]:
            ratios = np.array([head[name]["relative"] for head in heads])
            found.setdefault(contrast, {})[name] = {
                **{key: float(np.median([head[name][key] for head in heads])) for key in heads[0][name]},
                "relative_of_each": ratios.round(3).tolist(),
                "within_15_percent": float((np.abs(ratios - 1) <= 0.15).mean()),
            }
    write_json(options.out / "real_changes.json", {**environment("cpu"), "limit": LIMIT, "contrasts": found})


if __name__ == "__main__":
    main()
