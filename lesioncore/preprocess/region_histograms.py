"""Histograms of a scan's intensities in the template's tissue regions, for its standardisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.preprocess.tissue_regions import TISSUES

Floats = npt.NDArray[np.float64]

# Fluid counts half: affine registration leaves tissue in its places, and young people have little of it.
TISSUE_WEIGHTS = np.array([0.2, 0.4, 0.4])
"""Weights of fluid, grey and white matter."""

_FEWEST_VOXELS = 1000
_BINS = 160


@dataclass(frozen=True, eq=False)
class RegionHistograms:
    """Histograms of a scan's intensities in each parcel and in the whole brain, over common bins."""

    centres: Floats  # [B], intensities
    brain: Floats  # [B], of the whole brain
    counts: Floats  # [P], voxels of each parcel
    histograms: Floats  # [P, B], each of sum 1
    tissues: npt.NDArray[np.int64]  # [P], indices into TISSUES

    @classmethod
    def of(cls, values: Array, regions: Array) -> RegionHistograms:
        sample, labels = to_numpy(values, "values"), to_numpy(regions, "regions")
        if labels.shape != sample.shape or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"regions: got {labels.dtype} of shape {labels.shape}, expected integers of the values' shape "
                f"{sample.shape}; take tissue_regions at the values' voxels"
            )
        sample, labels = sample.reshape(-1).astype(np.float64), labels.reshape(-1).astype(np.int64)
        bad = sample.size - int(np.count_nonzero(np.isfinite(sample)))
        if bad:
            raise ValueError(f"values: got {bad} NaN or infinite of {sample.size}, expected none; clean the scan first")
        known = int(np.count_nonzero(labels))
        if known < _FEWEST_VOXELS or labels.min() < 0:
            raise ValueError(
                f"regions: got {known} voxels in one, expected at least {_FEWEST_VOXELS} and none below 0; check that "
                f"the scan is registered to the template"
            )
        low, high = np.percentile(sample, [0.05, 99.95])
        if low == high:
            raise ValueError(
                f"values: got {low:g} nearly everywhere in the brain, expected a scan with tissue contrast; check that"
                " the mask is this scan's, and the scan no mask"
            )
        width = (high - low) / _BINS
        bins = np.clip(((sample - low) / width).astype(np.int64), 0, _BINS - 1)
        table = np.bincount(labels * _BINS + bins, minlength=_BINS).astype(np.float64)
        table = np.pad(table, (0, -len(table) % _BINS)).reshape(-1, _BINS)
        counts = table.sum(axis=1)
        parcels = np.flatnonzero(counts[1:]) + 1
        return cls(
            centres=low + width * (np.arange(_BINS) + 0.5),
            brain=table.sum(axis=0),
            counts=counts[parcels],
            histograms=table[parcels] / counts[parcels, None],
            tissues=(parcels - 1) % len(TISSUES),
        )

    @cached_property
    def weights(self) -> Floats:
        """Of each parcel `[P]`: a tissue's weight is shared by its voxels; the sum is 1."""
        totals = np.bincount(self.tissues, self.counts, len(TISSUES))
        weights = (TISSUE_WEIGHTS / np.maximum(totals, 1))[self.tissues] * self.counts
        return weights / weights.sum()

    @cached_property
    def mean(self) -> float:
        return float(self.weights @ self.histograms @ self.centres)

    @cached_property
    def std(self) -> float:
        return math.sqrt(self.weights @ self.histograms @ np.square(self.centres - self.mean))

    @cached_property
    def standard(self) -> Floats:
        """The bins' centres, standardised by the regions' mean and standard deviation."""
        return (self.centres - self.mean) / self.std

    def of_tissues(self) -> Floats:
        """Histogram of each tissue, of sum 1 (0 where the scan shows none): `[3, B]`."""
        pooled = np.stack([self.counts[self.tissues == i] @ self.histograms[self.tissues == i] for i in range(3)])
        return pooled / np.maximum(pooled.sum(axis=1, keepdims=True), 1)

    def moments(self, scores: Floats) -> tuple[float, float]:
        """Mean and standard deviation of the whole brain once its bins have these scores."""
        share = self.brain / self.brain.sum()
        mean = float(share @ scores)
        return mean, math.sqrt(share @ np.square(scores - mean))
