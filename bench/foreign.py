"""Simulated people of a second generator, which shares the mean anatomy (ICBM152) with the phantom and nothing else.

Tissues are hard labels drawn from the average's probabilities, warped by a few sine waves and a matrix; each has its
intensity; the point spread is Gaussian, the bias a polynomial, the noise Rician. Lesions are of kinds that the phantom
lacks: multiple-sclerosis-like plaques, metastases with a ring and oedema, wedge-shaped infarcts. Nothing here was
fitted to any detector.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from nibabel.affines import from_matvec
from nilearn import datasets
from numpy.typing import NDArray
from scipy import ndimage, special

from lesioncore.data.grid import SliceGrid
from lesioncore.subjects import Loaded, Subject, source_hash

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]

FLUID, GREY, WHITE = 1, 2, 3
LEVELS = {  # mean and deviation over people, in units of white matter
    "T2w": ((2.4, 0.25), (1.5, 0.08), (1.0, 0.04)),
    "T1w": ((0.25, 0.04), (0.65, 0.04), (1.0, 0.03)),
}
LESIONS = {  # range of each part's intensity
    "plaques": {"T2w": {"plaque": (1.7, 2.3)}, "T1w": {"plaque": (0.55, 0.80)}},
    "metastases": {
        "T2w": {"oedema": (1.6, 2.0), "ring": (1.2, 1.5), "core": (1.9, 2.4)},
        "T1w": {"oedema": (0.70, 0.85), "ring": (1.3, 1.7), "core": (0.35, 0.55)},  # the ring takes up contrast agent
    },
    "infarct": {"T2w": {"infarct": (1.8, 2.3)}, "T1w": {"infarct": (0.45, 0.65)}},
}
SEED = 20_977
MARGIN = 14  # mm around the average's brain
STEP = 2  # a scan's voxel is two of the anatomy's, mm
EVERY = (slice(None, None, STEP),) * 3


@dataclass(frozen=True)
class ForeignSubject(Subject):
    """A person of this generator, healthy or with one of `LESIONS`; the same number has the same anatomy."""

    modality: str
    number: int
    lesion: str | None = None

    @classmethod
    def of(cls, modality: str, number: int, lesion: str | None = None) -> ForeignSubject:
        return cls(f"foreign-{number:04d}_{lesion}", f"foreign-{number:04d}", modality, number, lesion)

    def key(self) -> str:
        facts = {**asdict(self), "code": source_hash(Path(__file__))}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def load(self, grid: SliceGrid) -> Loaded:
        if grid.voxel_size != STEP:
            raise ValueError(f"grid: got voxels of {grid.voxel_size:g} mm, this generator makes {STEP} mm")
        labels, points = draw_labels(self.number)
        acquisition = np.random.default_rng([SEED, self.number, 1])
        disease = np.random.default_rng([SEED, self.number, 2])
        levels = [0.0, *(acquisition.normal(*level) for level in LEVELS[self.modality])]
        signal = np.asarray(levels, np.float32)[labels]
        truth = np.zeros(labels.shape, bool)
        if self.lesion is not None:
            for part, where in SHAPES[self.lesion](disease, labels, points).items():
                signal[where] = disease.uniform(*LESIONS[self.lesion][self.modality][part])
                truth |= where
        signal *= 1 + np.float32(0.04) * smooth_noise(acquisition, signal.shape, 1.0)
        scan, brain = acquire(acquisition, signal, labels > 0)
        affine = from_matvec(STEP * np.eye(3), [axis.flat[0] for axis in points])
        return Loaded(scan, affine, brain, None if self.lesion is None else truth[EVERY] & brain)


@lru_cache(maxsize=1)
def average() -> tuple[Array, list[NDArray[np.float64]]]:
    """Probabilities of brain, grey and white matter `[3, X, Y, Z]` at 1 mm, and the positions (mm) along each axis."""
    sources = datasets.load_mni152_brain_mask, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template
    images = [source(resolution=1) for source in sources]
    maps = np.stack([image.get_fdata(dtype=np.float32) for image in images])
    box = ndimage.find_objects((maps[0] > 0).astype(int))[0]
    maps = np.pad(maps[(slice(None), *box)], [(0, 0), *[(MARGIN, MARGIN)] * 3])
    first = [images[0].affine[i, 3] + box[i].start - MARGIN for i in range(3)]
    return maps, [start + np.arange(size) for start, size in zip(first, maps.shape[1:], strict=True)]


@lru_cache(maxsize=16)  # the conditions' patients are the same people
def draw_labels(number: int) -> tuple[Labels, list[Array]]:
    """One person's tissues at 1 mm, 0 outside the brain, and open grids of the positions (mm)."""
    rng = np.random.default_rng([SEED, number, 0])
    maps, axes = average()
    points = [axis.astype(np.float32) for axis in np.meshgrid(*axes, indexing="ij", sparse=True)]
    middle = [len(axis) // 2 for axis in axes]
    offset = [axis - axis.flat[i] for axis, i in zip(points, middle, strict=True)]
    matrix = np.eye(3) + rng.normal(0, 0.025, (3, 3))
    moved = np.stack([project(offset, row) + i for row, i in zip(matrix, middle, strict=True)])
    for _ in range(8):
        direction = rng.normal(size=3)
        direction *= 2 * np.pi / rng.uniform(35, 140) / np.linalg.norm(direction)
        wave = np.sin(project(points, direction) + np.float32(rng.uniform(0, 2 * np.pi)))
        for i, size in enumerate(rng.normal(0, 1.2, 3)):
            moved[i] += np.float32(size) * wave
    brain, grey, white = (ndimage.map_coordinates(m, moved, order=1, output=np.float32) for m in maps)
    inside = ndimage.binary_fill_holes(brain > 0.5)
    odds = np.stack([np.clip(1 - grey - white, 0.01, 1), np.clip(grey, 0.01, 1), np.clip(white, 0.01, 1)])
    score = 2 * np.log(odds)  # sharper than the average, in which people's borders are mixed
    for one in score:
        # Gumbel noise of a Gaussian's ranks: the largest sum is a draw with these probabilities, alike in neighbours.
        rank = special.ndtr(smooth_noise(rng, one.shape, 1.5))
        one -= np.log(-np.log(np.clip(rank, 1e-6, 1 - 1e-6)))
    return np.where(inside, score.argmax(0) + 1, 0).astype(np.uint8), points


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> Array:
    """Gaussian noise of unit variance, smoothed over `width` voxels."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), width, mode="wrap")
    return field / field.std()


def acquire(rng: np.random.Generator, signal: Array, inside: Mask) -> tuple[Array, Mask]:
    """Scanner image and brain mask with voxels of `STEP` mm: point spread, bias, noise, gain."""
    spread = [width / 2.355 for width in [rng.uniform(1.5, 2.5)] * 2 + [rng.uniform(2.0, 4.0)]]
    image = ndimage.gaussian_filter(signal, spread)[EVERY]
    brain = inside[EVERY]
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size) for size in image.shape], indexing="ij", sparse=True)
    bias = np.zeros(image.shape)
    for a, b, c in product(range(4), repeat=3):
        if a + b + c <= 3:
            bias += rng.normal() * x**a * y**b * z**c
    bias *= rng.uniform(0.03, 0.08) / bias[brain].std()
    image = image * np.exp(bias - bias[brain].mean())
    noise = rng.normal(0, 1 / rng.uniform(20, 60), (2, *image.shape))
    gain = rng.uniform(80, 2000)
    scan = np.where(brain, np.maximum(gain * np.hypot(image + noise[0], noise[1]), 1e-3), 0)
    return scan.astype(np.float32), brain


def plaques(rng: np.random.Generator, labels: Labels, points: list[Array]) -> dict[str, Mask]:
    """5 to 12 ellipsoids in the white matter around the lateral ventricles, pointing away from them."""
    x, y, z = points
    fluid = (labels == FLUID) & (abs(x) < 25) & (y > -45) & (y < 35) & (z > 2) & (z < 30)
    pieces, _ = ndimage.label(ndimage.binary_opening(fluid))
    ventricles = pieces == np.bincount(pieces.flat)[1:].argmax() + 1
    near = ndimage.binary_dilation(ventricles, iterations=7) & ~ndimage.binary_dilation(ventricles, iterations=2)
    where = np.zeros(labels.shape, bool)
    for centre in choose(rng, near & (labels == WHITE), points, int(rng.integers(5, 13))):
        outward = centre - np.array([0, -8, 15])
        where |= ellipsoid(points, centre, outward, rng.uniform(3, 7), rng.uniform(1.2, 2))
    return {"plaque": where & (labels > FLUID)}


def metastases(rng: np.random.Generator, labels: Labels, points: list[Array]) -> dict[str, Mask]:
    """1 to 3 balls below the cortex: a core, a ring around it, and oedema in the white matter beside it."""
    parts = {name: np.zeros(labels.shape, bool) for name in ("oedema", "ring", "core")}
    allowed = shell(labels > 0, 10, 20) & (labels == WHITE) & (points[2] > -20)
    for centre in choose(rng, allowed, points, int(rng.integers(1, 4))):
        direction, radius, ratio = rng.normal(size=3), rng.uniform(5, 11), rng.uniform(0.8, 1.25)
        sizes = {"oedema": rng.uniform(1.3, 2), "ring": 1.0, "core": 0.6}
        for name, tissue in (("oedema", labels == WHITE), ("ring", labels > 0), ("core", labels > 0)):
            parts[name] |= ellipsoid(points, centre, direction, sizes[name] * radius, ratio) & tissue
    return parts


def infarct(rng: np.random.Generator, labels: Labels, points: list[Array]) -> dict[str, Mask]:
    """A cone from the white matter of one hemisphere out to the cortex."""
    allowed = shell(labels > 0, 20, 30) & (labels == WHITE) & (points[2] > -10) & (abs(points[0]) > 15)
    (tip,) = choose(rng, allowed, points, 1)
    outward = tip - np.array([0, -17, 10]) + rng.normal(0, 5, 3)
    distance, along = distances(points, tip, outward)
    cone = along > distance * np.cos(np.deg2rad(rng.uniform(25, 50)))
    return {"infarct": cone & (labels > FLUID) & (points[0] * np.sign(tip[0]) > 3)}


SHAPES = {"plaques": plaques, "metastases": metastases, "infarct": infarct}


def choose(rng: np.random.Generator, allowed: Mask, points: list[Array], count: int) -> list[NDArray[np.float64]]:
    places = rng.permutation(np.argwhere(allowed))[:count]
    return [np.array([axis.flat[i] for axis, i in zip(points, place, strict=True)], float) for place in places]


def project(points: list[Array], direction: NDArray) -> Array:
    x, y, z = (np.float32(part) * axis for axis, part in zip(points, direction, strict=True))
    return x + y + z


def distances(points: list[Array], centre: NDArray, direction: NDArray) -> tuple[Array, Array]:
    """Distance from `centre` (mm), and the signed part of it along `direction`."""
    x, y, z = (axis - np.float32(at) for axis, at in zip(points, centre, strict=True))
    return np.sqrt(x**2 + y**2 + z**2), project([x, y, z], direction / np.linalg.norm(direction))


def ellipsoid(points: list[Array], centre: NDArray, direction: NDArray, radius: float, ratio: float) -> Mask:
    """Half axes (mm): `radius` across `direction`, `ratio` times that along it."""
    distance, along = distances(points, centre, direction)
    return distance**2 - along**2 * (1 - ratio**-2) < radius**2


def shell(brain: Mask, low: float, high: float) -> Mask:
    """Voxels between two depths (mm) below the brain's surface; only every second along each axis is looked at."""
    depth = ndimage.distance_transform_edt(brain[EVERY], sampling=STEP)
    found = np.zeros_like(brain)
    found[EVERY] = (low < depth) & (depth < high)
    return found
