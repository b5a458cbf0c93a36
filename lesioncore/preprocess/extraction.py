"""Brain extraction by a small 3-D network at 2 mm: T1w, T2w, FLAIR, heads and scans that arrive stripped.

The network is our own and its weights are in the package (`weights/README.md` says what they learned from). It gives
two nested masks: the conventional one, brain with the CSF around it, and its core, which ends where the tissue does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lesioncore.data.arrays import NumpyArray
from lesioncore.data.orientation import Orientation
from lesioncore.data.resample import AxisResampler
from lesioncore.preprocess.brain_network import WEIGHTS, BrainNetwork, load_network, normalize
from lesioncore.preprocess.mask import flood, no_contrast

VOXEL_SIZE = 2.0
"""Size (mm) of the network's voxels."""
_SIGNAL = 0.15  # share of the intensity that `normalize` brings to 1
_LARGEST, _MARGIN = 96, 6  # voxels: of a box that holds any brain; around the brain that the network is to see
_RIM = 12.0  # mm, the widest rim of CSF
_SHELL = (8.0, 20.0)  # mm from the brain, where a head has skull, fat and muscle
_HEAD_SHARE = 0.15
_CSF_RIM = 6.0  # mm
_SIDES = 64.0, 2000.0  # mm, of the longest side of a box around a head
_USUAL, _ADULT = 1450.0, (1000.0, 2000.0)  # ml, of conventional masks


@dataclass(frozen=True, eq=False)
class Brain:
    """Brain masks of a scan, on the scan's own grid and in its storage order.

    Attributes
    ----------
    mask : numpy.ndarray
        bool ``[X, Y, Z]``: the conventional brain mask, closed and without holes, with the CSF around the brain.
    core : numpy.ndarray
        bool, within `mask`: without the rim of CSF; ventricles and sulci are in it.
    volume, core_volume : float
        Of the two, ml.
    confidence : float
        The Dice overlap that the network expects of `mask` by its own probabilities: near 1 where every voxel is
        certain, below about .9 where it does not know.
    """

    mask: npt.NDArray[np.bool_]
    core: npt.NDArray[np.bool_]
    volume: float
    core_volume: float
    confidence: float


def extract_brain(
    volume: NumpyArray, affine: NumpyArray, *, device: str | torch.device = "cpu", weights: Path = WEIGHTS
) -> Brain:
    """Find the brain in a scan of any contrast, with or without its skull.

    The network knows adults. A brain of less than 1 l or more than 2 l, such as a child's or that of a scan whose
    header has wrong voxel sizes, is looked for once more as if it had the usual size; the more certain mask is taken.

    Parameters
    ----------
    volume : numpy.ndarray
        ``[X, Y, Z]`` as stored, finite, any unit.
    affine : numpy.ndarray
        ``[4, 4]``, voxel indices to mm.
    device : str or torch.device
        Where the network runs.
    weights : Path
        The network's weights, safetensors.

    Raises
    ------
    ValueError
        If `volume` is not a finite 3-D volume with contrast, its longest side is none of a head, or no brain is found
        in it.
    """
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise ValueError(f"volume: got shape {volume.shape}, expected a finite [X, Y, Z]; set NaN voxels to background")
    orientation = Orientation.from_affine(affine, volume.shape)
    ras = torch.from_numpy(orientation.to_ras(volume).astype(np.float32, copy=False))
    if float(ras.min()) == float(ras.max()):
        raise no_contrast(float(ras.min()))
    sides = [length * size for length, size in zip(orientation.ras_shape, orientation.voxel_size, strict=True)]
    if not _SIDES[0] <= max(sides) <= _SIDES[1]:
        raise ValueError(
            f"volume: got a box of {' x '.join(f'{side:.3g}' for side in sides)} mm, expected one around a head; check"
            " that the affine is in mm"
        )
    network, target = load_network(weights, str(device)), torch.device(device)
    masks, confidence = _look(network, ras, orientation.voxel_size, target)
    millilitres = math.prod(orientation.voxel_size) / 1000
    brain_ml = float(masks[0].sum()) * millilitres
    if brain_ml and not _ADULT[0] <= brain_ml <= _ADULT[1]:
        zoom = min(2.0, max(0.5, (_USUAL / brain_ml) ** (1 / 3)))
        x, y, z = (zoom * size for size in orientation.voxel_size)
        rescaled_masks, certainty = _look(network, ras, (x, y, z), target)
        if certainty > confidence:
            masks, confidence = rescaled_masks, certainty
    if not masks[0].any():
        raise ValueError("volume: got no brain, expected one; check orientation and contrast, or give a mask")
    mask, core = (orientation.from_ras(part.numpy()) for part in (masks[0], masks[1] & masks[0]))
    return Brain(mask, core, float(mask.sum() * millilitres), float(core.sum() * millilitres), confidence)


