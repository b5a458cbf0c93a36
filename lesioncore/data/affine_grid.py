"""Resampling of a scan onto the template's slices through an affine, and back onto the scan's voxels."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from lesioncore.data.arrays import Array, NumpyArray, to_numpy
from lesioncore.data.grid import SliceGrid, as_slices, as_volume, box_of, check_finite, check_tensor

TEMPLATE_LOW = (-73.0, -108.0, -73.0)
TEMPLATE_HIGH = (73.0, 74.0, 83.0)
"""Corners of the box around the brain of the ICBM152 2009a template, mm; `tests/test_affine_grid.py` measures them."""

_MARGIN = 8.0  # mm of slices below and above the template's brain
_LARGEST_LOSS = 0.05
_USUAL_LOSS = 0.002  # of a brain's rim, which a registration's own error moves out of the slices
_ROUNDING = 1e-6
_SAME_STEP = 1e-3  # steps this close to a whole number of voxels are one, as in `SliceGrid.plan`
_HALF = 0.5 + 1e-9  # a pixel with exactly half of itself in the mask is not in it; tolerates float rounding
_CHUNK = 1 << 19  # points that are sampled at once

_Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class AffineGridPlan:
    """Resampling of one scan onto fixed planes of the template, and back; made by `AffineGridPlan.of`.

    It does what `GridPlan` does along a scan's own axes for any affine. Scans finer than the grid are averaged over
    the grid's voxel (a short filter along each of the scan's axes, then one linear interpolation), so that they do not
    alias; slices thicker than the grid's are interpolated. The way back is one linear interpolation, or its mean over
    the scan's voxel where that is larger than the grid's.

    Attributes
    ----------
    grid : SliceGrid
        The grid.
    volume_shape : tuple of int
        Shape of the scan, `[X, Y, Z]`, in any storage order: that of the matrix.
    slice_count : int
        Number of slices N on the grid.
    slice_spacing : float
        Distance between them in mm: the grid's voxel size.
    grid_to_voxel : numpy.ndarray
        `[4, 4]`, from grid indices (height, width, slice) to the scan's voxel indices.
    grid_to_template : numpy.ndarray
        `[4, 4]`, from the same to the template's millimetres (RAS+).
    """

    grid: SliceGrid
    volume_shape: tuple[int, int, int]
    slice_count: int
    slice_spacing: float
    grid_to_voxel: NumpyArray
    grid_to_template: NumpyArray

    @classmethod
    def of(
        cls,
        grid: SliceGrid,
        volume_shape: tuple[int, int, int],
        voxel_to_template: NumpyArray,
        mask: Array | None = None,
    ) -> AffineGridPlan:
        """Place the template's slices over one scan.

        In the plane, the grid's centre is the centre of the box around the template's brain; the slices cover that
        box with 8 mm below and above, whatever the scan.

        Parameters
        ----------
        grid : SliceGrid
            The prior's grid.
        volume_shape : tuple of int
            Shape of the scan, `[X, Y, Z]`.
        voxel_to_template : numpy.ndarray
            `[4, 4]`, from the scan's voxel indices to the template's millimetres: the registration's matrix times
            the scan's affine.
        mask : numpy.ndarray or torch.Tensor, optional
            `[X, Y, Z]`, bool: the brain. With it, what of it lies outside the slices is measured.

        Raises
        ------
        ValueError
            If the arguments do not fit each other, the matrix has no inverse, or more than 5 % of the mask lies
            outside the slices.

        Warns
        -----
        UserWarning
            If more than .2 % of the mask lies outside the slices: those voxels are not restored.
        """
        if len(volume_shape) != 3 or min(volume_shape) < 1:
            raise ValueError(f"volume_shape: got {volume_shape}, expected [X, Y, Z] with voxels along each axis")
        matrix = np.asarray(voxel_to_template, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], [0, 0, 0, 1]):
            raise ValueError(f"voxel_to_template: got {matrix.tolist()}, expected an affine [4, 4] matrix")
        sizes = np.linalg.norm(matrix[:3, :3], axis=0)
        if not abs(np.linalg.det(matrix[:3, :3])) > 1e-6 * sizes.prod():
            raise ValueError(f"voxel_to_template: got {matrix[:3].tolist()}, expected an affine that can be inverted")
        size = grid.voxel_size
        low, high = np.array(TEMPLATE_LOW), np.array(TEMPLATE_HIGH)
        count = math.ceil((high[2] - low[2] + 2 * _MARGIN) / size - _ROUNDING)
        lengths = np.array([*grid.shape, count])
        grid_to_template = np.diag([size, size, size, 1.0])
        grid_to_template[:3, 3] = (low + high) / 2 - size * (lengths - 1) / 2
        plan = cls(
            grid=grid,
            volume_shape=(int(volume_shape[0]), int(volume_shape[1]), int(volume_shape[2])),
            slice_count=count,
            slice_spacing=size,
            grid_to_voxel=np.linalg.inv(matrix) @ grid_to_template,
            grid_to_template=grid_to_template,
        )
        if mask is not None:
            plan._check_loss(to_numpy(mask, "mask"))
        return plan

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
        seen = torch.ones_like(volume, dtype=torch.bool) if mask is None else mask
        check_tensor(seen, "mask", self.volume_shape, torch.bool)
        (values, weight), reached = self._means_on_grid([volume], seen)
        values = values + (1 - weight) * fill if mask is None else (values / weight).where(weight > _HALF, fill)
        result = volume.new_full(self._volume_on_grid, fill)
        result[reached] = values.to(volume.dtype)
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
        (weight,), reached = self._means_on_grid([], mask)
        result = mask.new_zeros(self._volume_on_grid)
        result[reached] = weight > _HALF
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
        to_grid = np.linalg.inv(self.grid_to_voxel)
        (values, weight), reached = _means(
            [as_volume(slices)],
            as_volume(slice_mask),
            to_grid,
            self.volume_shape,
            kernels=[np.ones(1)] * 3,
            offsets=_sub_points(to_grid),
            strict=True,
        )
        result = slices.new_zeros(self.volume_shape)
        result[reached] = (values / weight).where(weight > _ROUNDING, 0).to(slices.dtype)
        return result

    def _means_on_grid(self, volumes: list[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, _Box]:
        matrix = self.grid_to_voxel
        return _means(
            volumes, mask, matrix, self._volume_on_grid, kernels=_box_kernels(matrix), offsets=np.zeros((1, 3))
        )

    @property
    def _volume_on_grid(self) -> tuple[int, int, int]:
        return (*self.grid.shape, self.slice_count)

    def _check_loss(self, brain: NumpyArray) -> None:
        """Warn or raise where the brain reaches beyond the slices."""
        if brain.dtype != np.bool_ or brain.shape != self.volume_shape or not brain.any():
            raise ValueError(
                f"mask: got {brain.dtype} of shape {brain.shape} with {np.count_nonzero(brain)} voxels, expected bool "
                f"of shape {self.volume_shape} with a brain in it"
            )
        matrix = np.linalg.inv(self.grid_to_voxel)
        places = np.argwhere(brain) @ matrix[:3, :3].T + matrix[:3, 3]
        faces = np.array(self._volume_on_grid) - 0.5
        lost = int(((places < -0.5 - _ROUNDING) | (places > faces + _ROUNDING)).any(axis=1).sum())
        if lost <= _USUAL_LOSS * len(places):
            return
        height, width = self.grid.field_of_view
        facts = (
            f"{lost} of {len(places)} mask voxels lie outside the prior's slices of the template, {height:g} x "
            f"{width:g} x {self.slice_count * self.slice_spacing:g} mm (left-right x posterior-anterior x height)"
        )
        if lost > _LARGEST_LOSS * len(places):
            raise ValueError(f"{facts}; check the registration and the mask")
        warnings.warn(f"{facts}; they will not be restored", UserWarning, stacklevel=3)


def _means(
    volumes: list[torch.Tensor],
    mask: torch.Tensor,
    matrix: NumpyArray,
    shape: tuple[int, int, int],
    *,
    kernels: list[NumpyArray],
    offsets: NumpyArray,
    strict: bool = False,
) -> tuple[torch.Tensor, _Box]:
    """Means over output voxels of volumes, 0 outside their mask, and of the mask: `[C, ...]` float64 and their box.

    Outside that box of output voxels all is 0. The input is filtered by a kernel along each of its axes, then
    interpolated at offsets from the output voxels' centres. `matrix` leads from output to input indices. `strict`:
    nothing where an output voxel's centre lies beyond the outer faces of the input's voxels.
    """
    box = box_of(mask)
    inside = mask[box]
    inner = [volume[box].where(inside, 0) for volume in volumes]
    for values in inner:
        check_finite(values, "volume")
    channels = torch.stack([values.double() for values in (*inner, inside)])
    for axis, kernel in enumerate(kernels):
        channels = _filter(channels, kernel, axis + 1)
    # A kernel widens what it filters by the same length at both ends.
    start = [part.start - (len(kernel) - 1) / 2 for part, kernel in zip(box, kernels, strict=True)]
    reached = _reached_box(matrix, np.array(start), channels.shape[1:], shape, offsets)
    x, y, z = (torch.arange(part.start, part.stop, dtype=torch.float64, device=mask.device) for part in reached)
    result = channels.new_zeros((len(channels), len(x), len(y), len(z)))
    if 0 in (*result.shape, *channels.shape):
        return result, reached
    rows = max(1, _CHUNK // (len(y) * len(z)))
    for first in range(0, len(x), rows):
        slab = result[:, first : first + rows]
        places = (x[first : first + rows], y, z)
        for offset in offsets:
            slab += _interpolate(channels, _positions(matrix, places, offset), start)
        slab /= len(offsets)
        if strict:
            for position, length in zip(_positions(matrix, places, np.zeros(3)), mask.shape, strict=True):
                slab *= (position >= -0.5 - _ROUNDING) & (position <= length - 0.5 + _ROUNDING)
    return result, reached


def _box_kernels(matrix: NumpyArray) -> list[NumpyArray]:
    """Kernels along the input's axes that make linear interpolation afterwards the mean over a cubic output voxel.

    For s > 1 input voxels in an output voxel: weights of 1 with smaller ones at both ends, whose variance is that
    of the box of width s less that of the input's own; for whole numbers s they are s equal weights. A cube's second
    moments are the same along any axes, so that one kernel along each axis serves every rotation.
    """
    kernels = []
    for step in np.linalg.norm(matrix[:3, :3], axis=1):
        count = round(step) if abs(step - round(step)) < _SAME_STEP else max(3, math.ceil(step))
        if step < 1 + _SAME_STEP:
            kernels.append(np.ones(1))
            continue
        variance, places = (step**2 - 1) / 12, np.arange(count) - (count - 1) / 2
        inner = places[1:-1]
        end = (len(inner) * variance - (inner**2).sum()) / (2 * (places[-1] ** 2 - variance)) if count > 2 else 1.0
        weights = np.ones(count)
        weights[[0, -1]] = end
        kernels.append(weights / weights.sum())
    return kernels


def _sub_points(matrix: NumpyArray) -> NumpyArray:
    """Places within an output voxel, in output voxels from its centre, whose mean is that over the voxel. [K, 3]

    Along an axis with steps of s > 1 input voxels there are n = ceil(s) points. Their distance gives them, together
    with the input voxel's own width, the variance of a box of width s: for whole numbers s it is that box.
    """
    axes = []
    for step in np.linalg.norm(matrix[:3, :3], axis=0):
        count = max(1, math.ceil(step - _SAME_STEP))
        apart = math.sqrt((step**2 - 1) / (count**2 - 1)) / step if count > 1 else 0.0
        axes.append(apart * (np.arange(count) - (count - 1) / 2))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _filter(channels: torch.Tensor, kernel: NumpyArray, axis: int) -> torch.Tensor:
    """Convolve along an axis, which grows by the kernel's length less one."""
    if len(kernel) == 1:
        return channels
    length = channels.shape[axis]
    shape = list(channels.shape)
    shape[axis] = length + len(kernel) - 1
    result = channels.new_zeros(shape)
    for tap, weight in enumerate(kernel):
        result.narrow(axis, tap, length).add_(channels, alpha=float(weight))
    return result


