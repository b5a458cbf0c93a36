"""Bias correction of real heads, by lesioncore and N4: field removed, and contrast of large lesions lost with it.

    LESIONCORE_REAL_DATA=folder python bench/quality/bias_correction.py

Healthy heads (``bench/common/real_data.py``), extracted and registered, are corrected by
``lesioncore.preprocess.bias`` and by N4 (SimpleITK, its defaults: four levels of up to 50 iterations, on every fourth
voxel). Four figures of each head:

- ``white_matter``: standard deviation of the logarithm of white matter's median over 27 parts of the brain;
- ``left``: how much of a known field's standard deviation (logarithm, in the brain) stays, less what is taken off the
  head without it;
- ``lost``: how much of a ball's contrast (radius 38 mm, at two places, 1.6 times the intensity on T2w and FLAIR, .7
  times on T1w) is taken off with the field, the mean of both;
- ``glioma``: the same of implanted gliomas (``bench/common/real_gliomas.py``) above 25 ml that change the intensity by
  a tenth or more, their mean.

Writes ``bias.json``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.real_data import BRIGHT, heads, real_data
from common.real_gliomas import GliomaSubject, gliomas
from common.results import write_json

from lesioncore.data.grid import SliceGrid
from lesioncore.preprocess.bias import correct_bias
from lesioncore.preprocess.pose import apply, sample
from lesioncore.preprocess.template import brain_template
from lesioncore.subjects import Loaded

BALLS, RADIUS = ((-35.0, -20.0, 25.0), (35.0, 25.0, 15.0)), 38.0  # mm in the template's space

GRID = SliceGrid(2.0, (100, 100))

Correction = Callable[[np.ndarray, Loaded], np.ndarray]
"""Logarithm of the field of values on a scan's grid."""


def ours(values: np.ndarray, scan: Loaded) -> np.ndarray:
    return np.log(correct_bias(values, scan.affine, scan.mask, scan.to_template)[1])


def n4(values: np.ndarray, scan: Loaded) -> np.ndarray:
    image, mask = sitk.GetImageFromArray(values), sitk.GetImageFromArray(scan.mask.astype(np.uint8))
    for part in (image, mask):
        part.SetSpacing(np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1].tolist())
    found = sitk.N4BiasFieldCorrectionImageFilter()
    found.Execute(sitk.Shrink(image, [4] * 3), sitk.Shrink(mask, [4] * 3))
    return sitk.GetArrayFromImage(found.GetLogBiasFieldAsImage(image))


def figures(
    scan: Loaded, correction: Correction, bright: bool, ill: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    values, brain = np.asarray(scan.volume, dtype=np.float32), np.asarray(scan.mask)
    indices = np.argwhere(brain)
    places = apply(scan.to_template @ scan.affine, indices)
    start = time.perf_counter()
    own = correction(values, scan)
    seconds = time.perf_counter() - start
    x, y, z = np.moveaxis(places / 80, -1, 0)
    known = np.zeros(values.shape, dtype=np.float32)
    known[tuple(indices.T)] = 0.2 * (0.5 * x - 0.6 * y * y + 0.4 * z + 0.4 * x * z)
    rest = (known + own - correction(values * np.exp(known), scan))[brain]
    lost = []
    factor = 1.6 if bright else 0.7
    for centre in BALLS:
        ball = np.zeros(values.shape, dtype=bool)
        ball[tuple(indices[np.linalg.norm(places - centre, axis=1) < RADIUS].T)] = True
        taken = correction(np.where(ball, values * factor, values), scan) - own
        lost.append(float((taken[ball].mean() - taken[brain & ~ball].mean()) / np.log(factor)))
    gliomas = []
    for changed, lesion in ill:
        taken = correction(changed, scan) - own
        contrast = float(np.log(np.maximum(changed, 1e-3) / np.maximum(values, 1e-3))[lesion].mean())
        gliomas.append(float(taken[lesion].mean() - taken[brain & ~lesion].mean()) / contrast)
    return {
        **({"glioma": float(np.mean(gliomas))} if gliomas else {}),
        "white_matter": spread_of_white_matter(values * np.exp(-own), brain, places),
        "left": float(rest.std() / known[brain].std()),
        "lost": float(np.mean(lost)),
        "seconds": seconds,
    }


def ill_heads(scan: Loaded, subjects: list[GliomaSubject]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values and lesion of a head with each glioma that is large and changes the intensity enough."""
    found = []
    millilitres = abs(float(np.linalg.det(scan.affine[:3, :3]))) / 1000
    for subject in subjects:
        loaded = subject.load(GRID)
        values = loaded.volume.get_fdata(dtype=np.float32)
        lesion = loaded.lesion & scan.mask & (scan.volume > 0)
        change = np.log(np.maximum(values[lesion], 1e-3) / np.maximum(np.asarray(scan.volume)[lesion], 1e-3)).mean()
        if lesion.sum() * millilitres > 25 and abs(change) >= 0.1:
            found.append((values, lesion))
    return found


def spread_of_white_matter(values: np.ndarray, brain: np.ndarray, places: np.ndarray) -> float:
    template = brain_template()
    share = sample(torch.from_numpy(template.white.copy())[None], apply(np.linalg.inv(template.affine), places))[0]
    inside = values[brain]
    white = (share > 0.8) & (inside > 0)
    thirds = [np.searchsorted(np.quantile(line, (1 / 3, 2 / 3)), line) for line in places[white].T]
    part = thirds[0] + 3 * thirds[1] + 9 * thirds[2]
    medians = [np.log(np.median(inside[white][part == k])) for k in range(27) if (part == k).sum() > 100]
    return float(np.std(medians))


def main() -> None:
    arguments = parser(__doc__, writes="bias.json")
    arguments.add_argument("--people", type=int, default=3, help="heads of each contrast and group")
    options, data = arguments.parse_args(), real_data()
    methods: dict[str, Correction] = {"none": lambda values, _: np.zeros_like(values), "lesioncore": ours, "N4": n4}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for contrast, bright in BRIGHT.items():
        rows: dict[str, dict[str, list[float]]] = {name: {} for name in methods}
        everyone = gliomas(data, contrast, 3)
        for subject in [one for group in heads(data, contrast).values() for one in group[: options.people]]:
            scan = subject.load(GRID).preprocess(("extract", "register"))
            ill = ill_heads(scan, [one for one in everyone if one.scan == subject.scan])
            for name, method in methods.items():
                for key, value in figures(scan, method, bright, ill).items():
                    rows[name].setdefault(key, []).append(round(value, 4))
            print(
                subject.id, {name: {key: row[-1] for key, row in its.items()} for name, its in rows.items()}, flush=True
            )
        found[contrast] = rows
    write_json(options.out / "bias.json", {**environment("cpu"), "contrasts": found})


if __name__ == "__main__":
    main()
