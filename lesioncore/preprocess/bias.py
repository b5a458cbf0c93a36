"""Bias-field correction: N4 on a coarse grid, its smooth field applied to the scan's own voxels."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.preprocess.pose import blur
from lesioncore.preprocess.registration import simpleitk

Volume = npt.NDArray[np.float32]

_WINDOW = 10.0  # mm, sigma of the means in which a lesion shows and single voxels do not
_OUTLYING = 2.0  # robust standard deviations of these means
_SMALLEST = 1e-3  # share of the brain's median below which a value has no useful logarithm


def correct_bias(
    volume: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64],
    brain: npt.NDArray[np.bool_],
    *,
    spacing: float = 200.0,
    levels: int = 2,
    iterations: int = 20,
    voxel_size: float = 4.0,
    threads: int = 1,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Divide a scan by its coil's slowly varying sensitivity, estimated in the brain (N4, Tustison et al. 2010).

    The field is a cubic B-spline of few control points, since a finer one takes a large lesion for bias and corrects
    it away. It is estimated twice: parts of the brain that deviate much after a first estimate, of one level, inform
    the second no more.

    Parameters
    ----------
    volume : ndarray
        ``[X, Y, Z]``, real, in any storage order. Values that are not positive are left out of the estimate.
    affine : ndarray
        ``[4, 4]``, voxel indices to world millimetres.
    brain : ndarray
        ``[X, Y, Z]`` bool: where the field is estimated.
    spacing : float
        Distance between the spline's control points at the first level, mm; each further level halves it.
    levels : int
        Levels of the spline in the second estimate; with 1 there is the first alone.
    iterations : int
        Largest number of iterations at each level.
    voxel_size : float
        The estimate is made at about this voxel size, mm.
    threads : int
        Threads of the estimate.

    Returns
    -------
    corrected : ndarray
        Float32, the volume divided by the field, everywhere.
    field : ndarray
        Float32, positive; its geometric mean in the brain is 1.

    Raises
    ------
    ValueError
        If the arguments do not fit each other, or the brain has no positive values.
    ImportError
        If SimpleITK, the extra `preprocess`, is missing.
    """
    sitk = simpleitk()
    if volume.shape != brain.shape or volume.ndim != 3 or brain.dtype != np.bool_:
        raise ValueError(f"brain: got {brain.dtype} of shape {brain.shape}, expected bool of shape {volume.shape}")
    if not (spacing > 0 and levels >= 1 and iterations >= 1 and voxel_size > 0):
        raise ValueError(
            f"spacing, levels, iterations, voxel_size: got {spacing}, {levels}, {iterations}, {voxel_size}, expected"
            " positive numbers"
        )
    values = np.asarray(volume, dtype=np.float32)
    inside = values[brain]
    if not np.isfinite(inside).all():
        raise ValueError("volume: has values in the brain that are NaN or infinite; clean the scan first")
    if not (inside > 0).any():
        raise ValueError("volume: has no positive value in the brain; a multiplicative field needs them")
    usable = brain & (values > _SMALLEST * np.median(inside[inside > 0]))
    sizes = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    box, means, share, factor = _coarse(values, usable, sizes, voxel_size)
    spacings, mask = sizes * factor, share > 0.5
    options = (sitk, means, spacings, spacing, iterations, threads)
    log_field = _n4(*options, mask, 1)
    if levels > 1:
        mask &= ~_deviating(np.log(np.maximum(means, 1e-6)) - log_field, mask, spacings)
        log_field = _n4(*options, mask, levels)
    for axis, (length, part, step) in enumerate(zip(values.shape, box, factor, strict=True)):
        log_field = _interpolated(log_field, axis, (np.arange(length) - part.start - (step - 1) / 2) / step)
    log_field -= log_field[brain].mean()
    field: Volume = np.exp(log_field)
    corrected: Volume = np.divide(values, field)
    return corrected, field


def _coarse(
    values: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_], sizes: npt.NDArray[np.float64], voxel_size: float
) -> tuple[tuple[slice, ...], npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Means of the usable voxels in blocks of about a size, the usable share of each block, and the blocks' place."""
    places = [np.flatnonzero(usable.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(int(place[0]), int(place[-1]) + 1) for place in places)
    factor = np.maximum(1, np.rint(voxel_size / sizes)).astype(np.int64)
    inner = usable[box]
    both = np.stack([np.where(inner, values[box], 0), inner.astype(np.float32)])
    ends = [(0, 0), *((0, int(-length % step)) for length, step in zip(inner.shape, factor, strict=True))]
    padded = np.pad(both, ends)
    blocks = [part for length, step in zip(padded.shape[1:], factor, strict=True) for part in (length // step, step)]
    total, share = padded.reshape(2, *blocks).mean(axis=(2, 4, 6), dtype=np.float32)
    return box, total / np.maximum(share, 1e-6), share, factor


def _n4(
    sitk: ModuleType,
    means: Volume,
    sizes: npt.NDArray[np.float64],
    spacing: float,
    iterations: int,
    threads: int,
    mask: npt.NDArray[np.bool_],
    levels: int,
) -> Volume:
    """The logarithm of the field that N4 finds, on the grid of the means."""
    image, where = sitk.GetImageFromArray(means), sitk.GetImageFromArray(mask.astype(np.uint8))
    for part in (image, where):
        part.SetSpacing(sizes[::-1].tolist())  # SimpleITK names a NumPy array's axes in reverse
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(threads)
    n4.SetMaximumNumberOfIterations([iterations] * levels)
    n4.SetNumberOfControlPoints([max(1, round(length / spacing)) + 3 for length in (sizes * means.shape)[::-1]])
    n4.Execute(image, where)
    log_field: Volume = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
    return log_field


def _deviating(logs: Volume, mask: npt.NDArray[np.bool_], sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Where the mean over 10 mm lies further from the brain's median than two robust standard deviations."""
    channels = torch.from_numpy(np.stack([np.where(mask, logs, 0), mask]).astype(np.float32))
    total, weight = blur(channels, [_WINDOW / size for size in sizes]).numpy()
    means = total / np.maximum(weight, 1e-6)
    distance = np.abs(means - np.median(means[mask]))
    deviating: npt.NDArray[np.bool_] = distance > _OUTLYING * 1.4826 * np.median(distance[mask])
    return deviating


def _interpolated(values: npt.NDArray[np.float32], axis: int, places: npt.NDArray[np.float64]) -> Volume:
    """Linear interpolation along an axis at indices, the ends continued."""
    places = np.clip(places, 0, values.shape[axis] - 1)
    low = np.minimum(places.astype(np.int64), max(0, values.shape[axis] - 2))
    high = np.minimum(low + 1, values.shape[axis] - 1)
    shape = [-1 if other == axis else 1 for other in range(values.ndim)]
    weight = (places - low).astype(np.float32).reshape(shape)
    mixed: Volume = values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
    return mixed
