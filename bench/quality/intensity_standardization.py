"""Stability of intensity standardisations: percentiles, tissue modes, registered tissue, a second pass.

Healthy people are brought to the template; some give each method its reference, the others are disturbed by a tumour, a
looser or tighter mask, a bias field, another scanner, a wrong registration. What counts is how far the z-scores of the
voxels that were not touched move, how alike people are, and how much of a lesion's contrast is left.

    LESIONCORE_REAL_DATA=folder python bench/quality/intensity_standardization.py ixi-T1w phantom-T2w

Prints a table for each source and writes ``intensity.json``.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from intensity_methods import METHODS
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.real_data import real_data
from common.results import write_json

from lesioncore.phantom import simulate
from lesioncore.preprocess.pipeline import preprocess
from lesioncore.preprocess.template import brain_template
from lesioncore.preprocess.tissue_regions import tissue_regions

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

FLUID, GREY, WHITE, NUCLEI = 1, 2, 3, 4
# MUSE numbers of the IXI labels; 1 is fluid around the brain here, those from 100 on are cortex.
MUSE = {
    FLUID: (1, 4, 11, 46, 49, 50, 51, 52),
    GREY: (31, 32, 38, 39, 47, 48, 71, 72, 73, 75, 76, *range(100, 208)),
    WHITE: (35, 40, 41, 61, 62, *range(81, 96)),
    NUCLEI: (23, 30, 36, 37, 55, 56, 57, 58, 59, 60),
}
LARGE_VENTRICLES = ("IXI175", "IXI465", "IXI538")
# Intensity of fluid, grey matter, white matter and deep nuclei, and how much of the T1w texture shows.
CONTRASTS = {"T2w": ((2.6, 1.5, 1.0, 1.2), -0.5), "FLAIR": ((0.25, 1.15, 0.95, 1.1), -0.3)}
STEPS = ("register",)
VOXEL_ML = 0.008
SOURCES = ("ixi-T1w", "ixi-T2w", "ixi-FLAIR", "openms-T1w", "openms-T2w", "openms-FLAIR", "phantom-T1w", "phantom-T2w")


@dataclass(frozen=True)
class Person:
    """One healthy person on the template's grid: scan, brain, and where a tissue's intensity is judged."""

    name: str
    values: Array
    brain: Mask
    tissues: NDArray[np.uint8]
    regions: NDArray[np.int16]
    head: bool = False  # whether there are intensities around the brain


def to_template(volume: NDArray[Any], affine: NDArray[Any], order: int) -> NDArray[Any]:
    """Resample to the template's grid by the matrix from voxels to template millimetres."""
    template = brain_template()
    matrix = np.linalg.inv(affine) @ template.affine
    return ndimage.affine_transform(volume, matrix[:3, :3], matrix[:3, 3], template.brain.shape, order=order)


