"""Gliomas of the phantom's kind implanted into healthy real heads: large, of two parts, partly of usual intensity.

Strokes' shapes (``real_data.py``) have one intensity that differs from the tissue. A glioma's oedema may look like
grey matter on T1w, its core like anything, and it takes up to a seventh of the brain: what it does to the scan's own
unit, to registration and to standardisation shows here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from common.real_data import ImplantSubject, heads, prepared
from lesioncore.data.grid import SliceGrid
from lesioncore.data.nifti import load_image, make_image
from lesioncore.phantom.anatomy import Anatomy, Tissue, grid_axes
from lesioncore.phantom.contrast import Levels
from lesioncore.phantom.head import MEAN_ANATOMY
from lesioncore.phantom.lesions import Lesion, LesionMaps, plan_lesion
from lesioncore.subjects import Loaded

RADIUS = (14.0, 36.0)
"""Radius of the ball of a glioma's volume, mm."""

_VOXEL = 2.0
_CONFIG = replace(MEAN_ANATOMY, lesion_radius_mm=RADIUS)
# Percentiles of the brain's intensities that stand for grey matter and for the far end of what a lesion may have.
_LEVELS = {"T1w": (35, 2), "T2w": (50, 98), "FLAIR": (50, 98)}
_REACH = {"FLAIR": 1.5}  # FLAIR's lesions are brighter than any tissue


@dataclass(frozen=True)
class GliomaSubject(ImplantSubject):
    """A healthy head with a simulated glioma, grown in the template and brought to the head by its registration."""

    def key(self) -> str:
        return hashlib.sha256(f"glioma {RADIUS} {super().key()}".encode()).hexdigest()

    def load(self, grid: SliceGrid) -> Loaded:
        image = load_image(self.scan)
        values, affine = image.get_fdata(dtype=np.float32), np.asarray(image.affine, dtype=np.float64)
        found = prepared(self.scan)
        anatomy, tissue = _mean_brain()
        plan = _with_flair(plan_lesion("glioma", np.random.SeedSequence([77, self.seed]), anatomy, _CONFIG), self.seed)
        drawn = plan.maps(tissue, grid_axes(_VOXEL), _VOXEL)
        to_grid = np.diag([_VOXEL] * 3 + [1.0])
        to_grid[:3, 3] = [axis[0] for axis in grid_axes(_VOXEL)]
        matrix = np.linalg.inv(to_grid) @ found.to_template @ affine

        def in_head(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return ndimage.affine_transform(volume, matrix[:3, :3], matrix[:3, 3], output_shape=values.shape, order=1)

        maps = LesionMaps(in_head(drawn.fraction) * found.brain, in_head(drawn.core), in_head(drawn.pattern))
        grey, end = np.percentile(values[found.brain & (maps.fraction < 0.1)], _LEVELS[self.modality])
        end = grey + _REACH.get(self.modality, 1.0) * (end - grey)
        levels = Levels(csf=end, grey=grey, white=grey, deep=0.0, regional=0.0, periventricular=0.0)
        changed = np.maximum(plan.apply(values, maps, levels, self.modality), 0)
        return Loaded(make_image(changed.astype(np.float32), affine), None, None, maps.fraction > 0.5)


def _with_flair(plan: Lesion, seed: int) -> Lesion:
    """The plan with intensities on FLAIR: oedema and solid tumour are bright there, necrosis and cysts dark."""
    rng = np.random.default_rng([78, seed])
    core, oedema = rng.uniform(-0.1, 1.0), rng.uniform(0.5, 0.9)
    return replace(plan, targets={**plan.targets, "FLAIR": (core, oedema)})


@lru_cache(maxsize=1)
def _mean_brain() -> tuple[Anatomy, Tissue]:
    anatomy = Anatomy(np.random.default_rng(0), _CONFIG)
    return anatomy, anatomy.tissue(_VOXEL)


def gliomas(root: Path, contrast: str, each: int) -> list[GliomaSubject]:
    """The heads of a contrast, each with `each` different gliomas."""
    scans = [subject.scan for group in heads(root, contrast).values() for subject in group]
    return [
        GliomaSubject(f"{name}_glioma-{turn}", name, contrast, scan, (), 1000 * turn + number)
        for number, scan in enumerate(scans)
        for turn in range(each)
        for name in [scan.name.removesuffix(".nii.gz")]
    ]
