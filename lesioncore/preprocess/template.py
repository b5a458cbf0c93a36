"""The ICBM152 2009a template at 2 mm, to which brains are registered."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch

LabelT = TypeVar("LabelT", bound=np.integer)

VOXEL_SIZE = 2.0
"""Voxel size of the packaged maps, mm."""

_MARGIN = 4  # voxels around the brain
_BEYOND, _WITHIN = 12.0, 4.0  # mm: no brain lies farther beyond the template's; so deep in it, all is brain
_PAD = round(_BEYOND / VOXEL_SIZE) + 1  # voxels around the stored maps that such a brain may reach into
# Steps of the stored bytes: with every one of 256 levels the files are twice as large, and noise is all that they add.
_STEPS = {"T1w": 4, "brain_mask": 1, "grey_probseg": 8, "white_probseg": 8}


@dataclass(frozen=True, eq=False)
class BrainTemplate:
    """Average of 152 people's brains (ICBM152, nonlinear symmetric 2009a), without the skull.

    Attributes
    ----------
    t1 : ndarray
        ``[X, Y, Z]`` float32, RAS+ order: T1w intensity, 0 outside the brain and up to 255.
    brain : ndarray
        Bool: the brain.
    grey, white : ndarray
        Float32: probability of grey and of white matter; what they leave of 1 inside the brain is fluid.
    affine : ndarray
        ``[4, 4]``, voxel indices to MNI millimetres.
    """

    t1: npt.NDArray[np.float32]
    brain: npt.NDArray[np.bool_]
    grey: npt.NDArray[np.float32]
    white: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]


@lru_cache(maxsize=1)
def brain_template() -> BrainTemplate:
    """Read the packaged template (a few milliseconds, then cached); its arrays cannot be written to."""
    maps, affine = {}, np.eye(4)
    for name in _STEPS:
        file = resources.files("lesioncore.preprocess") / "icbm152" / f"{name}.nii.gz"
        image = nib.nifti1.Nifti1Image.from_bytes(gzip.decompress(file.read_bytes()))
        maps[name] = np.asarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
    template = BrainTemplate(
        t1=maps["T1w"].astype(np.float32),
        brain=maps["brain_mask"] > 0,
        grey=maps["grey_probseg"].astype(np.float32) / np.float32(255),
        white=maps["white_probseg"].astype(np.float32) / np.float32(255),
        affine=affine,
    )
    for array in (template.t1, template.brain, template.grey, template.white, template.affine):
        array.flags.writeable = False
    return template


def nearest_labels(labels: npt.NDArray[LabelT], points: npt.NDArray[np.floating]) -> npt.NDArray[LabelT]:
    """Look up labels of the template's grid at any places.

    Parameters
    ----------
    labels : ndarray
        ``[X, Y, Z]`` integers on the grid of `brain_template`.
    points : ndarray
        ``[N, 3]`` finite, template (MNI) millimetres.

    Returns
    -------
    ndarray
        ``[N]``, the nearest voxel's label; 0 outside the grid.
    """
    places = (np.asarray(points) - brain_template().affine[:3, 3]) / VOXEL_SIZE
    # Cut to what int64 holds: far outside the grid is outside it.
    voxels = np.rint(np.clip(places, -1, np.array(labels.shape))).astype(np.int64)
    inside = np.all((voxels >= 0) & (voxels < labels.shape), axis=1)
    nearest = np.zeros(len(voxels), labels.dtype)
    nearest[inside] = labels[tuple(voxels[inside].T)]
    return nearest


def template_depth(shape: tuple[int, ...], voxel_to_template: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Depth of a registered scan's voxels in the template's brain, by three levels.

    Healthy brains are nowhere 12 mm larger than the template's after an affine registration, and what lies 4 mm within
    it is theirs but for .3 % (at most .9 %) of their volume.

    Parameters
    ----------
    shape : tuple of int
        ``[X, Y, Z]``, the scan's.
    voxel_to_template : ndarray
        ``[4, 4]``, from voxel indices to the template's mm.

    Returns
    -------
    ndarray
        uint8 of `shape`: 0 more than 12 mm beyond the template's brain, 2 more than 4 mm within it, 1 between.
    """
    template, levels, pad = brain_template(), _levels(), _PAD
    to_index = np.linalg.inv(template.affine) @ voxel_to_template
    indices = np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij"), -1)
    rows = indices @ to_index[:3, 1:3].T + to_index[:3, 3] + pad
    depth = np.zeros(shape, np.uint8)
    for x, plane in enumerate(depth):
        places = np.rint(rows + x * to_index[:3, 0]).astype(np.int64)
        inside = np.all((places >= 0) & (places < levels.shape), axis=-1)
        plane[inside] = levels[tuple(places[inside].T)]
    return depth


