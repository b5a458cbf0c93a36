"""Separable resampling of one axis by overlap of voxels, exact where there is nothing to interpolate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

# A weight this small comes from rounding a position that lies on the kernel's foot.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class AxisResampler:
    """Weighted taps that resample one axis: `out[i] = sum_k weights[i, k] * values[indices[i, k]]`.

    A row sums to 1 where the kernel lies inside the input, and to the inside part of it elsewhere. Taps, not a dense
    matrix: a shift by whole voxels is one tap of weight 1 and copies the values bit for bit on any device, where a
    matrix product may round them (TF32).

    Attributes
    ----------
    indices : torch.Tensor
        `[out, K]`, int64, on the CPU.
    weights : torch.Tensor
        `[out, K]`, float64, on the CPU; 0 for taps outside the input.
    """

    indices: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def overlap(cls, count: int, start: float, step: float, length: int, *, strict: bool = False) -> AxisResampler:
        """Taps that weigh each input voxel by its overlap with an output voxel of width `max(1, step)`.

        On a coarser grid that is the mean over the output voxel, as a scanner of that resolution takes it: a scan
        brought there looks like one acquired there. On a finer grid it is linear interpolation.

        Parameters
        ----------
        count : int
            Number of output voxels.
        start, step : float
            Centre of the first output voxel and distance between them, in input voxels; input voxel `j` has its
            centre at `j`.
        length : int
            Number of input voxels.
        strict : bool
            Give no weight to output voxels whose centre lies beyond the outer faces of the input's voxels
            (`-0.5` and `length - 0.5`), even where the kernel still reaches in.
        """
        centres = start + step * np.arange(count, dtype=np.float64)
        half_width = (max(1.0, step) + 1) / 2
        taps = np.arange(2 * math.ceil(half_width) + 1)
        indices = np.floor(centres - half_width).astype(np.int64)[:, None] + taps
        weights = np.clip(half_width - np.abs(indices - centres[:, None]), 0.0, 1.0)
        weights[weights < _ROUNDING] = 0.0
        weights /= weights.sum(axis=1, keepdims=True)
        weights[(indices < 0) | (indices >= length)] = 0.0
        if strict:
            weights[(centres < -0.5 - _ROUNDING) | (centres > length - 0.5 + _ROUNDING)] = 0.0
        # Rows start at their first weight, so that exact shifts need one tap and linear interpolation two.
        order = np.argsort(weights == 0, axis=1, kind="stable")
        used = max(1, int(np.count_nonzero(weights, axis=1).max(initial=0)))
        order = order[:, :used]
        indices = np.clip(np.take_along_axis(indices, order, axis=1), 0, length - 1)
        weights = np.take_along_axis(weights, order, axis=1)
        return cls(torch.from_numpy(indices), torch.from_numpy(weights))

    def reached_from(self, first: int, end: int) -> tuple[slice, AxisResampler]:
        """The range of output voxels that the input's `[first, end)` reach, and the taps from these alone."""
        near = (self.indices >= first) & (self.indices < end) & (self.weights != 0)
        rows = near.any(1).nonzero()[:, 0].tolist() or [0, -1]
        reached = slice(rows[0], rows[-1] + 1)
        indices = (self.indices[reached] - first).clamp(0, max(0, end - first - 1))
        return reached, AxisResampler(indices, self.weights[reached].where(near[reached], 0.0))

    def __call__(self, values: torch.Tensor, axis: int) -> torch.Tensor:
        """Resample one axis of a floating-point tensor with finite values."""
        shape = [1] * values.ndim
        shape[axis] = -1
        indices = self.indices.to(values.device)
        weights = self.weights.to(device=values.device, dtype=values.dtype)
        result = values.index_select(axis, indices[:, 0]).mul_(weights[:, 0].view(shape))
        for tap in range(1, indices.shape[1]):
            result.addcmul_(values.index_select(axis, indices[:, tap]), weights[:, tap].view(shape))
        return result