def _look(
    network: BrainNetwork, ras: Tensor, sizes: tuple[float, float, float], device: torch.device
) -> tuple[Tensor, float]:
    """Mask and core, bool ``[2, X, Y, Z]``, of a scan in RAS+ order with voxels of some sizes (mm), and confidence."""
    grid = _Grid.over((ras.shape[0], ras.shape[1], ras.shape[2]), sizes)
    scan = normalize(grid.to_grid(normalize(ras)))
    share = _find(network, scan, device).sigmoid()
    body = _solid(share[1])
    # The outer mask may leak into neck or tongue where the core, which has tissue for its edge, does not.
    share[0] = torch.where(dilate(body > 0.5, round(_RIM / VOXEL_SIZE)), share[0], 0.0)
    brain = share[0] > 0.5
    inside = torch.where(brain, share[0], 0).sum()
    confidence = float(2 * inside / (brain.sum() + share[0].sum()).clamp_min(1e-6))
    return grid.from_grid(torch.stack([_solid(share[0]), body])).gt(0.5), confidence


def core_within(mask: npt.NDArray[np.bool_], affine: NumpyArray, brain: Brain) -> npt.NDArray[np.bool_]:
    """The core of a scan that came stripped or with a mask, with the lesions that the network took for background.

    The rim of CSF is thin. What lies deeper than 6 mm within the mask is brain, whatever the network says of it.

    Parameters
    ----------
    mask : numpy.ndarray
        bool ``[X, Y, Z]``: what the stripping left, or the mask that was given.
    affine : numpy.ndarray
        As for :func:`extract_brain`.
    brain : Brain
        What it found.

    Returns
    -------
    numpy.ndarray
        bool, within `mask`.
    """
    orientation = Orientation.from_affine(affine, mask.shape)
    grid = _Grid.over(orientation.ras_shape, orientation.voxel_size)
    inside = grid.to_grid(torch.from_numpy(orientation.to_ras(mask)).float()) > 0.5
    depth = round(_CSF_RIM / VOXEL_SIZE)
    around = F.pad(~inside, (depth,) * 6, value=True)  # beyond the scan is no brain
    deep = ~dilate(around, depth)[(slice(depth, -depth),) * 3]
    kept = orientation.from_ras((grid.from_grid(deep.float()) > 0.5).numpy())
    return (brain.core | kept) & mask


def head_or_brain(volume: NumpyArray, affine: NumpyArray, brain: Brain) -> tuple[Literal["head", "brain"], float]:
    """Decide whether a scan still has its skull.

    Parameters
    ----------
    volume, affine : numpy.ndarray
        As for :func:`extract_brain`.
    brain : Brain
        What it found.

    Returns
    -------
    kind : {"head", "brain"}
        "head" where the share is above 0.15.
    share : float
        Share of the voxels between 8 and 20 mm from the brain that carry signal: a tenth or more of the brain's median
        above the background. 0 where the scan ends at the brain.
    """
    orientation = Orientation.from_affine(affine, volume.shape)
    grid = _Grid.over(orientation.ras_shape, orientation.voxel_size)
    ras = torch.from_numpy(orientation.to_ras(volume).astype(np.float32, copy=False))
    mask = grid.to_grid(torch.from_numpy(orientation.to_ras(brain.mask)).float()) > 0.5
    scan = grid.to_grid(
        ras - float(ras.quantile(0.01) if ras.numel() < 2**24 else ras.reshape(-1)[::16].quantile(0.01))
    )
    near, far = (dilate(mask, round(reach / VOXEL_SIZE)) for reach in _SHELL)
    shell = far & ~near
    if not shell.any():
        return "brain", 0.0
    share = float((scan[shell] > 0.1 * scan[mask].median()).float().mean())
    return ("head" if share > _HEAD_SHARE else "brain"), share


