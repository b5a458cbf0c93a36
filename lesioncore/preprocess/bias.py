"""Bias-field correction: the smooth field under which white and grey matter are where the template has them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.preprocess.pose import apply, blur, sample
from lesioncore.preprocess.template import brain_template

Volume = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

_VOXEL_SIZE = 4.0  # mm, of the blocks whose means the field is estimated from
_FEWEST = 200  # blocks, 13 ml: fewer do not determine a field
_SMALLEST = 1e-3  # share of the brain's median below which a value has no useful logarithm
_CENTRE, _REACH = np.array([0.0, -18.0, 15.0]), 80.0  # mm in the template's space: the field's polynomial is about them
_POWERS = [(i, j, k) for i in range(3) for j in range(3 - i) for k in range(3 - i - j)][1:]
_ROUNDS, _ITERATIONS = 12, 8  # rounds at most, fewer once the informing blocks settle
_FLOOR = 0.01  # least prior probability of a tissue: an affine registration places none exactly
_OUTSIDE = 0.02  # prior probability of what is no tissue, over the whole range of intensities
_NARROWEST = 0.02  # least standard deviation of a tissue, in the logarithm
_WEIGHTS = np.array([1.0, 0.3, 0.0])  # of white matter, grey matter and fluid in the field's estimate
_STIFFNESS = 0.3  # a block's weight for no field: little beside sure tissues, much before they are sure
_WINDOW = 10.0  # mm, sigma of the means in which a lesion shows and single blocks do not
_OUTLYING = 1.5  # robust standard deviations of these means


def correct_bias(
    volume: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64],
    brain: npt.NDArray[np.bool_],
    to_template: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Divide a scan by its coil's slowly varying sensitivity, estimated in the brain.

    The logarithm of an intensity is that of its tissue, with a mean and a spread that the scan itself shows, plus a
    polynomial of second degree in the template's space; tissues have the template's probabilities as priors. Means,
    spreads and polynomial are estimated in turn by expectation-maximisation (Van Leemput et al., IEEE TMI 1999;
    Ashburner & Friston, NeuroImage 2005). Two things keep a lesion, the largest too, from being corrected away: parts
    of the brain that deviate as a whole from what their place lets expect inform the next estimate no more, and there
    is hardly a field until tissues are well told apart.

    Parameters
    ----------
    volume : ndarray
        ``[X, Y, Z]``, real, in any storage order. Values that are not positive are left out of the estimate.
    affine : ndarray
        ``[4, 4]``, voxel indices to world millimetres.
    brain : ndarray
        ``[X, Y, Z]`` bool: where the field is estimated.
    to_template : ndarray
        ``[4, 4]``, world to the template's millimetres (:func:`lesioncore.preprocess.registration.register`).

    Returns
    -------
    corrected : ndarray
        Float32, the volume divided by the field, everywhere.
    field : ndarray
        Float32, positive; its geometric mean in the brain is 1, and beyond the brain it keeps the brain's range.

    Raises
    ------
    ValueError
        If the arguments do not fit each other, or the brain is tiny or has no positive values.
    """
    if volume.shape != brain.shape or volume.ndim != 3 or brain.dtype != np.bool_:
        raise ValueError(f"brain: got {brain.dtype} of shape {brain.shape}, expected bool of shape {volume.shape}")
    if np.shape(to_template) != (4, 4):
        raise ValueError(f"to_template: got shape {np.shape(to_template)}, expected (4, 4)")
    values = np.asarray(volume, dtype=np.float32)
    inside = values[brain]
    if not np.isfinite(inside).all():
        raise ValueError("volume: got NaN or infinite values in the brain, expected none; clean the scan first")
    if not (inside > 0).any():
        raise ValueError("volume: got no positive value in the brain, expected some for a multiplicative field")
    usable = brain & (values > _SMALLEST * np.median(inside[inside > 0]))
    sizes = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    low, means, share, factor = _coarse(values, usable, sizes)
    known = share > 0.5
    if np.count_nonzero(known) < _FEWEST:
        raise ValueError(f"brain: got {np.count_nonzero(known)} blocks of 4 mm, expected a brain; check the extraction")
    voxel_to_template = np.asarray(to_template @ affine, dtype=np.float64)
    places = apply(voxel_to_template, np.argwhere(known) * factor + low + (factor - 1) / 2)
    coefficients = _polynomial(np.log(np.maximum(means[known], 1e-6)), places, known, sizes * factor)
    log_field = _evaluated(coefficients, voxel_to_template, values.shape)
    log_field -= log_field[brain].mean()
    field: Volume = np.exp(np.clip(log_field, log_field[brain].min(), log_field[brain].max()))
    corrected: Volume = np.divide(values, field)
    return corrected, field