def ixi_person(name: str, contrast: str) -> Person:
    root = real_data() / "ixi"
    derived = root / "derivatives" / "muse" / f"sub-{name}" / "anat" / f"sub-{name}_desc"
    scan = nib.load(root / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz")
    mask, labels = (np.asarray(nib.load(f"{derived}-{part}.nii.gz").dataobj) for part in ("brain_mask", "muse_dseg"))
    done = preprocess(scan.get_fdata(dtype=np.float32), scan.affine, mask=mask > 0, steps=STEPS)
    affine = done.to_template @ scan.affine
    values, brain = to_template(done.values, affine, 1), to_template(mask, affine, 0) > 0
    muse = to_template(labels, affine, 0)
    classes = np.where(brain, FLUID, 0).astype(np.uint8)
    for tissue, numbers in MUSE.items():
        classes[np.isin(muse, numbers) & brain] = tissue
    judged = np.where(muse >= 100, GREY, 0).astype(np.uint8)
    judged[ndimage.binary_erosion(classes == WHITE)] = WHITE
    judged[ndimage.binary_erosion(np.isin(muse, (51, 52)))] = FLUID
    if contrast != "T1w":
        values = rendered(values, brain, classes, contrast, np.random.default_rng(int(name[3:])))
    return Person(name, values, brain, judged * brain, tissue_regions(), head=True)


def rendered(t1: Array, brain: Mask, classes: NDArray[np.uint8], contrast: str, rng: np.random.Generator) -> Array:
    """Another contrast of the same anatomy: tissue levels with partial volume, the T1w texture within them, noise."""
    levels, texture = CONTRASTS[contrast]
    spread = classes.copy()
    spread[ndimage.binary_dilation(brain, iterations=4) & ~brain] = FLUID
    shares = [ndimage.gaussian_filter((spread == tissue).astype(np.float32), 0.6) for tissue in (1, 2, 3, 4)]
    image = sum(share * level for share, level in zip(shares, levels, strict=True)) / np.maximum(sum(shares), 1e-3)
    for tissue in (GREY, WHITE, NUCLEI):
        inside = spread == tissue
        image[inside] += texture * np.clip((t1[inside] / np.median(t1[inside])) - 1, -0.15, 0.15)
    return (400 * np.maximum(image + rng.normal(0, 0.03, image.shape), 0)).astype(np.float32)


def openms_person(name: str, contrast: str) -> Person:
    root, label = real_data() / "openms", "label-lesion_mask"
    scan = nib.load(root / f"sub-{name}" / "anat" / f"sub-{name}_{contrast}.nii.gz")
    lesion = nib.load(root / "derivatives" / "consensus" / f"sub-{name}" / "anat" / f"sub-{name}_{label}.nii.gz")
    voxels = scan.get_fdata(dtype=np.float32)
    inside = ndimage.binary_fill_holes(ndimage.binary_opening(np.abs(voxels) > 0.02 * voxels.max(), iterations=2))
    affine = preprocess(voxels, scan.affine, mask=inside, steps=("register",)).to_template @ scan.affine
    blurred = ndimage.gaussian_filter(np.where(inside, voxels, 0), 0.7)  # to 2 mm
    values, brain = to_template(blurred, affine, 1), to_template(inside.astype(np.float32), affine, 1) > 0.9
    ill = to_template(np.asarray(lesion.dataobj, np.float32), affine, 1) > 0.05
    regions = tissue_regions()
    judged = np.where((regions > 0) & ~ill & brain, (regions - 1) % 3 + 1, 0).astype(np.uint8)
    return Person(name, values.astype(np.float32), brain, judged, regions)


def phantom_person(number: int, contrast: str, split: str) -> Person:
    phantom = simulate(number, split=split, contrast=contrast)
    values, brain = (
        to_template(volume.astype(np.float32), phantom.affine, 1) for volume in (phantom.image, phantom.brain_mask)
    )
    pure = [to_template(share, phantom.affine, 1) > 0.95 for share in phantom.tissue]
    judged = sum(tissue * mask for tissue, mask in zip((FLUID, GREY, WHITE), pure, strict=True)).astype(np.uint8)
    inside = brain > 0.999
    return Person(f"{split}{number}", values, inside, judged * inside, tissue_regions())


def people(source: str, references: int, tests: int) -> tuple[list[Person], list[Person]]:
    """Reference people and test people; of the three in OpenMS each is both."""
    kind, contrast = source.split("-")
    if kind == "phantom":
        return (
            [phantom_person(i, contrast, "train") for i in range(references)],
            [phantom_person(i, contrast, "test") for i in range(tests)],
        )
    if kind == "openms":
        everyone = [openms_person(f"openms{number}", contrast) for number in ("07", "19", "26")]
        return everyone, everyone
    names = sorted(
        path.name.split("_")[0][4:] for path in (real_data() / "ixi").glob("derivatives/muse/*/anat/*muse_dseg.nii.gz")
    )
    names = [name for name in names if name not in (*LARGE_VENTRICLES, "IXI204")]
    chosen = [str(name) for name in np.random.default_rng(0).permutation(names)[: references + tests - 3]]
    chosen = [*chosen[:references], *LARGE_VENTRICLES, *chosen[references:]]
    everyone = [ixi_person(name, contrast) for name in chosen]
    return everyone[:references], everyone[references:]


@dataclass(frozen=True)
class Disturbed:
    """A person's scan with something done to it; `touched` voxels are not judged, those of `lesion` are its core."""

    name: str
    person: Person
    touched: Mask | None = None
    lesion: Mask | None = None


def tumour(person: Person, millilitres: float, shift: float, rng: np.random.Generator) -> Disturbed:
    """Change the intensities of a smooth blob in white matter by `shift` standard deviations of the brain."""
    values, inside = person.values, ndimage.binary_erosion(person.brain, iterations=2)
    centres = np.argwhere(ndimage.binary_erosion(person.tissues == WHITE) & inside)
    centre = centres[rng.integers(len(centres))].reshape(3, 1, 1, 1)
    distance = 2 * np.sqrt(np.square(np.indices(values.shape) - centre).sum(axis=0))
    radius = (3000 * millilitres / (4 * np.pi)) ** (1 / 3)
    level = np.where(inside, distance - 0.3 * radius * smooth_noise(rng, values.shape, 4), np.inf)
    count = int(millilitres / VOXEL_ML)
    blob = level < np.partition(level.ravel(), count)[count]
    strength = shift * values[person.brain].std() * (1 + 0.3 * smooth_noise(rng, values.shape, 3))
    changed = values + strength * ndimage.gaussian_filter(blob.astype(np.float32), 0.7)
    changed = np.maximum(changed, np.percentile(values[person.brain], 0.5)).astype(np.float32)
    touched = ndimage.binary_dilation(blob, iterations=2)
    return Disturbed(f"tumour {millilitres:g} ml", replace(person, values=changed), touched, blob)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Array:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), sigma)
    return noise / noise.std()


