"""Random poses of a head in its world."""

from __future__ import annotations

import numpy as np


def turned(rng: np.random.Generator, degrees: float, shift: float = 30.0) -> np.ndarray:
    """A rotation about any axis through a brain's middle, and a shift of a length in any direction."""
    axis, way = (part / np.linalg.norm(part) for part in rng.normal(size=(2, 3)))
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix[:3, 3] = shift * way
    return matrix