def _coarse(
    values: Volume, usable: npt.NDArray[np.bool_], sizes: Array
) -> tuple[npt.NDArray[np.int64], Volume, Volume, npt.NDArray[np.int64]]:
    """First voxel of blocks of about 4 mm, means of their usable voxels, usable share, and voxels in a block."""
    places = [np.flatnonzero(usable.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(int(place[0]), int(place[-1]) + 1) for place in places)
    factor = np.maximum(1, np.rint(_VOXEL_SIZE / sizes)).astype(np.int64)
    inner = usable[box]
    both = np.stack([np.where(inner, values[box], 0), inner.astype(np.float32)])
    ends = [(0, 0), *((0, int(-length % step)) for length, step in zip(inner.shape, factor, strict=True))]
    padded = np.pad(both, ends)
    blocks = [part for length, step in zip(padded.shape[1:], factor, strict=True) for part in (length // step, step)]
    total, share = padded.reshape(2, *blocks).mean(axis=(2, 4, 6), dtype=np.float32)
    return np.array([part.start for part in box]), total / np.maximum(share, 1e-6), share, factor


def _polynomial(logs: Array, places: Array, known: npt.NDArray[np.bool_], sizes: Array) -> Array:
    """Coefficients of the log field's powers, from the logarithms of blocks at places (template mm)."""
    priors = _tissues(places)
    scaled = (places - _CENTRE) / _REACH
    terms = np.stack([np.prod(scaled**power, axis=1) for power in np.array(_POWERS)], axis=1)
    terms -= terms.mean(axis=0)
    surest = max(50, len(logs) // 20)
    means = np.array([np.median(logs[np.argsort(-prior)[:surest]]) for prior in priors.T])
    spreads = np.full(3, max(logs.std(), _NARROWEST))
    outside = _OUTSIDE / max(float(np.ptp(logs)), _NARROWEST)
    coefficients = np.zeros(terms.shape[1])
    informs = np.ones(len(logs))
    for _ in range(_ROUNDS):
        for _ in range(_ITERATIONS):
            flat = logs - terms @ coefficients
            likelihood = priors * np.exp(-0.5 * ((flat[:, None] - means) / spreads) ** 2) / spreads
            shares = likelihood / (likelihood.sum(axis=1, keepdims=True) + outside) * informs[:, None]
            precision = _WEIGHTS * shares / spreads**2
            normal = terms.T @ (terms * precision.sum(axis=1, keepdims=True))
            normal += _STIFFNESS * len(logs) * np.eye(len(normal))
            coefficients = np.linalg.solve(normal, terms.T @ (precision * (logs[:, None] - means)).sum(axis=1))
            flat = logs - terms @ coefficients
            count = shares.sum(axis=0) + 1e-9
            means = (shares * flat[:, None]).sum(axis=0) / count
            spreads = np.sqrt((shares * (flat[:, None] - means) ** 2).sum(axis=0) / count).clip(_NARROWEST)
        before, informs = informs, _as_expected(flat - priors @ means, known, sizes)
        if np.array_equal(informs, before):
            break
    return coefficients


def _tissues(places: Array) -> Array:
    """Prior probabilities of white matter, grey matter and fluid at places of the template. ``[N, 3]``"""
    template = brain_template()
    maps = torch.from_numpy(np.stack([template.white, template.grey]))
    white, grey = sample(maps, apply(np.linalg.inv(template.affine), places)).astype(np.float64)
    priors = np.stack([white, grey, np.clip(1 - white - grey, 0, 1)], axis=1) + _FLOOR
    return np.asarray(priors / priors.sum(axis=1, keepdims=True))


def _as_expected(deviations: Array, known: npt.NDArray[np.bool_], sizes: Array) -> Array:
    """1 where blocks deviate no more than usual on average over their neighbourhood, else 0."""
    channels = np.zeros((2, *known.shape), dtype=np.float32)
    channels[0, known], channels[1, known] = deviations, 1
    total, weight = blur(torch.from_numpy(channels), [_WINDOW / size for size in sizes]).numpy()
    local = total[known] / np.maximum(weight[known], 1e-6)
    distance = np.abs(local - np.median(local))
    return (distance <= _OUTLYING * 1.4826 * np.median(distance)).astype(np.float64)


def _evaluated(coefficients: Array, voxel_to_template: Array, shape: tuple[int, ...]) -> Volume:
    """The polynomial at each voxel, but for a constant: sums over axes and pairs of axes of the voxels' indices."""
    gradient, hessian = np.zeros(3), np.zeros((3, 3))
    for power, value in zip(_POWERS, coefficients, strict=True):
        axes = [axis for axis in range(3) for _ in range(power[axis])]
        if len(axes) == 1:
            gradient[axes[0]] = value
        else:
            hessian[axes[0], axes[1]] += value / 2
            hessian[axes[1], axes[0]] += value / 2
    middle = (np.array(shape) - 1) / 2
    turn = voxel_to_template[:3, :3] / _REACH
    offset = (apply(voxel_to_template, middle) - _CENTRE) / _REACH
    slope, curvature = turn.T @ (gradient + 2 * hessian @ offset), turn.T @ hessian @ turn
    index = np.ogrid[tuple(slice(0, length) for length in shape)]
    steps = [(axis - half).astype(np.float64) for axis, half in zip(index, middle, strict=True)]
    log_field: Volume = np.zeros(shape, dtype=np.float32)
    for first in range(3):
        log_field += (slope[first] * steps[first] + curvature[first, first] * steps[first] ** 2).astype(np.float32)
        for second in range(first):
            log_field += (2 * curvature[first, second] * steps[first] * steps[second]).astype(np.float32)
    return log_field
