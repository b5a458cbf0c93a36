"""Rendering of healthy brains in other contrasts and on simulated scanners, from real T1w anatomy."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lesioncore.data.files import file_digest, replace_atomically
from lesioncore.data.grid import SliceGrid
from lesioncore.data.nifti import load_image
from lesioncore.data.orientation import Orientation
from lesioncore.preprocess.bias import correct_bias
from lesioncore.preprocess.registration import register
from lesioncore.preprocess.template import template_depth
from lesioncore.subjects import Loaded, Subject
from lesioncore.subjects.subject import source_hash
from lesioncore.training.head_scans import Draws, brain_share, curve, draw_surroundings
from lesioncore.training.heads import GROUPS, VOXEL_SIZE, Head, make_head

Contrast = Literal["T1w", "T2w", "FLAIR"]

# Levels of tissues relative to the brightest: (low, high) of CSF, of cortex and of what white matter adds to it.
_LEVELS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "T1w": ((0.05, 0.38), (0.58, 0.8), (0.12, 0.34)),
    "T2w": ((0.9, 1.25), (0.42, 0.66), (-0.22, -0.04)),
    "FLAIR": ((0.05, 0.4), (0.75, 0.95), (-0.26, -0.06)),
}
# What the groups of regions add beside their fractions of tissue on T2w and FLAIR, in units of the cortex's distance
# from white matter: iron darkens the striatum, thalamus and pallidum; the limbic cortex, the brain stem and the
# pyramidal tract are bright, the corpus callosum is dark. The rest differs a little from region to region and person
# to person.
_IRON = {7: -0.3, 8: -0.1, 9: -0.9}
_BRIGHT = {6: 0.3, 10: 0.3, 12: 0.3, 13: 0.3, 14: -0.1}
# Between fluid and bone: dura, veins and what both are averaged with, relative to the brightest tissue.
_RIM = {"T1w": (0.1, 0.4), "T2w": (0.05, 0.6), "FLAIR": (0.5, 1.0)}
# Bone and dura outside the brain. Masks of FLAIR scans end at tissue and hold parts of voxels of what is dark there.
_OUTSIDE = {"T1w": (0.05, 0.4), "T2w": (0.05, 0.4), "FLAIR": (0.3, 0.9)}
_VENTRICLES, _WHITE, _CORTEX = 2, (3, 4, 13, 14), 11


@dataclass(frozen=True)
class RenderedSubject(Subject):
    """One person's brain as one simulated scanner of a contrast shows it.

    Attributes
    ----------
    scan, brain, regions : Path
        T1w head of 2 mm, closed brain mask and MUSE region numbers (:func:`lesioncore.training.heads.make_head`).
    number : int
        Which scanner: everything random follows from it and the person.
    cache : Path
        Folder that keeps each person's registration.
    whole : bool
        The whole head, for the package's own preprocessing, instead of a brain that is cut out and registered.
    """

    modality: str
    scan: Path
    brain: Path
    regions: Path
    number: int
    cache: Path
    whole: bool = False

    def key(self) -> str:
        facts = f"{self.modality} {self.number} {self.whole} {source_hash(Path(__file__))}"
        digest = hashlib.sha256(facts.encode())
        for path in (self.scan, self.brain, self.regions):
            digest.update(file_digest(path))
        return digest.hexdigest()

    def load(self, grid: SliceGrid) -> Loaded:
        anatomy = _anatomy(self.scan, self.brain, self.regions)
        digest = hashlib.sha256(f"{self.person} {self.modality} {self.number}".encode()).digest()
        seed = int.from_bytes(digest[:6], "big")
        image = render_brain(anatomy.head, self.modality, Draws(seed), whole=self.whole)
        if self.whole:
            return Loaded(image.numpy(), anatomy.affine, None, None)
        to_template = self._registration(anatomy)
        deep = torch.from_numpy(template_depth(image.shape, to_template @ anatomy.affine)) == 2
        brain = _cut_out(anatomy.head, Draws(seed + 1)) | (deep & anatomy.head.brain)
        volume, _ = correct_bias(image.clamp_min(1e-3).numpy(), anatomy.affine, brain.numpy(), to_template)
        return Loaded(volume, anatomy.affine, brain.numpy(), None, to_template)

    def _registration(self, anatomy: _Anatomy) -> npt.NDArray[np.float64]:
        kept = self.cache / f"{file_digest(self.scan).hex()[:16]}.txt"
        if not kept.exists():
            registration = register(anatomy.head.t1.float().numpy(), anatomy.affine, anatomy.head.core.numpy())
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(kept) as temporary:
                np.savetxt(temporary, registration.matrix)
        return np.loadtxt(kept)


@dataclass(frozen=True, eq=False)
class _Anatomy:
    head: Head
    affine: npt.NDArray[np.float64]


@lru_cache(maxsize=2)
def _anatomy(scan: Path, brain: Path, regions: Path) -> _Anatomy:
    images = [load_image(path) for path in (scan, brain, regions)]
    orientation = Orientation.from_affine(images[0].affine, images[0].shape)
    if not np.allclose(orientation.voxel_size, VOXEL_SIZE, atol=0.01):
        raise ValueError(f"{scan}: got voxels of {orientation.voxel_size} mm, expected {VOXEL_SIZE:g} mm")
    t1, mask, numbers = (orientation.to_ras(image.get_fdata(dtype=np.float32)) for image in images)
    return _Anatomy(make_head(t1, mask > 0, np.rint(numbers).astype(np.int32)), orientation.ras_affine)


def rendered_subjects(
    folder: Path, contrast: Contrast, scanners: int, cache: Path, *, held_out: bool = False
) -> list[RenderedSubject]:
    """Subjects of a BIDS folder of T1w heads with ``derivatives/muse``, each by several simulated scanners.

    Parameters
    ----------
    folder : Path
        ``sub-*/anat/*_T1w.nii.gz`` and, under ``derivatives/muse``, ``*_desc-brain_mask.nii.gz`` and
        ``*_desc-muse_dseg.nii.gz``.
    contrast : {"T1w", "T2w", "FLAIR"}
        What is rendered.
    scanners : int
        Simulated scanners for each person.
    cache : Path
        Folder that keeps registrations.
    held_out : bool
        Every tenth person, who is left out otherwise.

    Raises
    ------
    ValueError
        If there is nobody.
    """
    people: list[tuple[str, Path, Path, Path]] = []
    for number, scan in enumerate(sorted(folder.glob("sub-*/anat/*_T1w.nii.gz"))):
        person = scan.name.split("_")[0]
        labels = folder / "derivatives" / "muse" / person / "anat"
        files = [labels / f"{person}_desc-{kind}.nii.gz" for kind in ("brain_mask", "muse_dseg")]
        if (number % 10 == 9) == held_out and all(file.exists() for file in files):
            people.append((person, scan, files[0], files[1]))
    if not people:
        raise ValueError(f"folder: {folder} has no T1w heads with masks and regions under derivatives/muse")
    return [
        RenderedSubject(f"{person}_{contrast}-{turn}", person, contrast, scan, brain, regions, turn, cache)
        for person, scan, brain, regions in people
        for turn in range(scanners)
    ]


def render_brain(head: Head, contrast: str, draws: Draws, *, whole: bool = False) -> Tensor:
    """A random scan of a brain.

    Parameters
    ----------
    head : Head
        The anatomy.
    contrast : {"T1w", "T2w", "FLAIR"}
        A T1w scan is, three times in four, mostly the person's own with its tissues brought to other levels.
    draws : Draws
        Where the random numbers come from.
    whole : bool
        With the rest of the head around it, and air.

    Returns
    -------
    Tensor
        float32 ``[X, Y, Z]``, in no particular unit; without the head, what lies outside the brain is one level.
    """
    csf_level, grey_level, white_step = (draws.uniform(*part) for part in _LEVELS[contrast])
    shape = head.t1.shape
    csf, white = head.csf.float() / 255, head.white.float() / 255
    contrast_size = abs(white_step)
    # Groups of regions have levels of their own.
    offsets = 0.12 * contrast_size * draws.normal(GROUPS)
    offsets[:2] = 0.0
    if contrast != "T1w":
        for group, iron in _IRON.items():
            offsets[group] += iron * contrast_size * draws.uniform(0.5, 1.5)
            # The basal ganglia's share of white matter on T1w is iron too, and not fewer cells.
            white = torch.where(head.group == group, white * draws.uniform(0.2, 0.8), white)
        for group, level in _BRIGHT.items():
            offsets[group] += level * contrast_size * draws.uniform(0.0, 2.0)
    # Cortex differs from place to place, as its myelin does.
    cortical = 0.3 * contrast_size * draws.uniform() * draws.field(shape, draws.uniform(8, 20))[0]
    # CSF flows: brighter and darker from place to place.
    csf_levels = csf_level * (1 + draws.uniform(0, 0.25) * draws.field(shape, draws.uniform(4, 12))[0])
    if contrast == "FLAIR" and draws.chance(0.5):  # what flows in was not inverted, and is bright
        inflow = (draws.field(shape, draws.uniform(4, 10))[0] - 0.5).clamp(0, 1.5)
        csf_levels = csf_levels + draws.uniform(0, 0.3) * inflow
    # The outermost of it is mixed with dura and veins.
    share = 0.75 if contrast == "FLAIR" else 0.5
    mixed = (share + 0.5 * draws.field(shape, draws.uniform(3, 8))[0]).clamp(0, 1)
    outermost = mixed * (head.distance > -draws.uniform(3, 9))
    csf_levels = csf_levels + outermost * (draws.uniform(*_RIM[contrast]) - csf_levels)
    image = grey_level + white_step * white + cortical * (1 - white) + offsets[head.group.long()]
    image = image + (csf_levels - grey_level) * csf
    # Around the brain lies fluid in its recesses, and bone and dura.
    image = torch.where(head.brain, image, draws.uniform(*_OUTSIDE[contrast]))
    image = torch.where(_closed(head.brain) & ~head.brain, csf_levels, image)
    image = image + _caps(head, contrast_size if contrast != "T1w" else -contrast_size, draws)
    texture = draws.uniform(0.005, 0.05)
    for spacing in (1.5, 4.0):
        image = image * (1 + texture * draws.field(shape, spacing)[0])
    if contrast == "T1w" and draws.chance(0.75):
        own = _recoloured(head, (csf_level, grey_level, grey_level + white_step))
        image = torch.lerp(image, own, draws.uniform(0.5, 1.0))
    if whole:
        around = _surroundings(head, contrast, (csf_level, grey_level, grey_level + white_step), draws)
        image = torch.lerp(around, image, brain_share(head))
    return _scanned(image, draws)


def _surroundings(head: Head, contrast: str, levels: tuple[float, float, float], draws: Draws) -> Tensor:
    """The head around the brain: on T1w the person's own."""
    if contrast == "T1w":
        return _recoloured(head, levels) * head.solid
    dark, fat = draws.uniform(0.0, 0.12), draws.uniform(0.3, 1.3)
    between = [draws.uniform(0.05, 0.6) for _ in range(4)]
    return draw_surroundings(head, torch.tensor([dark, dark, dark, *between, fat, fat, fat]), levels[0], draws)


def _recoloured(head: Head, levels: tuple[float, float, float]) -> Tensor:
    """The person's own T1w scan with its fluid, grey and white matter at other levels."""
    t1 = head.t1.float()
    fluid, grey = (float(t1[head.group == group].median()) for group in (_VENTRICLES, _CORTEX))
    knots = torch.tensor([0.0, fluid, max(grey, fluid + 0.1), 1.0, 1.5])  # white matter is at 1
    slope = (levels[2] - levels[1]) / float(knots[3] - knots[2])
    return curve(t1, knots, torch.tensor([0.6 * levels[0], *levels, levels[2] + 0.5 * slope]))


def _cut_out(head: Head, draws: Draws) -> Tensor:
    """The core with a border as extractions leave it: often about a voxel too far out, and wandering by about one."""
    core = head.core.float()[None, None]
    for _ in range(draws.chance(0.4) + draws.chance(0.25)):
        core = (F.avg_pool3d(core, 3, 1, 1, count_include_pad=False) > 0.25).float()
    share = F.avg_pool3d(core, 3, 1, 1, count_include_pad=False)[0, 0]
    wander = draws.uniform(0.0, 0.25) * draws.field(head.t1.shape, draws.uniform(3, 10))[0]
    return share + wander.clamp(-0.4, 0.4) > 0.5


def _closed(brain: Tensor) -> Tensor:
    """The brain with its recesses narrower than 12 mm."""
    closed = brain.float()[None, None]
    for sign in (1, -1):  # grown, and shrunk again, one axis after the other
        for axis in range(3):
            size = [7 if other == axis else 1 for other in range(3)]
            closed = sign * F.max_pool3d(sign * closed, size, 1, [extent // 2 for extent in size])
    return closed[0, 0] > 0.5


def _caps(head: Head, size: float, draws: Draws) -> Tensor:
    """White matter along the ventricles, which changes with age in everyone.

    It stays well below the changes of a disease: a prior that has seen those takes them for healthy.
    """
    near = (head.group == _VENTRICLES).float()[None, None]
    for _ in range(2):
        near = F.avg_pool3d(near, 3, 1, 1)
    white = torch.isin(head.group, torch.tensor(_WHITE, dtype=head.group.dtype)).float() * head.white.float() / 255
    strength = draws.uniform(0.0, 0.4) if draws.chance(0.5) else 0.0
    caps = near[0, 0].clamp(0, 0.4) / 0.4 * (1 + 0.5 * draws.field(head.t1.shape, 5)[0]).clamp(0, 2)
    return size * strength * white * caps


def _sensitivity(shape: torch.Size, draws: Draws) -> Tensor:
    """A field across the whole head: a slope along each axis and a peak or trough about the middle."""
    # 1 near the brain's surface; far from it the field no longer changes.
    reach = [VOXEL_SIZE * (torch.arange(length) - (length - 1) / 2).clamp(-50, 50) / 70 for length in shape]
    places = torch.stack(torch.meshgrid(*reach, indexing="ij"))
    terms = torch.cat((places, places.square().sum(0, keepdim=True)))
    return torch.einsum("i,ixyz->xyz", draws.normal(4), terms)


def _scanned(image: Tensor, draws: Draws) -> Tensor:
    """Resolution, coil and noise of a scanner."""
    shape = image.shape
    volume = image[None, None]
    if draws.chance(0.3):
        volume = torch.lerp(volume, F.avg_pool3d(volume, 3, 1, 1), draws.uniform(0, 0.6))
    if draws.chance(0.35):  # slices of 3 to 6 mm, mostly transversal
        axis = 2 if draws.chance(0.7) else draws.integer(0, 3)
        coarse = list(shape)
        coarse[axis] = max(2, round(shape[axis] / draws.uniform(1.5, 3.0)))
        volume = F.interpolate(F.interpolate(volume, coarse, mode="area"), tuple(shape), mode="trilinear")
    image = volume[0, 0]
    image = image * torch.exp(draws.uniform(0, 0.1) * draws.field(shape, draws.uniform(25, 60))[0])
    image = image * torch.exp(draws.uniform(0, 0.4) * _sensitivity(shape, draws))
    image = image.clamp_min(0).pow(math.exp(draws.uniform(-0.15, 0.15)))
    level = 0.004 * 10 ** draws.uniform()
    real, imaginary = level * draws.normal(*shape), level * draws.normal(*shape)
    return ((image + real).square() + imaginary.square()).sqrt()
