"""Random anomalies implanted into healthy slices, to judge a detector without any patient."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

RADIUS = (0.03, 0.12)
"""Range of an anomaly's mean radius, as a share of the slice's longer side; drawn log-uniformly."""

SHIFT = (0.5, 3.0)
"""Range of the absolute intensity shift in z-scores, drawn uniformly; its sign is a coin's."""


def implant_anomalies(
    slices: Tensor, mask: Tensor, *, seed: int = 0, voxel_size: tuple[float, float, float] | None = None
) -> tuple[Tensor, Tensor]:
    """Add random anomalies: blobs of random size, shape, texture and sign of intensity shift.

    The draws are broad and know no disease, so that what is tuned on them is tuned on healthy images alone. Mildly
    textured smooth-edged ellipses, their outline perturbed by smooth noise, centred on a random brain pixel. A volume
    has few of them, as patients have: one for each diameter of the largest along its brain's height. Many would touch
    each other, and where signs alternate, smoothing would look worse than it is.

    Parameters
    ----------
    slices, mask : Tensor
        ``[N, 1, H, W]`` z-scores and brain (bool).
    seed : int
        Every draw follows from it and the anomaly's index.
    voxel_size : tuple of float, optional
        Pixel size along H and W and the distance of the slices, mm: they are neighbours in one volume, and anomalies
        are three-dimensional. Without it each slice has an anomaly of its own.

    Returns
    -------
    changed, truth : Tensor
        Slices with their anomalies, and where these are (bool; membership above 1/2, inside the brain).

    Raises
    ------
    ValueError
        If no slice has brain.
    """
    if not mask.any():
        raise ValueError("mask: no pixel is brain, so there is nowhere to implant an anomaly")
    changed, truth = slices.clone(), torch.zeros_like(mask)
    if voxel_size is None:
        depth_ratio = 1.0
        units = [(changed[i], mask[i], truth[i]) for i in range(len(slices))]
    else:
        depth_ratio = voxel_size[0] / voxel_size[2]
        units = [(changed[:, 0], mask[:, 0], truth[:, 0])] * anomalies_in(mask, depth_ratio)
    for index, (image, brain, label) in enumerate(units):
        rng = np.random.default_rng([seed, index])
        places = brain.nonzero()
        if len(places) == 0:
            continue
        blob, shift = _blob(places[rng.integers(len(places))], tuple(image.shape), depth_ratio, rng)
        blob = blob * brain
        image += blob * shift
        label |= blob > 0.5
    return changed, truth


def anomalies_in(mask: Tensor, depth_ratio: float) -> int:
    """Anomalies of a volume with brain `mask`; `depth_ratio` is the pixels' size over the distance of the slices."""
    largest = 2.0 * RADIUS[1] * max(mask.shape[2:]) * depth_ratio
    return max(1, round(int(mask.flatten(1).any(1).sum()) / largest))


def _blob(
    centre: Tensor, shape: tuple[int, ...], depth_ratio: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Membership in [0, 1] and textured intensity shift of one anomaly, each of `shape` [S, H, W]."""
    radius = np.exp(rng.uniform(*np.log(RADIUS))) * max(shape[1:])
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
    shift = rng.choice([-1.0, 1.0]) * rng.uniform(*SHIFT)
    return membership, shift * (1.0 + 0.25 * _smooth_noise(shape, 0.5 * radius, rng))


def _smooth_noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> Tensor:
    """Noise of unit variance at its knots, interpolated linearly over about `scale` pixels."""
    knots = tuple(max(2, round(size / max(scale, 1.0)) + 1) if size > 1 else 1 for size in shape)
    noise = torch.from_numpy(rng.standard_normal(knots).astype(np.float32))
    return F.interpolate(noise[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]
