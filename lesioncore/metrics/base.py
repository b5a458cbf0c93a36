"""Types, error and checks of arguments that all metrics share."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lesioncore.data.arrays import Array, NumpyArray, to_numpy

Bools: TypeAlias = npt.NDArray[np.bool_]
Counts: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


class UndefinedMetricError(ValueError):
    """A metric has no value on this data, such as an AUC without lesions."""


def as_bool(array: Array, name: str) -> Bools:
    """Check that an array is bool or holds 0 and 1 alone, and return it as bool."""
    values = to_numpy(array, name)
    if values.dtype == np.bool_:
        return values
    result: Bools = values != 0
    if not np.array_equal(result, values):
        raise ValueError(f"{name}: got values up to {np.max(values)}, expected bool or 0 and 1; threshold it first")
    return result


def shared_mask(mask: Array | None, **arrays: NumpyArray) -> Bools:
    """Check that the arrays and the mask share a shape; return the mask as bool, all true when absent."""
    (first_name, first), *others = arrays.items()
    inside = np.broadcast_to(True, first.shape) if mask is None else as_bool(mask, "mask")
    for name, array in [*others, ("mask", inside)]:
        if array.shape != first.shape:
            raise ValueError(f"{name}: got shape {array.shape}, expected that of {first_name}, {first.shape}")
    return inside


def masked_labels(prediction: Array, truth: Array, mask: Array | None) -> tuple[Bools, Bools]:
    """Check a detection and its truth and clear both outside the mask, in their own shape."""
    detected, lesions = as_bool(prediction, "prediction"), as_bool(truth, "truth")
    inside = shared_mask(mask, prediction=detected, truth=lesions)
    return detected & inside, lesions & inside


def per_subject(values: npt.ArrayLike, name: str) -> Floats:
    """Check that there is one number per subject, `[subjects]`."""
    result = np.asarray(values, dtype=np.float64)
    if result.ndim != 1:
        raise ValueError(f"{name}: got shape {result.shape}, expected one number per subject, [subjects]")
    return result


def require_scipy(part: str) -> ModuleType:
    """Return a part of scipy such as ``"ndimage"``, which the core does without, or say how to get it."""
    try:
        return import_module(f"scipy.{part}")
    except ImportError as error:
        raise ImportError(
            "lesion-wise metrics, distances and the cleaning of masks need scipy; install it with: pip install scipy"
        ) from error
