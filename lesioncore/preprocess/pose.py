"""A brain at 2 mm, and a search for the poses in which it resembles the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.data.orientation import Orientation
from lesioncore.preprocess.template import VOXEL_SIZE, brain_template

Matrix = npt.NDArray[Any]
Volume = npt.NDArray[np.float32]

_DARKEST = 0.25  # how far the darkest tissue is above the background, 1 is the brightest
_MARGIN = 8  # voxels of background around what is registered
_POSES = 600  # rotations of the search, about 20 degrees apart
_APART = 45.0  # degrees between poses that are refined separately
_WRONG_AXES = 1.25  # times the likeness of the header's axes, which others reach where these are wrong
_BINS = 16
_LOCAL = 20.0  # mm, sigma of the local mean that intensities are divided by
_CUT_AREA = 1000.0  # mm^2 of brain on an outer face of the scan, above which the scan ends within the brain


@dataclass(frozen=True, eq=False)
class CoarseBrain:
    """A brain at about 2 mm: values of 0 to 1 inside, the mask's share of each voxel, and their place.

    `cut` ``[3, 2]`` says at which ends of the axes the scan ends within the brain.
    """

    values: Volume
    share: Volume
    affine: Matrix
    cut: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, volume: npt.NDArray[np.generic], affine: Matrix, brain: npt.NDArray[np.bool_]) -> CoarseBrain:
        affine = np.asarray(affine, dtype=np.float64)
        if volume.shape != brain.shape or brain.dtype != np.bool_:
            raise ValueError(f"brain: got {brain.dtype} of shape {brain.shape}, expected bool of shape {volume.shape}")
        orientation = Orientation.from_affine(affine, volume.shape)
        size = np.array(orientation.voxel_size)
        inside = orientation.to_ras(brain)
        millilitres = np.count_nonzero(inside) * abs(np.linalg.det(affine[:3, :3])) / 1000
        if millilitres < 100:
            raise ValueError(f"brain: got a mask of {millilitres:.0f} ml, expected a brain; check the extraction")
        places = [np.flatnonzero(inside.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        low, high = (np.array([place[end] for place in places]) for end in (0, -1))
        box = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
        inside = inside[box]
        values: Volume = np.where(inside, orientation.to_ras(volume)[box], 0).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("volume: got NaN or infinite values in the brain, expected none; clean the scan first")
        share = inside.astype(np.float32)
        cut = []
        for axis in range(3):
            area = size.prod() / size[axis]
            faces = (inside.take(0, axis).sum() * area, inside.take(-1, axis).sum() * area)
            reaches = (low[axis] == 0, high[axis] == orientation.ras_shape[axis] - 1)
            cut.append([bool(reach and face > _CUT_AREA) for reach, face in zip(reaches, faces, strict=True)])
        factor = np.maximum(1, np.floor(VOXEL_SIZE / size + 0.1)).astype(int)
        share = _block_means(share, factor)
        values = np.asarray(_block_means(values, factor) / np.maximum(share, 1e-3), dtype=np.float32)
        if np.ptp(values[share > 0.5]) == 0:
            raise ValueError("volume: got the same value all over the brain, expected a scan, not a mask")
        evened = _evened(values, share, size * factor)
        # Where the scan ends within the brain nothing is known beyond; elsewhere there is background.
        ends = [(0 if first else _MARGIN, 0 if last else _MARGIN) for first, last in cut]
        coarse = np.eye(4)
        coarse[:3, :3] = np.diag(factor)
        coarse[:3, 3] = low + (factor - 1) / 2 - factor * [first for first, _ in ends]
        return cls(np.pad(evened, ends), np.pad(share, ends), orientation.ras_affine @ coarse, np.array(cut))

    def shaded(self) -> Volume:
        """Values on a background of 0, from which the darkest tissue differs too."""
        return (_DARKEST + (1 - _DARKEST) * self.values) * self.share


def _evened(values: Volume, share: Volume, sizes: Matrix) -> Volume:
    """Values divided by their local mean, to 0 to 1: neither a coil's bias nor a large lesion is left in them."""
    values = values - min(0.0, float(np.percentile(values[share > 0.5], 1)))
    channels = torch.from_numpy(np.stack([values * share, share]).astype(np.float32))
    total, weight = blur(channels, [_LOCAL / size for size in sizes]).numpy()
    mean = total / np.maximum(weight, 1e-6)
    values = values / np.maximum(mean, 0.05 * mean[share > 0.5].mean())
    dark, bright = np.percentile(values[share > 0.5], (2, 98))
    return np.asarray(np.clip((values - dark) / max(bright - dark, 1e-6), 0, 1), dtype=np.float32)


