"""Confusion counts of voxels: detected or not, lesion or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lesioncore.data.arrays import Array
from lesioncore.metrics.base import UndefinedMetricError, as_bool, shared_mask


@dataclass(frozen=True)
class Confusion:
    """Counts of voxels by decision and truth. The sum of two is the count of both together.

    Attributes
    ----------
    tp, fp, fn, tn : int
        Voxels detected in a lesion and outside, missed in a lesion, and rightly left.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, prediction: Array, truth: Array, mask: Array | None = None) -> Confusion:
        """Count the voxels of a detection.

        Parameters
        ----------
        prediction, truth : numpy.ndarray or torch.Tensor
            Bool or 0/1, of the same shape.
        mask : numpy.ndarray or torch.Tensor, optional
            Same shape, bool or 0/1: the voxels to count, by default all.

        Raises
        ------
        ValueError
            If the shapes differ or the values are not 0/1.
        """
        detected, lesions = as_bool(prediction, "prediction"), as_bool(truth, "truth")
        inside = shared_mask(mask, prediction=detected, truth=lesions)
        detected, lesions = detected[inside], lesions[inside]
        tp = int(np.count_nonzero(detected & lesions))
        fp = int(np.count_nonzero(detected)) - tp
        fn = int(np.count_nonzero(lesions)) - tp
        return cls(tp, fp, fn, detected.size - tp - fp - fn)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def dice(self) -> float:
        """Dice similarity coefficient, `2 tp / (2 tp + fp + fn)`; 1 where there is neither a lesion nor a detection."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 1.0

    @property
    def sensitivity(self) -> float:
        """Detected share of the lesion voxels; an `UndefinedMetricError` without any."""
        return _share(self.tp, self.fn, "the sensitivity needs lesion voxels")

    @property
    def precision(self) -> float:
        """Share of lesion among the detected voxels; an `UndefinedMetricError` without any."""
        return _share(self.tp, self.fp, "the precision needs detected voxels")

    @property
    def fpr(self) -> float:
        """Detected share of the healthy voxels; an `UndefinedMetricError` without any."""
        return _share(self.fp, self.tn, "the false-positive rate needs healthy voxels")


def dice(prediction: Array, truth: Array, mask: Array | None = None) -> float:
    """Dice similarity coefficient of one subject, `2 |P and T| / (|P| + |T|)` inside the mask.

    Parameters
    ----------
    prediction, truth : numpy.ndarray or torch.Tensor
        Bool or 0/1, of the same shape: all slices of the subject together.
    mask : numpy.ndarray or torch.Tensor, optional
        Same shape, bool or 0/1: the voxels to count, by default all.

    Returns
    -------
    float
        From 0 to 1; 1 where there is neither a lesion nor a detection.

    Raises
    ------
    ValueError
        If the shapes differ or the values are not 0/1.
    """
    return Confusion.of(prediction, truth, mask).dice


def _share(part: int, rest: int, need: str) -> float:
    if part + rest == 0:
        raise UndefinedMetricError(f"{need}, got none")
    return part / (part + rest)
