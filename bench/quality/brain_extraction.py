"""Dice, volume and seconds of brain extraction, of heads with masks, upright, tilted, on a side and stripped.

Where there are MUSE regions, the same anatomy is also rendered in other contrasts, and the core is judged as well.

    python bench/quality/brain_extraction.py IXI_FOLDER --every 10 --offset 9                   # lesioncore
    python bench/quality/brain_extraction.py IXI_FOLDER --every 10 --offset 9 --tool deepbet    # an installed tool
    python bench/quality/brain_extraction.py FOLDER --only-upright                              # any BIDS folder

Every tenth person of IXI is one whom training holds out. There is a Dice for the scans that have masks.
Masks are looked for as ``derivatives/*/sub-*/anat/*_desc-brain_mask.nii.gz``, MUSE regions beside them. Prints a line
for each scan and writes ``extraction.json``, or ``extraction_TOOL.json``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.results import write_json

from lesioncore.data.nifti import load_image
from lesioncore.data.orientation import Orientation
from lesioncore.preprocess.brain_network import WEIGHTS
from lesioncore.preprocess.external import TOOLS, tool_mask
from lesioncore.preprocess.extraction import extract_brain, head_or_brain
from lesioncore.preprocess.pipeline import volume_ml
from lesioncore.training.head_scans import Draws
from lesioncore.training.heads import Head, make_head
from lesioncore.training.rendered import render_brain

Voxels = npt.NDArray[Any]


def dice(found: Voxels, truth: Voxels) -> float:
    return float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))


def turned(volume: Voxels, degrees: tuple[float, float, float], order: int, cval: float) -> Voxels:
    """Rotate about the axes in turn, in a box that holds the whole head (1 and 2 mm alike: isotropic voxels)."""
    for axis, angle in enumerate(degrees):
        plane = tuple(other for other in range(3) if other != axis)
        if angle:
            volume = ndimage.rotate(volume, angle, plane, order=order, cval=cval)
    return volume


def variants(scan: Voxels, truth: dict[str, Voxels], size: float) -> Iterator[tuple[str, Voxels, dict[str, Voxels]]]:
    for name, degrees in {
        "tilted 20": (20.0, -20.0, 20.0),
        "tilted 30": (30.0, 0.0, 0.0),
        "tilted 30 sideways": (0.0, 30.0, 30.0),
        "on its side": (0.0, 90.0, 0.0),
        "on its face": (90.0, 0.0, 0.0),
    }.items():
        masks = {what: turned(mask.astype(np.float32), degrees, 1, 0.0) > 0.5 for what, mask in truth.items()}
        yield name, turned(scan, degrees, 1, float(scan.min())), masks
    away = ndimage.distance_transform_edt(~truth["mask"]) * size
    for margin in (0, 2, 4):
        yield f"stripped {margin} mm", np.where(away <= margin, scan, 0), truth


def rendered(head: Head, truth: dict[str, Voxels], number: int) -> Iterator[tuple[str, Voxels, dict[str, Voxels]]]:
    for contrast in ("T1w", "T2w", "FLAIR"):
        yield f"rendered {contrast}", render_brain(head, contrast, Draws(number), whole=True).numpy(), truth


def measure_tool(scan: Voxels, affine: Voxels, truth: dict[str, Voxels], tool: str) -> dict[str, float | str]:
    """Figures of an installed tool's mask, from starting its program on; a mask that it does not make is empty."""
    began = time.perf_counter()
    try:
        mask = tool_mask(tool, scan, affine)
    except RuntimeError:
        mask = np.zeros(scan.shape, bool)
    row: dict[str, float | str] = {"seconds": time.perf_counter() - began, "volume": volume_ml(mask, affine)}
    if "mask" in truth:
        row |= {"dice_mask": dice(mask, truth["mask"]), "true_mask_volume": volume_ml(truth["mask"], affine)}
    return row