def _reached_box(
    matrix: NumpyArray, start: NumpyArray, size: tuple[int, ...], shape: tuple[int, int, int], offsets: NumpyArray
) -> _Box:
    """The box of output voxels with a point less than a voxel from the input's box."""
    ends = np.stack([start - 1, start + np.array(size)], axis=1)
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)
    inverse = np.linalg.inv(matrix)
    corners = corners @ inverse[:3, :3].T + inverse[:3, 3]
    reach = np.abs(offsets).max(axis=0)
    low = np.clip(np.floor(corners.min(axis=0) - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + reach) + 1, low, shape).astype(int)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _positions(matrix: NumpyArray, places: tuple[torch.Tensor, ...], offset: NumpyArray) -> list[torch.Tensor]:
    """Input indices along each input axis of points at an offset from output voxels; three tensors [X, Y, Z]."""
    x, y, z = (place + float(part) for place, part in zip(places, offset, strict=True))
    return [
        (float(row[0]) * x)[:, None, None] + (float(row[1]) * y)[:, None] + (float(row[2]) * z + float(row[3]))
        for row in matrix[:3]
    ]


def _interpolate(stack: torch.Tensor, positions: list[torch.Tensor], start: list[float]) -> torch.Tensor:
    """Trilinear interpolation of channels [C, X, Y, Z] at points; 0 outside."""
    scaled = [
        (2 * (position - first) + 1) / length - 1
        for position, first, length in zip(positions, start, stack.shape[1:], strict=True)
    ]
    points = torch.stack(scaled[::-1], dim=-1)  # the last axis of the volume comes first
    return torch.nn.functional.grid_sample(
        stack[None], points[None], mode="bilinear", padding_mode="zeros", align_corners=False
    )[0]