@dataclass(frozen=True, eq=False)
class _Grid:
    """Resampling of a scan to 2 mm and back, axis by axis."""

    there: tuple[AxisResampler, ...]
    back: tuple[AxisResampler, ...]

    @classmethod
    def over(cls, shape: tuple[int, int, int], sizes: tuple[float, float, float]) -> _Grid:
        there, back = [], []
        for length, size in zip(shape, sizes, strict=True):
            step = VOXEL_SIZE / size
            count = max(1, math.ceil(length / step - 0.01))
            start = (length - 1) / 2 - step * (count - 1) / 2
            there.append(AxisResampler.overlap(count, start, step, length))
            back.append(AxisResampler.overlap(length, -start / step, 1 / step, count))
        return cls(tuple(there), tuple(back))

    def to_grid(self, volume: Tensor) -> Tensor:
        for axis in (-3, -2, -1):
            volume = self.there[axis](volume, volume.dim() + axis)
        return volume

    def from_grid(self, volume: Tensor) -> Tensor:
        for axis in (-1, -2, -3):
            volume = self.back[axis](volume, volume.dim() + axis)
        return volume


@torch.inference_mode()
def _find(network: BrainNetwork, scan: Tensor, device: torch.device) -> Tensor:
    """Logits ``[2, X, Y, Z]``, found in ever closer views.

    The network's statistics depend on how much it sees of what is around the brain: first of all that carries signal,
    then of a box that holds any brain, around the middle of what was taken for it, then of the brain and its border.
    """
    logits = _run(network, scan, _box(F.avg_pool3d(scan[None], 3, 1, 1)[0] > _SIGNAL, 2), device)
    for closer in (_around, lambda core: _box(core, _MARGIN)):
        core = _solid(logits[1].sigmoid()) > 0.5
        if core.any():
            logits = _run(network, scan, closer(core), device)
    return logits


def _run(network: BrainNetwork, scan: Tensor, box: tuple[slice, ...], device: torch.device) -> Tensor:
    part = normalize(scan[box])
    margins = [side for length in reversed(part.shape) for side in (0, -length % network.multiple)]
    output = network(F.pad(part, margins)[None, None].to(device))[0].float().cpu()
    logits = scan.new_full((2, *scan.shape), -20.0)
    logits[(slice(None), *box)] = output[:, : part.shape[0], : part.shape[1], : part.shape[2]]
    return logits


def _box(mask: Tensor, margin: int) -> tuple[slice, ...]:
    """The bounding box of a mask and a margin; everything where the mask is empty."""
    bounds = []
    for axis, length in enumerate(mask.shape):
        rows = mask.movedim(axis, 0).flatten(1).any(1).nonzero()
        low, high = (int(rows[0]), int(rows[-1])) if len(rows) else (0, length - 1)
        bounds.append(slice(max(0, low - margin), min(length, high + 1 + margin)))
    return tuple(bounds)


def _around(mask: Tensor) -> tuple[slice, ...]:
    """A box that holds any brain, around the middle of a mask."""
    middle, half = mask.nonzero().float().median(0).values.int().tolist(), _LARGEST // 2
    return tuple(slice(max(0, m - half), min(n, m + half)) for m, n in zip(middle, mask.shape, strict=True))


def _solid(share: Tensor) -> Tensor:
    """Probabilities of one body without holes: those of the component in which they are densest."""
    inside = share > 0.5
    if not inside.any():
        return share
    dense = torch.where(inside, share, 0)[None]
    for window in ((9, 1, 1), (1, 9, 1), (1, 1, 9)):  # one axis after the other, for 27 additions instead of 729
        dense = F.avg_pool3d(dense, window, 1, tuple(n // 2 for n in window))
    seed = torch.zeros_like(inside)
    seed.view(-1)[torch.where(inside, dense[0], 0).argmax()] = True
    body = torch.from_numpy(flood(seed.numpy(), inside.numpy()))
    around = F.pad(~body, (1, 1, 1, 1, 1, 1), value=True)
    corner = torch.zeros_like(around)
    corner[0, 0, 0] = True
    filled = ~torch.from_numpy(flood(corner.numpy(), around.numpy()))[1:-1, 1:-1, 1:-1]
    return torch.where(filled & ~inside, 1.0, torch.where(inside & ~filled, 0.0, share))


def dilate(mask: Tensor, times: int) -> Tensor:
    """Grow a mask by `times` voxels, by crosses and cubes in turn, which comes near to a ball."""
    for turn in range(times):
        if turn % 2:
            for axis in range(3):
                mask = _widened(mask, axis)
        else:
            mask = _widened(mask, 0) | _widened(mask, 1) | _widened(mask, 2)
    return mask


def _widened(mask: Tensor, axis: int) -> Tensor:
    """A mask with both neighbours of its voxels along an axis; pooling does the same in a hundred times the time."""
    wide, steps = mask.clone(), mask.shape[axis] - 1
    wide.narrow(axis, 0, steps).logical_or_(mask.narrow(axis, 1, steps))
    wide.narrow(axis, 1, steps).logical_or_(mask.narrow(axis, 0, steps))
    return wide