def measure(scan: Voxels, affine: Voxels, truth: dict[str, Voxels], weights: Path) -> dict[str, float | str]:
    began = time.perf_counter()
    brain = extract_brain(scan, affine, weights=weights)
    seconds = time.perf_counter() - began
    kind, share = head_or_brain(scan, affine, brain)
    return {
        "seconds": seconds,
        "volume": brain.volume,
        "core_volume": brain.core_volume,
        "confidence": brain.confidence,
        "kind": kind,
        "share": share,
        **{f"dice_{what}": dice(getattr(brain, what), mask) for what, mask in truth.items()},
        **{f"true_{what}_volume": volume_ml(mask, affine) for what, mask in truth.items()},
    }


def masks_of(
    folder: Path, person: str, scan: Voxels, orientation: Orientation
) -> tuple[dict[str, Voxels], Head | None]:
    """Masks in RAS+ order: the conventional one, and the core where there are MUSE regions, with the head they make."""
    file = next(iter(sorted(folder.glob(f"derivatives/*/{person}/anat/{person}*_desc-brain_mask.nii.gz"))), None)
    if file is None:
        return {}, None
    mask = orientation.to_ras(load_image(file).get_fdata(dtype=np.float32)) > 0
    regions = file.with_name(file.name.replace("brain_mask", "muse_dseg"))
    if not regions.exists():
        return {"mask": mask}, None
    numbers = orientation.to_ras(load_image(regions).get_fdata(dtype=np.float32))
    head = make_head(scan, mask, np.rint(numbers).astype(np.int32))
    return {"mask": mask, "core": head.core.numpy()}, head


def main() -> None:
    arguments = parser(__doc__, writes="extraction.json or extraction_TOOL.json", threads=2)
    arguments.add_argument("folders", type=Path, nargs="+")
    arguments.add_argument("--every", type=int, default=1, help="take every n-th scan")
    arguments.add_argument("--offset", type=int, default=0, help="from this one on")
    arguments.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments.add_argument("--tool", choices=sorted(TOOLS), help="measure this program in place of ours")
    arguments.add_argument("--only-upright", action="store_true")
    options = arguments.parse_args()
    out = options.out / ("extraction.json" if options.tool is None else f"extraction_{options.tool}.json")
    torch.set_num_threads(options.threads)
    rows: dict[str, list[dict[str, Any]]] = {}
    for folder in options.folders:
        files = sorted(folder.glob("sub-*/anat/*.nii.gz")) or sorted(folder.glob("*.nii.gz"))
        for number, file in enumerate(files[options.offset :: options.every]):
            image = load_image(file)
            orientation = Orientation.from_affine(image.affine, image.shape)
            scan, affine = orientation.to_ras(image.get_fdata(dtype=np.float32)), orientation.ras_affine
            truth, head = masks_of(folder, file.name.split("_")[0], scan, orientation)
            cases = [("as it is", scan, truth)]
            if "mask" in truth and not options.only_upright:
                cases += variants(scan, truth, min(orientation.voxel_size))
                cases += rendered(head, truth, number) if head is not None else ()
            for name, volume, masks in cases:
                if options.tool is None:
                    row = measure(volume, affine, masks, options.weights)
                else:
                    row = measure_tool(volume, affine, masks, options.tool)
                rows.setdefault(name, []).append({"scan": file.name, "voxel_size": orientation.voxel_size, **row})
                figures = "  ".join(f"{k} {v if isinstance(v, str) else format(v, '.3f')}" for k, v in row.items())
                print(f"{file.name:32s} {name:20s} {figures}", flush=True)
    summary = {
        name: {
            figure: {"mean": float(np.mean(values)), "worst": float(np.min(values))}
            for figure in ("dice_mask", "dice_core", "confidence")
            if (values := [row[figure] for row in found if figure in row])
        }
        for name, found in rows.items()
    }
    for name, figures in summary.items():
        print(name, {k: {n: round(x, 4) for n, x in v.items()} for k, v in figures.items()})
    write_json(out, {"environment": environment("cpu"), "summary": summary, "scans": rows})


if __name__ == "__main__":
    main()
