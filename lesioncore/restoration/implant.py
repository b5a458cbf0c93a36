"""Random anomalies implanted into healthy slices, to evaluate a detector without scans of patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.quasirandom import SobolEngine

RADIUS = (0.03, 0.12)
"""Range of an anomaly's mean radius, as a share of the slice's longer side, from which it is drawn log-uniformly."""

SHIFT = (0.5, 3.0)
"""Range of the size of the intensity shift, z-scores, from which it is drawn uniformly; both signs are as likely."""


def implant_anomalies(
    slices: Tensor,
    mask: Tensor,
    *,
    seed: int = 0,
    first: int = 0,
    voxel_size: tuple[float, float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Add random anomalies: blobs of random size, shape, texture and sign of intensity shift.

    The distributions are broad and specific to no disease, so that options tuned on the anomalies are tuned on healthy
    images alone. An anomaly is an ellipsoid with a smooth edge, a mild texture and an outline perturbed by smooth
    noise, centred on a random brain pixel. The number of anomalies in a volume is the height of its brain over the
    diameter of the largest anomaly. More of them would touch each other, and where their signs alternate, smoothing
    would appear worse than it is. Sizes and shifts are not drawn independently but follow a scrambled Sobol sequence,
    which covers their ranges evenly even with few anomalies.

    Parameters
    ----------
    slices, mask : Tensor
        ``[N, 1, H, W]`` z-scores and brain (bool).
    seed : int
        Every draw follows from the seed and the anomaly's index.
    first : int
        Index of the first anomaly. Volumes that share a seed take consecutive indices.
    voxel_size : tuple of float, optional
        Pixel size along H and W and the distance of the slices, mm, for slices that are neighbours in one volume, whose
        anomalies are three-dimensional. When absent, each slice has an anomaly of its own.

    Returns
    -------
    changed, truth : Tensor
        Slices with anomalies, and the mask of these (bool; membership above 1/2, inside the brain), ``[N, 1, H, W]``.

    Raises
    ------
    ValueError
        If no slice has brain.
    """
    if not mask.any():
        raise ValueError("mask: no pixel is brain, so there is nowhere to implant an anomaly")
    changed, truth = slices.clone(), torch.zeros_like(mask)
    if voxel_size is None:
        units = [(changed[i], mask[i], truth[i]) for i in range(len(slices))]
    else:
        units = [(changed[:, 0], mask[:, 0], truth[:, 0])] * anomalies_in(mask, voxel_size)
    depth_ratio = _depth_ratio(voxel_size)
    draws = SobolEngine(2, scramble=True, seed=seed).fast_forward(first).draw(len(units)).tolist()
    for index, ((image, brain, label), draw) in enumerate(zip(units, draws, strict=True), start=first):
        rng = np.random.default_rng([seed, index])
        places = brain.nonzero()
        if len(places) == 0:
            continue
        blob, shift = _blob(places[rng.integers(len(places))], tuple(image.shape), depth_ratio, draw, rng)
        blob = blob * brain
        image += blob * shift
        label |= blob > 0.5
    return changed, truth


def anomalies_in(mask: Tensor, voxel_size: tuple[float, float, float] | None) -> int:
    """Number of anomalies that :func:`implant_anomalies` draws for the brain `mask`."""
    if voxel_size is None:
        return len(mask)
    largest_diameter = 2.0 * RADIUS[1] * max(mask.shape[2:]) * _depth_ratio(voxel_size)
    return max(1, round(int(mask.flatten(1).any(1).sum()) / largest_diameter))


def _depth_ratio(voxel_size: tuple[float, float, float] | None) -> float:
    """In-plane over through-plane voxel size."""
    return 1.0 if voxel_size is None else voxel_size[0] / voxel_size[2]


def _blob(
    centre: Tensor, shape: tuple[int, ...], depth_ratio: float, draw: Sequence[float], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Membership in [0, 1] and textured intensity shift (z-scores) of one anomaly, each of `shape` [S, H, W].

    `draw` holds the quantiles of its radius and of its signed shift.
    """
    radius = RADIUS[0] * (RADIUS[1] / RADIUS[0]) ** draw[0] * max(shape[1:])
    radii = radius * np.exp(rng.normal(0.0, 0.25, 3)) * np.array([1.0, 1.0, depth_ratio])
    turn = rng.uniform(0, np.pi)
    z, y, x = (
        torch.arange(size, dtype=torch.float32) - float(middle) for size, middle in zip(shape, centre, strict=True)
    )
    along = np.cos(turn) * y[:, None] + np.sin(turn) * x[None, :]
    across = -np.sin(turn) * y[:, None] + np.cos(turn) * x[None, :]
    plane = (along / radii[0]) ** 2 + (across / radii[1]) ** 2
    distance = torch.sqrt(plane[None] + ((z / radii[2]) ** 2)[:, None, None])
    distance = distance + 0.3 * _smooth_noise(shape, radius, rng)
    edge = rng.uniform(0.05, 0.3)
    membership = torch.sigmoid((1.0 - distance) / edge)
    side = 2.0 * draw[1] - 1.0
    shift = np.copysign(SHIFT[0] + (SHIFT[1] - SHIFT[0]) * abs(side), side)
    return membership, shift * (1.0 + 0.25 * _smooth_noise(shape, 0.5 * radius, rng))


def _smooth_noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> Tensor:
    """White noise of unit variance on knots about `scale` pixels apart, interpolated linearly to `shape`."""
    knots = tuple(max(2, round(size / max(scale, 1.0)) + 1) if size > 1 else 1 for size in shape)
    noise = torch.from_numpy(rng.standard_normal(knots).astype(np.float32))
    return F.interpolate(noise[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]
