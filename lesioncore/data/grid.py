"""The grid of slices that a prior was trained on, and resampling of a scan onto it and back."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch

from lesioncore.data.arrays import Array, NumpyArray, to_numpy
from lesioncore.data.resample import AxisResampler

# Spacings this close (relative) are one spacing: over 200 voxels the drift stays below a fifth of a voxel, while
# interpolating would blur every one of them.
_SAME_SPACING = 1e-3
_NEAR_SPACING = 0.03
_STRAY = 0.01
_LARGEST_LOSS = 0.05
_SMALLEST_VOXEL, _LARGEST_VOXEL, _LARGEST_SHAPE = 0.05, 50.0, 4096  # mm, mm, pixels: what bounds a scan's slices


@dataclass(frozen=True)
class SliceGrid:
    """Transversal slices of a fixed size, as a prior takes them.

    A slice tensor is `volume[:, :, k]` of a volume in RAS+ order, so its height H runs from left to right and its
    width W from posterior to anterior.

    Attributes
    ----------
    voxel_size : float
        Size of a pixel, and the smallest distance between slices, in mm.
    shape : tuple of int
        Height and width in pixels.
    """

    voxel_size: float
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if not _SMALLEST_VOXEL <= self.voxel_size <= _LARGEST_VOXEL:
            raise ValueError(
                f"voxel_size: got {self.voxel_size}, expected {_SMALLEST_VOXEL:g} to {_LARGEST_VOXEL:g} mm"
            )
        if len(self.shape) != 2 or any(int(n) != n or not 1 <= n <= _LARGEST_SHAPE for n in self.shape):
            raise ValueError(
                f"shape: got {self.shape}, expected (height, width) in pixels, each at most {_LARGEST_SHAPE}"
            )

    @property
    def field_of_view(self) -> tuple[float, float]:
        """Height (left-right) and width (posterior-anterior) in mm."""
        return (self.shape[0] * self.voxel_size, self.shape[1] * self.voxel_size)

    def resized(self, shape: tuple[int, int]) -> SliceGrid:
        """Give the grid of the same field of view with another number of pixels (the paper's VAE-128 and VAE-256).

        Raises
        ------
        ValueError
            If `shape` is no shape, or the pixels would not be square.
        """
        grid = replace(self, shape=shape)
        grid = replace(grid, voxel_size=self.field_of_view[0] / shape[0])
        if not math.isclose(grid.field_of_view[1], self.field_of_view[1], rel_tol=_SAME_SPACING):
            raise ValueError(f"shape: got {shape}, expected the proportions of {self.shape} for square pixels")
        return grid

    def plan(
        self, volume_shape: tuple[int, int, int], voxel_sizes: tuple[float, float, float], mask: Array
    ) -> GridPlan:
        """Place the grid over one scan.

        In the plane, the grid's centre is the centre of the mask's bounding box, without what empty planes part from
        it and is at most 1 % of it, such as a stray voxel beside the head. Where the scan's voxel size along an axis is
        the grid's (within 0.1 %), the centre is rounded to whole voxels, so that values are copied and not
        interpolated; where it is nearly the grid's (3 %), the pixel in the middle is a copy. Across slices, scans finer
        than the grid are brought to its voxel size, thicker slices stay as they are; every slice is covered.

        Parameters
        ----------
        volume_shape : tuple of int
            Shape of the scan in RAS+ order, `[X, Y, Z]`.
        voxel_sizes : tuple of float
            Its voxel sizes in mm, in the same order.
        mask : numpy.ndarray or torch.Tensor
            `[X, Y, Z]`, bool: the brain.

        Raises
        ------
        ValueError
            If the arguments do not fit each other, the mask is empty, or more than 5 % of the brain lies outside the
            grid's field of view.

        Warns
        -----
        UserWarning
            If some of the brain lies outside the field of view: those voxels are not restored.
        """
        x_length, y_length, z_length = volume_shape
        if min(volume_shape) < 1:
            raise ValueError(f"volume_shape: got {volume_shape}, expected [X, Y, Z] with voxels along each axis")
        if len(voxel_sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in voxel_sizes):
            raise ValueError(f"voxel_sizes: got {voxel_sizes}, expected three positive numbers of mm")
        brain = to_numpy(mask, "mask")
        if brain.dtype != np.bool_ or brain.shape != tuple(volume_shape):
            raise ValueError(
                f"mask: got {brain.dtype} of shape {brain.shape}, expected bool of shape {tuple(volume_shape)}"
            )
        if not brain.any():
            raise ValueError("mask: got no voxel, expected a brain; check the skull stripping or the mask given")
        x_start, x_step = self._in_plane(np.count_nonzero(brain, axis=(1, 2)), self.shape[0], voxel_sizes[0])
        y_start, y_step = self._in_plane(np.count_nonzero(brain, axis=(0, 2)), self.shape[1], voxel_sizes[1])
        self._check_loss(brain, (x_start, y_start), (x_step, y_step), voxel_sizes)
        z_step, z_count = 1.0, z_length
        if voxel_sizes[2] < self.voxel_size * (1 - _SAME_SPACING):
            z_step = self.voxel_size / voxel_sizes[2]
            z_count = math.ceil(z_length / z_step - 1e-6)
        z_start = (z_length - 1) / 2 - z_step * (z_count - 1) / 2
        axes = (
            (x_length, self.shape[0], x_start, x_step),
            (y_length, self.shape[1], y_start, y_step),
            (z_length, z_count, z_start, z_step),
        )
        to_x, to_y, to_z = (AxisResampler.overlap(count, start, step, length) for length, count, start, step in axes)
        from_x, from_y, from_z = (
            AxisResampler.overlap(length, -start / step, 1 / step, count, strict=True)
            for length, count, start, step in axes
        )
        return GridPlan(
            grid=self,
            volume_shape=(x_length, y_length, z_length),
            slice_count=z_count,
            slice_spacing=z_step * voxel_sizes[2],
            _to_grid=(to_x, to_y, to_z),
            _from_grid=(from_x, from_y, from_z),
        )

    def _in_plane(self, voxels: NumpyArray, count: int, spacing: float) -> tuple[float, float]:
        """Centre of the first pixel and distance between pixels, in voxels; `voxels` are the brain's in each plane."""
        occupied = np.flatnonzero(voxels)
        runs = np.split(occupied, np.flatnonzero(np.diff(occupied) > 1) + 1)
        runs = [run for run in runs if voxels[run].sum() > _STRAY * voxels.sum()] or runs
        centre = (int(runs[0][0]) + int(runs[-1][-1])) / 2
        step = self.voxel_size / spacing
        if abs(step - 1) <= _NEAR_SPACING:
            first, middle = math.floor(centre - (count - 1) / 2 + 0.5), (count - 1) // 2
            if abs(step - 1) <= _SAME_SPACING:
                return float(first), 1.0
            return first + middle * (1 - step), step
        return centre - step * (count - 1) / 2, step

    def _check_loss(
        self,
        brain: NumpyArray,
        start: tuple[float, float],
        step: tuple[float, float],
        voxel_sizes: tuple[float, float, float],
    ) -> None:
        """Warn or raise where the brain is larger than the field of view."""
        inside = brain
        for axis in range(2):
            position = (np.arange(brain.shape[axis]) - start[axis]) / step[axis]
            seen = (position >= -0.5 - 1e-6) & (position <= self.shape[axis] - 0.5 + 1e-6)
            inside = inside.compress(seen, axis=axis)
        total = int(np.count_nonzero(brain))
        lost = total - int(np.count_nonzero(inside))
        if lost == 0:
            return
        extent = [np.ptp(np.flatnonzero(brain.any(axis=(1 - axis, 2)))) + 1 for axis in range(2)]
        facts = (
            f"{lost} of {total} mask voxels lie outside the prior's field of view of {self.field_of_view[0]:g} x "
            f"{self.field_of_view[1]:g} mm (left-right x posterior-anterior): the mask extends over "
            f"{extent[0] * voxel_sizes[0]:g} x {extent[1] * voxel_sizes[1]:g} mm"
        )
        if lost > _LARGEST_LOSS * total:
            raise ValueError(f"{facts}; check the mask and the voxel sizes, or use a prior with a larger field of view")
        warnings.warn(f"{facts}; they will not be restored", UserWarning, stacklevel=3)


@dataclass(frozen=True, eq=False)
class GridPlan:
    """Resampling of one scan onto a `SliceGrid` and back; made by `SliceGrid.plan`.

    Attributes
    ----------
    grid : SliceGrid
        The grid.
    volume_shape : tuple of int
        Shape of the scan, `[X, Y, Z]`.
    slice_count : int
        Number of slices N on the grid.
    slice_spacing : float
        Distance between them in mm.
    """

    grid: SliceGrid
    volume_shape: tuple[int, int, int]
    slice_count: int
    slice_spacing: float
    _to_grid: tuple[AxisResampler, AxisResampler, AxisResampler]
    _from_grid: tuple[AxisResampler, AxisResampler, AxisResampler]

    @property
    def slices_shape(self) -> tuple[int, int, int, int]:
        """Shape of the slices, `[N, 1, H, W]`."""
        return (self.slice_count, 1, *self.grid.shape)

    def to_grid(self, volume: torch.Tensor, fill: float, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Bring a volume to the grid.

        Parameters
        ----------
        volume : torch.Tensor
            `[X, Y, Z]`, float32 or float64, any device, finite (inside the mask, if there is one).
        fill : float
            Value outside the volume, and outside the mask if there is one.
        mask : torch.Tensor, optional
            `[X, Y, Z]`, bool. Only its voxels are averaged, so that background never mixes into the brain's rim:
            `resample(volume * mask) / resample(mask)` where `mask_to_grid(mask)`, exactly `fill` elsewhere.

        Returns
        -------
        torch.Tensor
            `[N, 1, H, W]`, contiguous, of the volume's dtype and device.

        Raises
        ------
        ValueError
            If a shape or dtype is another one, or a value is not finite.
        """
        check_tensor(volume, "volume", self.volume_shape, torch.float32, torch.float64)
        if not math.isfinite(fill):
            raise ValueError(f"fill: got {fill}, expected a finite number")
        if mask is None:
            check_finite(volume, "volume")
            inside = _resample(torch.ones_like(volume), self._to_grid)
            return as_slices(_resample(volume, self._to_grid) + (1 - inside) * fill)
        check_tensor(mask, "mask", self.volume_shape, torch.bool)
        box = box_of(mask)
        inner = volume[box].where(mask[box], 0)
        check_finite(inner, "volume")
        reached, axes = _reached_from(box, self._to_grid)
        weight = _mask_weight(mask[box], axes)
        values = _resample(inner, axes) / weight.to(volume.dtype)
        result = volume.new_full(self._volume_on_grid, fill)
        result[reached] = values.where(weight > 0.5, fill)
        return as_slices(result)

    def mask_to_grid(self, mask: torch.Tensor) -> torch.Tensor:
        """Bring a mask to the grid: pixels of which more than half lies in it.

        Parameters
        ----------
        mask : torch.Tensor
            `[X, Y, Z]`, bool, any device.

        Returns
        -------
        torch.Tensor
            `[N, 1, H, W]`, bool, contiguous.

        Raises
        ------
        ValueError
            If the shape or dtype is another one.
        """
        check_tensor(mask, "mask", self.volume_shape, torch.bool)
        box = box_of(mask)
        reached, axes = _reached_from(box, self._to_grid)
        result = mask.new_zeros(self._volume_on_grid)
        result[reached] = _mask_weight(mask[box], axes) > 0.5
        return as_slices(result)

    def from_grid(self, slices: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Bring slices back to the scan's own voxels.

        Parameters
        ----------
        slices : torch.Tensor
            `[N, 1, H, W]`, float32 or float64, any device.
        slice_mask : torch.Tensor, optional
            `[N, 1, H, W]`, bool. Only its pixels are averaged, so that nothing fades towards the brain's rim. A voxel
            within reach of any of them gets a value; mask the result with the scan's own mask.

        Returns
        -------
        torch.Tensor
            `[X, Y, Z]`, contiguous; 0 outside the field of view and where no pixel of `slice_mask` is in reach.

        Raises
        ------
        ValueError
            If a shape or dtype is another one.
        """
        check_tensor(slices, "slices", self.slices_shape, torch.float32, torch.float64)
        if slice_mask is None:
            slice_mask = torch.ones_like(slices, dtype=torch.bool)
        check_tensor(slice_mask, "slice_mask", self.slices_shape, torch.bool)
        mask = as_volume(slice_mask)
        box = box_of(mask)
        reached, axes = _reached_from(box, self._from_grid)
        # Start with the axis that is fastest in memory, while there is least to gather.
        values = _resample(as_volume(slices)[box].where(mask[box], 0), axes, order=(2, 1, 0))
        weight = _resample(mask[box].to(slices.dtype), axes, order=(2, 1, 0))
        result = slices.new_zeros(self.volume_shape)
        result[reached] = (values / weight).where(weight > 0, 0)
        return result

    @property
    def _volume_on_grid(self) -> tuple[int, int, int]:
        return (*self.grid.shape, self.slice_count)


_Axes = tuple[AxisResampler, AxisResampler, AxisResampler]
_Box = tuple[slice, slice, slice]


def box_of(mask: torch.Tensor) -> _Box:
    """The smallest box that holds a mask `[X, Y, Z]`."""
    occupied = to_numpy(mask, "mask")
    ends = []
    for others in ((1, 2), (0, 2), (0, 1)):
        places = np.flatnonzero(occupied.any(axis=others))
        ends.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0))
    return ends[0], ends[1], ends[2]


