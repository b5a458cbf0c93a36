"""Affine registration of a brain to the ICBM152 template: from any pose, in any contrast, refused where it fails."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.preprocess.mutual_information import PyramidLevel, refine, simpleitk, single_threaded
from lesioncore.preprocess.pose import (
    CoarseBrain,
    Matrix,
    Volume,
    apply,
    blur,
    coarse_template,
    every_voxel,
    likely_poses,
    sample,
    turn_between,
)
from lesioncore.preprocess.template import VOXEL_SIZE

# Between right and wrong as bench/quality/template_registration.py measures them: right ones have overlaps of .94 and
# more and likenesses of .15 (T2w) to .66 (T1w); flips, halves, noise and whole heads have an overlap below .91 or a
# likeness below .12. Right scales are .98 to 1.34; masks that miss a third of the brain reach 1.5.
LOWEST_OVERLAP = 0.91
LOWEST_LIKENESS = 0.12
SCALES = (0.7, 1.75)

_STARTS = 5


class RegistrationError(ValueError):
    """A brain that could not be brought to the template; the message has the figures that say so."""


@dataclass(frozen=True)
class RegistrationQuality:
    """Quality of a registration to the template.

    Attributes
    ----------
    overlap : float
        Dice coefficient of the brain's mask and the template's, within the scan's field of view.
    likeness : float
        Mean squared correlation of the scan and the template within windows of 8 mm (the Gaussian's sigma) inside
        both masks, at 4 mm: whatever the contrast and the bias field, 1 is the template itself.
    scales : tuple of float
        Lengths (template divided by scan) along the three principal directions, ascending.
    rotation : float
        Angle in degrees by which the scan's world axes are turned; any angle is accepted.
    """

    overlap: float
    likeness: float
    scales: tuple[float, float, float]
    rotation: float

    @property
    def problems(self) -> list[str]:
        """Figures outside the limits, as text; empty for a registration that is accepted."""
        problems = []
        if not self.overlap >= LOWEST_OVERLAP:
            problems.append(f"overlap {self.overlap:.3f}, at least {LOWEST_OVERLAP:g} expected")
        if not self.likeness >= LOWEST_LIKENESS:
            problems.append(f"likeness {self.likeness:.3f}, at least {LOWEST_LIKENESS:g} expected")
        if not SCALES[0] <= min(self.scales) <= max(self.scales) <= SCALES[1]:
            figures = ", ".join(f"{scale:.2f}" for scale in self.scales)
            problems.append(f"scales {figures}, {SCALES[0]:g} to {SCALES[1]:g} expected")
        return problems

    def __str__(self) -> str:
        scales = ", ".join(f"{scale:.2f}" for scale in self.scales)
        return (
            f"overlap {self.overlap:.3f}, likeness {self.likeness:.3f}, scales {scales}, rotation"
            f" {self.rotation:.0f} degrees"
        )


@dataclass(frozen=True, eq=False)
class Registration:
    """Affine map of a scan to the template's space, and its quality.

    Attributes
    ----------
    matrix : ndarray
        ``[4, 4]``, from the scan's world millimetres to the template's (both RAS+); its determinant is positive.
    quality : RegistrationQuality
        How well it fits.
    """

    matrix: Matrix
    quality: RegistrationQuality

    @property
    def accepted(self) -> bool:
        """Whether all figures lie within the limits."""
        return not self.quality.problems


def register(
    volume: npt.NDArray[np.generic],
    affine: Matrix,
    brain: npt.NDArray[np.bool_],
    *,
    check: bool = True,
) -> Registration:
    """Find the affine map that brings a brain to the ICBM152 2009a template.

    Rotations of all directions are tried at 8 mm, the best that differ are refined (rotation, shift and one scale),
    and the best of these becomes an affine map at 4 mm and 2 mm. The measure is mutual information of the brains on
    a background of 0, so that neither the contrast nor the header's orientation matters. The header's handedness
    does: a brain and its mirror image look the same, so left and right are those that the affine says.

    Parameters
    ----------
    volume : ndarray
        ``[X, Y, Z]``, real, in any storage order and any MR contrast.
    affine : ndarray
        ``[4, 4]``, voxel indices to world millimetres (RAS+).
    brain : ndarray
        ``[X, Y, Z]`` bool: the brain.
    check : bool
        Refuse what does not fit; without, the figures are there to be looked at.

    Returns
    -------
    Registration
        The map and its quality.

    Raises
    ------
    RegistrationError
        If a figure lies outside the limits.
    ValueError
        If the arguments do not fit each other, or the mask holds less than 100 ml.
    ImportError
        If SimpleITK, the extra `preprocess`, is missing.
    """
    sitk = simpleitk()
    moving = CoarseBrain.of(volume, affine, brain)
    fixed = coarse_template()
    poses = likely_poses(moving, fixed, _STARTS)
    with single_threaded(sitk):
        coarse = PyramidLevel.of(sitk, fixed, moving, 8.0)
        refined = [refine(sitk, coarse, pose, rigid=True) for pose in poses]
        matrix = min(refined, key=lambda result: result[0])[1]
        for size in (4.0, 2.0):
            _, matrix = refine(sitk, PyramidLevel.of(sitk, fixed, moving, size), matrix)
    quality = measure(fixed, moving, matrix)
    if check and quality.problems:
        raise RegistrationError(
            f"brain: does not fit the template ({'; '.join(quality.problems)}; {quality}); check the mask, that the"
            " scan holds a whole head, and its voxel sizes"
        )
    return Registration(np.linalg.inv(matrix), quality)


def measure(fixed: CoarseBrain, moving: CoarseBrain, matrix: Matrix) -> RegistrationQuality:
    """Compare a brain with the template at every second of its voxels."""
    grid = every_voxel(fixed.values.shape, 2)
    shape, places = grid.shape[:3], grid.reshape(-1, 3)
    own_places = apply(np.linalg.inv(moving.affine) @ matrix @ fixed.affine, places)
    sizes = np.linalg.norm(moving.affine[:3, :3], axis=0)
    expected = _expected()
    own = torch.from_numpy(np.stack([moving.shaded(), moving.share]))
    seen = sample(blur(own, [VOXEL_SIZE / size for size in sizes]), own_places)
    last = np.array(moving.values.shape) - 0.5
    known = ~((moving.cut[:, 0] & (own_places < -0.5)) | (moving.cut[:, 1] & (own_places > last))).any(axis=1)
    either = np.minimum(expected[1], seen[1])[known].sum()
    both = ((expected[1] > 0.5) & (seen[1] > 0.5)).reshape(shape)
    inverse = np.linalg.inv(matrix)
    scales = np.linalg.svd(inverse[:3, :3], compute_uv=False)
    return RegistrationQuality(
        overlap=float(2 * either / max(1e-6, (expected[1][known].sum() + seen[1][known].sum()))),
        likeness=_likeness(expected[0].reshape(shape), seen[0].reshape(shape), both),
        scales=(float(scales[2]), float(scales[1]), float(scales[0])),
        rotation=turn_between(inverse, np.eye(4)),
    )


@lru_cache(maxsize=1)
def _expected() -> Volume:
    """Shade and share of the template's brain at every second of its voxels, in a row. ``[2, N]``"""
    fixed = coarse_template()
    places = every_voxel(fixed.values.shape, 2).reshape(-1, 3)
    return sample(blur(torch.from_numpy(np.stack([fixed.shaded(), fixed.share])), [1.0] * 3), places)


def _likeness(first: Volume, second: Volume, mask: npt.NDArray[np.bool_]) -> float:
    """Mean squared correlation within Gaussian windows of 8 mm on a grid of 4 mm."""
    weight, x, y = (torch.from_numpy(part.astype(np.float32)) for part in (mask, first, second))
    x, y = x - x[weight > 0].mean(), y - y[weight > 0].mean()
    moments = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y]) * weight
    total, x, y, xx, yy, xy = blur(moments, [2.0] * 3)[:, weight > 0]
    variance = (xx / total - (x / total) ** 2) * (yy / total - (y / total) ** 2)
    squared = (xy / total - x * y / total**2) ** 2 / variance.clamp(min=1e-9)
    return float(squared.clamp(max=1).mean()) if len(squared) else 0.0