def _block_means(values: Volume, factor: npt.NDArray[np.int_]) -> Volume:
    padded = np.pad(values, [(0, -length % size) for length, size in zip(values.shape, factor, strict=True)])
    shape = [part for length, size in zip(padded.shape, factor, strict=True) for part in (length // size, size)]
    return np.asarray(padded.reshape(shape).mean(axis=(1, 3, 5)), dtype=np.float32)


@lru_cache(maxsize=1)
def coarse_template() -> CoarseBrain:
    """The template as a brain with background around it."""
    template = brain_template()
    share = template.brain.astype(np.float32)
    values = _evened(template.t1, share, np.full(3, VOXEL_SIZE))
    affine = template.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, _MARGIN)
    return CoarseBrain(np.pad(values, _MARGIN), np.pad(share, _MARGIN), affine, np.zeros((3, 2), dtype=np.bool_))


def likely_poses(moving: CoarseBrain, fixed: CoarseBrain, count: int) -> list[Matrix]:
    """Maps from the template's to the scan's millimetres worth refining: the header's pose, then the most alike.

    The rotations of a spiral over all of them are compared (:func:`_scored`). Of poses less than 45 degrees apart the
    best stands for all, since a refinement brings them together.
    """
    scored = _scored(moving, fixed, [np.eye(3), *_rotations(_POSES)])
    poses = [scored[0][1]]
    for _, matrix in sorted(scored[1:], key=lambda pose: -pose[0]):
        # The best pose of all is refined even near the header's.
        if len(poses) == 1 or all(turn_between(matrix, other) > _APART for other in poses):
            poses.append(matrix)
        if len(poses) == count:
            break
    return poses


def upright(moving: CoarseBrain, fixed: CoarseBrain) -> bool:
    """Whether the axes are those that the header says, as far as the brain shows: none reversed, none exchanged.

    Of the 24 rotations that bring axes onto axes the identity has more than twice the mutual information of any other
    in brains of every contrast. A brain and its mirror image look the same, so left and right remain the header's.
    """
    told, *others = (alike for alike, _ in _scored(moving, fixed, _axis_rotations()))
    return max(others) < _WRONG_AXES * told


def _scored(
    moving: CoarseBrain, fixed: CoarseBrain, rotations: Sequence[npt.NDArray[np.float64]]
) -> list[tuple[float, Matrix]]:
    """Mutual information at 8 mm under each rotation, centres of mass and volumes brought together; and the maps."""
    expected, target, centre = _sparse(fixed)
    inside = np.argwhere(moving.share > 0.5)
    own_centre = apply(moving.affine, inside.mean(axis=0))
    volume = len(inside) * abs(np.linalg.det(moving.affine[:3, :3]))
    scale = np.clip(np.cbrt(volume / (fixed.share.sum() * VOXEL_SIZE**3)), 0.8, 1.25)
    sizes = np.linalg.norm(moving.affine[:3, :3], axis=0)
    sigmas = [4.0 / size for size in sizes]
    own = blur(torch.from_numpy(moving.shaded())[None], sigmas)
    to_voxels = np.linalg.inv(moving.affine)
    scored = []
    for rotation in rotations:
        matrix = np.eye(4)
        matrix[:3, :3] = scale * rotation
        matrix[:3, 3] = own_centre - scale * rotation @ centre
        seen = levels(sample(own, apply(to_voxels @ matrix, target))[0])
        scored.append((mutual_information(expected, seen)[0], matrix))
    return scored


@lru_cache(maxsize=1)
def _sparse(fixed: CoarseBrain) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Levels of a brain at 8 mm, their places (mm), and its centre."""
    places = every_voxel(fixed.values.shape, 4).reshape(-1, 3)
    shade = torch.from_numpy(np.stack([fixed.shaded(), fixed.share]))
    blurred = sample(blur(shade, [2.0] * 3), places)
    near = blurred[1] > 0.02
    places, blurred = places[near], blurred[:, near]
    target = apply(fixed.affine, places)
    return levels(blurred[0]), target, np.average(target, axis=0, weights=blurred[1])


def turn_between(first: Matrix, second: Matrix) -> float:
    """Angle in degrees between the rotations of two affine maps."""
    u, _, v = np.linalg.svd(first[:3, :3] @ np.linalg.inv(second[:3, :3]))
    return float(np.rad2deg(np.arccos(np.clip((np.trace(u @ v) - 1) / 2, -1, 1))))


def mutual_information(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mutual information (nats) of two arrays of levels, and the entropy of the first."""
    joint = np.bincount(first * _BINS + second, minlength=_BINS**2).reshape(_BINS, _BINS) / max(1, len(first))
    marginals = joint.sum(axis=1), joint.sum(axis=0)
    entropies = [-float((p[p > 0] * np.log(p[p > 0])).sum()) for p in (*marginals, joint)]
    return entropies[0] + entropies[1] - entropies[2], entropies[0]


def apply(matrix: Matrix, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points ``[..., 3]`` through an affine map."""
    moved: npt.NDArray[np.float64] = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def every_voxel(shape: tuple[int, ...], stride: int) -> npt.NDArray[np.float64]:
    """Indices of every `stride`-th voxel along each axis. ``[..., 3]``"""
    axes = np.meshgrid(*(np.arange(0.0, length, stride) for length in shape), indexing="ij")
    return np.stack(axes, axis=-1)


def _rotations(count: int) -> npt.NDArray[np.float64]:
    """Rotations that cover all evenly: the super-Fibonacci spiral of quaternions (Alexa, CVPR 2022). ``[N, 3, 3]``"""
    place = np.arange(count) + 0.5
    inner, outer = np.sqrt(place / count), np.sqrt(1 - place / count)
    first, second = 2 * np.pi * place / np.sqrt(2), 2 * np.pi * place / 1.533751168755204288118041
    x, y, z, w = inner * np.sin(first), inner * np.cos(first), outer * np.sin(second), outer * np.cos(second)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _axis_rotations() -> list[npt.NDArray[np.float64]]:
    """The 24 rotations that bring axes onto axes, the identity first."""
    signed = (
        np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
    )
    return [matrix for matrix in signed if np.linalg.det(matrix) > 0]


def levels(values: Volume) -> npt.NDArray[np.int64]:
    return np.clip(values * _BINS, 0, _BINS - 1).astype(np.int64)


def blur(channels: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Gaussian blur of ``[C, X, Y, Z]``, sigmas in voxels; ends are continued."""
    for axis, sigma in enumerate(sigmas):
        reach = max(1, round(3 * sigma))
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        lines = channels.movedim(axis + 1, -1)
        padded = torch.nn.functional.pad(lines.reshape(1, -1, lines.shape[-1]), (reach, reach), mode="replicate")
        blurred = torch.nn.functional.conv1d(padded.movedim(0, 1), (kernel / kernel.sum())[None, None])
        channels = blurred.reshape(lines.shape).movedim(-1, axis + 1)
    return channels.contiguous()


def sample(channels: torch.Tensor, places: npt.NDArray[np.float64]) -> Volume:
    """Trilinear interpolation of ``[C, X, Y, Z]`` at voxel indices ``[N, 3]``; 0 outside. ``[C, N]``"""
    lengths = np.array(channels.shape[1:])
    points = torch.from_numpy(((2 * places + 1) / lengths - 1)[:, ::-1].astype(np.float32))
    sampled = torch.nn.functional.grid_sample(channels[None], points[None, None, None], align_corners=False)
    return sampled[0, :, 0, 0].numpy()