@lru_cache(maxsize=1)
def _levels() -> npt.NDArray[np.uint8]:
    """Levels of :func:`template_depth` on the template's grid with `_PAD` voxels around it."""
    from lesioncore.preprocess.extraction import dilate

    brain = torch.from_numpy(np.pad(brain_template().brain, _PAD))
    levels = dilate(brain, round(_BEYOND / VOXEL_SIZE)).numpy().astype(np.uint8)
    levels += ~dilate(~brain, round(_WITHIN / VOXEL_SIZE)).numpy()
    return levels


def write_template(folder: Path) -> None:
    """Make the packaged files from the 1 mm maps that nilearn ships.

    Parameters
    ----------
    folder : Path
        Where they are written, as ``*.nii.gz`` of uint8.

    Raises
    ------
    ImportError
        If nilearn, the extra `phantom`, is missing.
    """
    try:
        import nilearn
    except ImportError as error:
        raise ImportError("the template is made with nilearn; install it: pip install 'lesioncore[phantom]'") from error
    source = Path(nilearn.__file__).parent / "datasets" / "data"
    maps, affine = {}, np.eye(4)
    for name, part in (("T1w", "t1"), ("grey_probseg", "gm"), ("white_probseg", "wm")):
        image = nib.nifti1.load(source / f"mni_icbm152_{part}_tal_nlin_sym_09a_converted.nii.gz")
        maps[name] = np.asarray(image.dataobj, dtype=np.float32)
        affine = np.asarray(image.affine, dtype=np.float64)
    brain = maps["T1w"] > 0
    share = _halve(brain.astype(np.float32))
    inside = share > 0.5
    low = np.argwhere(inside).min(axis=0) - _MARGIN
    shape = np.ptp(np.argwhere(inside), axis=0) + 1 + 2 * _MARGIN
    affine = affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] += affine[:3, :3] @ low
    for name, step in _STEPS.items():
        coarse = inside * 1.0 if name == "brain_mask" else _halve(maps[name] * brain) / np.maximum(share, 0.5) * inside
        levels = np.clip(np.rint(coarse / step) * step, 0, 255).astype(np.uint8)
        padded = np.pad(levels, 2 * _MARGIN)
        box = tuple(slice(int(a) + 2 * _MARGIN, int(a + n) + 2 * _MARGIN) for a, n in zip(low, shape, strict=True))
        stored = nib.nifti1.Nifti1Image(padded[box], affine)
        # No time of writing in the header, so that the same maps give the same bytes.
        (folder / f"{name}.nii.gz").write_bytes(gzip.compress(stored.to_bytes(), 9, mtime=0))


def _halve(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Means around every second voxel, those at even places: half the weight on it, a quarter on its neighbours."""
    for axis in range(3):
        ends = [(int(axis == other), int(axis == other)) for other in range(3)]
        moved = np.moveaxis(np.pad(values, ends), axis, 0)
        halved = 0.25 * moved[:-2:2] + 0.5 * moved[1:-1:2] + 0.25 * moved[2::2]
        values = np.moveaxis(halved, 0, axis)
    return values
