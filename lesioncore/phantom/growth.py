"""Shape of a lesion on a local 2 mm grid: tumour growth through tissue, vascular territory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesioncore.phantom.fields import Array, random_field
from lesioncore.phantom.template import sample_linear

LOCAL_MM = 2.0


@dataclass(frozen=True)
class LocalGrid:
    """A cube of 2 mm voxels around `centre` (mm), reaching `half` voxels to each side."""

    centre: NDArray[np.float64]
    half: int

    @property
    def offsets(self) -> list[NDArray[np.float64]]:
        """Positions relative to the centre in mm, per axis."""
        axis = LOCAL_MM * np.arange(-self.half, self.half + 1, dtype=np.float64)
        return [axis, axis, axis]

    @property
    def points(self) -> Array:
        """Positions in mm, `[3, N]`."""
        mesh = np.meshgrid(*[c + o for c, o in zip(self.centre, self.offsets, strict=True)], indexing="ij")
        return np.stack([axis.ravel() for axis in mesh]).astype(np.float32)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels per axis."""
        side = 2 * self.half + 1
        return side, side, side

    def noise(self, rng: np.random.Generator, spacing: float) -> Array:
        """Unit-variance smooth field on this grid."""
        reach = LOCAL_MM * self.half
        return random_field(rng, spacing, [-reach] * 3, [reach] * 3, self.offsets)

    def from_volume(self, values: Array, origin: NDArray[np.float64], voxel_size: float) -> Array:
        """Sample a volume given on the phantom's grid; 0 outside of it."""
        coordinates = (self.points - origin[:, None].astype(np.float32)) / np.float32(voxel_size)
        return sample_linear(values, coordinates).reshape(self.shape)


def volume_level(level: Array, counted: NDArray[np.bool_], radius_mm: float) -> np.float32:
    """The level below which the `counted` cells have the volume of a sphere of `radius_mm`."""
    candidates = np.sort(level[counted])
    cells = round(4.0 / 3.0 * np.pi * radius_mm**3 / LOCAL_MM**3)
    return np.float32(candidates[min(cells, candidates.size - 1)])


def grow(white: Array, grey: Array, rate_noise: Array, ratio: float, radius_mm: float) -> Array:
    """Arrival time of a tumour that grows from the grid's centre, scaled to mm along white matter.

    Fisher-Kolmogorov reaction-diffusion (Swanson et al., Cell Proliferation 2000): diffusion in white matter is
    `ratio` times that in grey matter, and fluid is a barrier.

    Parameters
    ----------
    white, grey : float32 `[S, S, S]`
        Tissue fractions on the local grid.
    rate_noise : float32 `[S, S, S]`
        Factor on the proliferation rate.
    ratio : float
        Diffusion in white over diffusion in grey matter.
    radius_mm : float
        Growth stops when the tumour's volume passes that of a sphere 10 % larger than this.

    Returns
    -------
    float32 `[S, S, S]`
        Arrival in mm; cells never reached hold the last time plus their distance to the tumour.
    """
    diffusion = np.float32(0.16) * (white + grey / np.float32(ratio))
    rate = np.float32(0.12) * rate_noise * (white + 0.5 * grey)
    faces = []
    for axis in range(3):
        ahead = np.take(diffusion, range(1, diffusion.shape[axis]), axis=axis)
        behind = np.take(diffusion, range(diffusion.shape[axis] - 1), axis=axis)
        faces.append(2.0 * ahead * behind / (ahead + behind + 1e-6))
    density = np.zeros_like(white)
    middle = white.shape[0] // 2
    density[(slice(middle - 1, middle + 2),) * 3] = 1.0
    arrival = np.full(white.shape, np.inf, dtype=np.float32)
    arrival[density > 0.5] = 0.0
    tissue = white + grey
    target = 4.0 / 3.0 * np.pi * (1.1 * radius_mm) ** 3 / LOCAL_MM**3
    step = 0
    while step < 400:
        step += 1
        change = rate * density * (1.0 - density)
        for axis, face in enumerate(faces):
            flow = face * np.diff(density, axis=axis)
            low = [slice(None)] * 3
            high = [slice(None)] * 3
            low[axis], high[axis] = slice(0, -1), slice(1, None)
            change[tuple(low)] += flow
            change[tuple(high)] -= flow
        grown = density + change
        front = (grown > 0.5) & np.isinf(arrival)
        arrival[front] = step - (grown[front] - 0.5) / np.maximum(change[front], 1e-6)
        density = grown
        if step % 8 == 0 and tissue[density > 0.5].sum() > target:
            break
    # Beyond the front the density orders the cells: it falls off exponentially with the distance.
    beyond = np.isinf(arrival)
    arrival[beyond] = step - 4.0 * np.log(np.maximum(2.0 * density[beyond], 1e-12))
    return arrival * np.float32(0.277 * LOCAL_MM)


def territory(grid: LocalGrid, axis: NDArray[np.float64], depth_mm: float, widening: float) -> Array:
    """Level of a wedge (mm) whose apex lies `depth_mm` below the grid's centre, against the outward `axis`.

    The level is the distance from the wedge's axis, divided by the width that grows from the apex to the surface.
    """
    points = grid.points.astype(np.float64) - grid.centre[:, None] + depth_mm * axis[:, None]
    along = axis @ points
    radial = np.linalg.norm(points - axis[:, None] * along, axis=0)
    width = np.clip(0.3 + widening * along / depth_mm, 0.3, 1.6)
    level = radial / width + 2.0 * np.maximum(-along, 0.0)
    return level.reshape(grid.shape).astype(np.float32)


def ellipsoid(grid: LocalGrid, rng: np.random.Generator, elongation: float) -> Array:
    """Distance (mm) from the grid's centre in a randomly turned ellipsoid's metric."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    axes = np.exp(rng.uniform(-elongation, elongation, 3))
    axes /= np.prod(axes) ** (1.0 / 3.0)
    points = grid.points.astype(np.float64) - grid.centre[:, None]
    return np.linalg.norm((turn @ points) / axes[:, None], axis=0).reshape(grid.shape).astype(np.float32)
