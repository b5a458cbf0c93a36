"""Smooth random fields and separable interpolation on control lattices.

Every field is defined by control points at fixed positions in millimetres, so that the same draw gives the same field
on any voxel grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Axes = Sequence[NDArray[np.float64]]

# The cubic B-spline's squared weights average 151/315 over a cell, so unit-variance control points give a field of
# variance (151/315)^3 in three dimensions.
_BSPLINE_STD = (151.0 / 315.0) ** 1.5


def _scatter(base: NDArray[np.int64], weights: Sequence[NDArray[np.float64]], count: int) -> Array:
    matrix = np.zeros((base.size, count), dtype=np.float32)
    rows = np.arange(base.size)
    for offset, weight in enumerate(weights):
        np.add.at(matrix, (rows, np.clip(base + offset, 0, count - 1)), weight.astype(np.float32))
    return matrix


def bspline_matrix(positions: NDArray[np.float64], origin: float, spacing: float, count: int) -> Array:
    """Cubic B-spline basis on a lattice: `[len(positions), count]`; the end points are repeated outside."""
    u = (positions - origin) / spacing
    cell = np.floor(u)
    t = u - cell
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    return _scatter(cell.astype(np.int64) - 1, weights, count)


def catmull_rom_matrix(positions: NDArray[np.float64], origin: float, spacing: float, count: int) -> Array:
    """Interpolating cubic (Catmull-Rom) on a lattice: `[len(positions), count]`; ends are repeated outside."""
    u = (positions - origin) / spacing
    cell = np.floor(u)
    t = u - cell
    weights = (
        (-(t**3) + 2 * t**2 - t) / 2,
        (3 * t**3 - 5 * t**2 + 2) / 2,
        (-3 * t**3 + 4 * t**2 + t) / 2,
        (t**3 - t**2) / 2,
    )
    return _scatter(cell.astype(np.int64) - 1, weights, count)


def separable(control: Array, matrices: Sequence[Array]) -> Array:
    """Apply one matrix per axis to `control [X, Y, Z]`."""
    a, b, c = matrices
    out = np.tensordot(a, control, axes=(1, 0))
    out = np.matmul(b, out)
    return np.ascontiguousarray(np.matmul(out, c.T))


def resample_lattice(values: Array, lattice: Axes, axes: Axes) -> Array:
    """Interpolate `values` given on the regular `lattice` (positions in mm per axis) at the points of `axes`."""
    matrices = [
        catmull_rom_matrix(axis, float(nodes[0]), float(nodes[1] - nodes[0]), nodes.size)
        for nodes, axis in zip(lattice, axes, strict=True)
    ]
    return separable(values, matrices)


def random_field(
    rng: np.random.Generator, spacing: float, low: Sequence[float], high: Sequence[float], axes: Axes
) -> Array:
    """Draw a smooth Gaussian random field of zero mean and unit variance.

    Parameters
    ----------
    rng : numpy.random.Generator
        Stream of the control points. What is drawn depends on `spacing`, `low` and `high`, never on `axes`.
    spacing : float
        Distance of the control points in millimetres; the field's correlation length is about 1.2 of it.
    low, high : sequence of 3 float
        Corners in millimetres of the box that the field covers.
    axes : three arrays
        Positions in millimetres at which the field is wanted, per axis.

    Returns
    -------
    float32 array `[X, Y, Z]`
    """
    matrices, shape = [], []
    for first, last, axis in zip(low, high, axes, strict=True):
        count = int(np.ceil((last - first) / spacing)) + 3
        matrices.append(bspline_matrix(axis, first - spacing, spacing, count))
        shape.append(count)
    control = rng.standard_normal(tuple(shape), dtype=np.float32) / np.float32(_BSPLINE_STD)
    return separable(control, matrices)