def loosened(person: Person, steps: int, rng: np.random.Generator) -> Person:
    """A rim of fluid joins: of a head what is dark there on T1w, else intensities of the person's own fluid."""
    rim = ndimage.binary_dilation(person.brain, iterations=steps) & ~person.brain
    values = person.values
    if person.head:
        white = np.median(values[person.tissues == WHITE])
        if np.median(values[person.tissues == FLUID]) < 0.75 * white:
            rim &= values < 0.75 * white
    else:
        values = values.copy()
        values[rim] = rng.choice(values[person.tissues == FLUID], int(rim.sum()))
    return replace(person, values=values, brain=person.brain | rim)


def bias_field(shape: tuple[int, ...], brain: Mask, rng: np.random.Generator) -> Array:
    """Factor that is quadratic in the place and differs from its mean by up to 30 % in the brain."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    terms = (x, y, z, x * y, y * z, x * z, x * x, y * y, z * z)
    field = sum(weight * term for weight, term in zip(rng.normal(size=9), terms, strict=True))
    field -= field[brain].mean()
    return (1 + 0.3 * field / np.abs(field[brain]).max()).astype(np.float32)


def misplaced(regions: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """Regions of a wrong registration: some 3 degrees, 3 mm and 3 % off."""
    turn = np.eye(3) + rng.normal(0, np.deg2rad(2), (3, 3)) + np.diag(rng.normal(0, 0.03, 3))
    centre = (np.array(regions.shape) - 1) / 2
    return ndimage.affine_transform(regions, turn, centre - turn @ centre + rng.normal(0, 1, 3), order=0)


def disturbances(person: Person, rng: np.random.Generator) -> Iterator[Disturbed]:
    for millilitres in (50, 120, 230):
        for shift in (2.0, -1.5):
            yield tumour(person, millilitres, shift, rng)
    for steps in (1, 2, 3):
        yield Disturbed(f"mask +{2 * steps} mm", loosened(person, steps, rng))
    for steps in (1, 2):
        brain = ndimage.binary_erosion(person.brain, iterations=steps)
        yield Disturbed(f"mask -{2 * steps} mm", replace(person, brain=brain))
    bias = bias_field(person.brain.shape, person.brain, rng)
    yield Disturbed("bias 30 %", replace(person, values=person.values * bias))
    yield Disturbed("gain, offset", replace(person, values=3.1 * person.values + 70))
    top = np.percentile(person.values[person.brain], 99)
    for gamma in (0.75, 1.33):
        values = top * (np.maximum(person.values, 0) / top) ** np.float32(gamma)
        yield Disturbed("gamma", replace(person, values=values.astype(np.float32)))
    wrong = misplaced(person.regions, rng)
    yield Disturbed("registration", replace(person, regions=wrong))
    worst = tumour(loosened(person, 2, rng), 230, 2.0, rng)
    changed = replace(worst.person, values=worst.person.values * bias, regions=wrong)
    yield Disturbed("all at once", changed, worst.touched)


def measure(source: str, references: int, tests: int) -> dict[str, dict[str, float]]:
    """Each method's figures: mean change of the z-scores by disturbance, contrast kept, spread between people, ms."""
    reference, test = people(source, references, tests)
    matches = {name: method(reference) for name, method in METHODS.items()}
    found: dict[str, dict[str, list[float]]] = {name: {} for name in METHODS}
    medians: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    for person in test:
        plain = {name: match(person) for name, match in matches.items()}
        before = {name: mapping(person.values) for name, mapping in plain.items()}
        for name, scores in before.items():
            medians[name].append([float(np.median(scores[person.tissues == tissue])) for tissue in (1, 2, 3)])
        number = int("".join(filter(str.isdigit, person.name)))
        for case in disturbances(person, np.random.default_rng([20, number])):
            judged = person.brain & case.person.brain
            if case.touched is not None:
                judged &= ~case.touched
            for name, match in matches.items():
                start = time.perf_counter()
                mapping = match(case.person)
                found[name].setdefault("ms", []).append(1e3 * (time.perf_counter() - start))
                after = mapping(case.person.values)
                found[name].setdefault(case.name, []).append(float(np.abs(after - before[name])[judged].mean()))
                if case.lesion is not None:
                    seen = (after - mapping(person.values))[case.lesion].mean()
                    there = (plain[name](case.person.values) - before[name])[case.lesion].mean()
                    found[name].setdefault("kept", []).append(float(seen / there))
        print(f"{source}: {person.name}", flush=True)
    return {name: _figures(found[name], np.array(medians[name])) for name in METHODS}