def _reached_from(box: _Box, axes: _Axes) -> tuple[_Box, _Axes]:
    """The box that another box's voxels reach, and the taps from these alone."""
    (x, to_x), (y, to_y), (z, to_z) = (
        axis.reached_from(part.start, part.stop) for part, axis in zip(box, axes, strict=True)
    )
    return (x, y, z), (to_x, to_y, to_z)


def _resample(values: torch.Tensor, axes: _Axes, order: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
    for axis in order:
        values = axes[axis](values, axis)
    return values


def _mask_weight(mask: torch.Tensor, axes: _Axes) -> torch.Tensor:
    # float64 whatever the volume's type: `to_grid` and `mask_to_grid` must agree on every pixel near one half.
    return _resample(mask.double(), axes)


def as_slices(volume: torch.Tensor) -> torch.Tensor:
    """``[X, Y, Z]`` to slices ``[N, 1, H, W]``."""
    return volume.permute(2, 0, 1).unsqueeze(1).contiguous()


def as_volume(slices: torch.Tensor) -> torch.Tensor:
    """Slices ``[N, 1, H, W]`` to ``[X, Y, Z]``."""
    return slices.squeeze(1).permute(1, 2, 0)


def check_finite(tensor: torch.Tensor, name: str) -> None:
    """Raise ``ValueError`` if a value is NaN or infinite."""
    if math.isfinite(float(tensor.sum())):  # then every value is finite; faster than a test of each
        return
    bad = tensor.numel() - int(tensor.isfinite().sum())
    if bad:
        raise ValueError(f"{name}: got {bad} NaN or infinite voxels, expected none; replace them or mask them out")


def check_tensor(tensor: torch.Tensor, name: str, shape: tuple[int, ...], *dtypes: torch.dtype) -> None:
    """Raise ``ValueError`` if a tensor has another shape, or none of the dtypes."""
    if tuple(tensor.shape) != shape or tensor.dtype not in dtypes:
        allowed = " or ".join(str(dtype) for dtype in dtypes)
        raise ValueError(f"{name}: got {tensor.dtype} of {tuple(tensor.shape)}, expected {allowed} of shape {shape}")
