"""The restoration problem of a Gaussian prior, solved in NumPy with a proof of how exact that is.

Independent of the package: dense matrices, another algorithm (ADMM), and the duality gap as the certificate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ExactMAP:
    """Optimum of ``max_X -weight * TV(X - Y) + c - 1/2 (X - mean)^T A (X - mean)``, ``X = Y`` outside the mask.

    Attributes
    ----------
    x : ndarray
        Flat optimum.
    objective, start : float
        The objective there, and at ``Y``.
    gap : float
        The true optimum is at most this much better.
    flat : float
        Share of the differences between masked neighbours that are 0.
    """

    x: np.ndarray
    objective: float
    start: float
    gap: float
    flat: float


def difference_matrix(shape: tuple[int, int, int], depth_weight: float) -> np.ndarray:
    """Forward differences ``[axes, pixels, pixels]`` of a ``[D, H, W]`` volume, one row for each pixel and axis."""
    index = np.arange(np.prod(shape)).reshape(shape)
    axes = [(2, 1.0), (1, 1.0)] + ([(0, depth_weight)] if depth_weight > 0 else [])
    matrix = np.zeros((len(axes), index.size, index.size))
    for difference, (axis, weight) in zip(matrix, axes, strict=True):
        pixel = np.take(index, range(shape[axis] - 1), axis).ravel()
        neighbour = np.take(index, range(1, shape[axis]), axis).ravel()
        difference[pixel, pixel] = -weight
        difference[pixel, neighbour] = weight
    return matrix


def solve(
    y: np.ndarray,
    mask: np.ndarray,
    mean: np.ndarray,
    precision: np.ndarray,
    constant: float,
    weight: float,
    *,
    depth_weight: float = 0.0,
    isotropic: bool = False,
    tolerance: float = 1e-11,
) -> ExactMAP:
    """Solve one problem.

    Parameters
    ----------
    y, mask : ndarray
        ``[D, H, W]``, coupled in depth if ``depth_weight > 0``.
    mean : ndarray
        ``[D, H, W]``.
    precision : ndarray
        A, ``[pixels, pixels]``, positive definite.
    constant : float
        c.
    tolerance : float
        Of the gap, relative to what there is to gain from ``Y``.
    """
    inside = mask.ravel()
    r = (y - mean).ravel()
    # Over the masked values u of D = Y - X: 1/2 u^T H u - g^T u + weight * sum |B u| - c0, to be minimised.
    h, g = precision[np.ix_(inside, inside)], (precision @ r)[inside]
    b = difference_matrix(y.shape, depth_weight)[:, :, inside]
    axes, pixels, count = b.shape
    flat = b.reshape(axes * pixels, count)
    inverse = np.linalg.inv(h)

    def magnitude(k: np.ndarray) -> np.ndarray:
        return np.sqrt((k**2).sum(0)) if isotropic else np.abs(k)

    def primal(u: np.ndarray) -> float:
        return float(0.5 * u @ h @ u - g @ u + weight * magnitude((flat @ u).reshape(axes, pixels)).sum())

    rho = weight
    step = np.linalg.inv(h + rho * flat.T @ flat)
    z = np.zeros((axes, pixels))
    v = np.zeros_like(z)
    for iteration in range(200_000):
        u = step @ (g + rho * flat.T @ (z - v).ravel())
        k = (flat @ u).reshape(axes, pixels) + v
        # What shrinkage takes away lies in a ball of radius weight / rho: rho * v is feasible for the dual.
        z = k * np.maximum(0.0, 1.0 - (weight / rho) / np.maximum(magnitude(k), 1e-300))
        v = k - z
        if iteration % 50 == 0:
            q = g - rho * flat.T @ v.ravel()
            u = inverse @ q
            gap = primal(u) + 0.5 * float(q @ u)
            if gap <= tolerance * -primal(u):
                break
    else:
        raise AssertionError(f"no certificate: gap {gap} of {primal(u)}")
    start = constant - 0.5 * float(r @ precision @ r)
    x = y.ravel().copy()
    x[inside] -= u
    edges = np.abs(flat).sum(1) > np.abs(flat).max(1)  # both ends are masked
    zero = magnitude(z)[edges.reshape(axes, pixels).any(0)] if isotropic else np.abs(z).ravel()[edges]
    return ExactMAP(x, start - primal(u), start, gap, float((zero == 0).mean()))