def _figures(found: dict[str, list[float]], medians: NDArray[Any]) -> dict[str, float]:
    kept, milliseconds = found.pop("kept"), found.pop("ms")
    spread = medians.std(axis=0)
    gap = abs(medians.mean(axis=0)[2] - medians.mean(axis=0)[1])
    return {
        **{name: float(np.mean(values)) for name, values in found.items()},
        "kept": float(np.mean(kept)),
        "kept, sd": float(np.std(kept)),
        **{f"sd {tissue}": float(sd) for tissue, sd in zip(("fluid", "grey", "white"), spread, strict=True)},
        "gap / spread": float(gap / np.hypot(spread[1], spread[2])),
        "ms": float(np.median(milliseconds)),
    }


def table(figures: dict[str, dict[str, float]]) -> str:
    """Markdown: a row for each method."""
    columns = list(next(iter(figures.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for name, row in figures.items():
        digits = {"ms": 0, "gap / spread": 1, "kept": 2, "kept, sd": 2}
        cells = [f"{row[column]:.{digits.get(column, 3)}f}" for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    arguments = parser(__doc__, writes="intensity.json")
    arguments.add_argument("sources", nargs="+", choices=SOURCES)
    arguments.add_argument("--references", type=int, default=10, help="people who make each method's reference")
    arguments.add_argument("--tests", type=int, default=12, help="people who are disturbed")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    results = {"environment": environment("cpu"), "references": options.references, "tests": options.tests}
    for source in options.sources:
        results[source] = measure(source, options.references, options.tests)
        print(f"\n{source}: mean change of z by disturbance, then the other figures\n\n{table(results[source])}\n")
        write_json(options.out / "intensity.json", results)


if __name__ == "__main__":
    main()
