"""Detector by the distance to the mean healthy image at each place, without a learned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lesioncore.data.grid import SliceGrid
from lesioncore.data.resample import AxisResampler
from lesioncore.data.stack import SliceStack
from lesioncore.detectors.base import Progress
from lesioncore.detectors.deviation import DeviationDetector, scoring_by
from lesioncore.detectors.sign import Sign
from lesioncore.models.healthy_mean import HealthyMean, HealthyMeanConfig, check_size, spacing_of
from lesioncore.models.prior import PriorMetadata
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.volumes import Volume, check_several


class MeanDistance(DeviationDetector):
    """Distance of each pixel to the mean healthy image.

    Parameters
    ----------
    model : HealthyMean
        From :meth:`fit` or :func:`lesioncore.load_detector`.
    normalize : bool
        Divide by the healthy standard deviation at each place.
    sign, smoothing, standardize
        As for :class:`~lesioncore.detectors.ProjectionDetector`.
    """

    name = "mean-distance"

    def __init__(
        self,
        model: HealthyMean,
        *,
        normalize: bool = False,
        sign: Sign = None,
        smoothing: float = 0.0,
        standardize: bool = True,
    ) -> None:
        super().__init__(scoring_by(sign, smoothing=smoothing, standardize=standardize))
        self.model = model
        self.normalize = bool(normalize)
        self.metadata = model.metadata or PriorMetadata(self.name)

    @classmethod
    def fit(
        cls,
        healthy: Sequence[Volume | SliceStack],
        metadata: PriorMetadata,
        *,
        masks: Sequence[Volume] | None = None,
        normalize: bool = False,
        sign: Sign = None,
        smoothing: float = 0.0,
        standardize: bool = True,
    ) -> MeanDistance:
        """Average healthy scans.

        Parameters
        ----------
        healthy : sequence of volumes or SliceStack
            Scans of healthy people in template space; they may be prepared already, with the same `metadata`.
        metadata : PriorMetadata
            Name, grid and intensities.
        masks : sequence of volumes, optional
            Brain masks; derived when absent.
        normalize, sign, smoothing, standardize
            As for the class.

        Returns
        -------
        MeanDistance
            Detector without thresholds.

        Raises
        ------
        ValueError
            If there are no scans, the numbers of scans and masks differ, `metadata` has no grid, a scan has no brain,
            or slices are of another size.
        """
        check_several(healthy, masks)
        if metadata.grid is None:
            raise ValueError("metadata: has no grid; a mean image needs one, such as SliceGrid(2.0, (100, 100))")
        moments = _Moments(metadata.grid)
        for index, scan in enumerate(healthy):
            mask = None if masks is None else masks[index]
            moments.add(scan if isinstance(scan, SliceStack) else prepare(scan, metadata, mask=mask))
        # A calibration of the metadata belongs to another detector.
        model = moments.model(replace(metadata, calibration=None, fingerprint=None))
        return cls(model, normalize=normalize, sign=sign, smoothing=smoothing, standardize=standardize)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "normalize": self.normalize}

    def deviation_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        deviations = []
        for stack in stacks:
            mean, deviation = self.model.at(stack)
            distance = stack.slices - mean
            deviations.append(torch.where(stack.mask, distance / deviation if self.normalize else distance, 0.0))
        return deviations


class _Moments:
    """Sums over scans at each place, aligned at the top of the brain; index 0 is the topmost slice."""

    def __init__(self, grid: SliceGrid) -> None:
        self.grid = grid
        self.sums = torch.zeros(3, 0, 1, *grid.shape, dtype=torch.float64)  # count, sum, sum of squares

    def add(self, stack: SliceStack) -> None:
        check_size(stack, self.grid.shape)
        rows = stack.brain_rows.nonzero()[:, 0]
        if len(rows) == 0:
            raise ValueError("healthy: a stack has no pixel of brain; check its mask")
        step = self.grid.voxel_size / spacing_of(stack, self.grid.voxel_size)
        count = int((int(rows[-1]) - int(rows[0])) / step + 1e-6) + 1
        resample = AxisResampler.overlap(count, float(rows[-1]) - (count - 1) * step, step, len(stack.slices))
        weight = resample(stack.mask.double(), 0).flip(0)
        inside = weight > 0.5
        values = resample(torch.where(stack.mask, stack.slices, 0.0).double(), 0).flip(0) / weight
        values = torch.where(inside, values, 0.0)
        if count > self.sums.shape[1]:
            lower_slices = self.sums.new_zeros(3, count - self.sums.shape[1], *self.sums.shape[2:])
            self.sums = torch.cat([self.sums, lower_slices], 1)
        self.sums[:, :count] += torch.stack([inside.double(), values, values.square()])

    def model(self, metadata: PriorMetadata) -> HealthyMean:
        count, total, squares = self.sums.flip(1)
        overall = total.sum() / count.sum()
        variance = (squares.sum() / count.sum() - overall.square()).clamp_min(1e-12)
        mean = torch.where(count > 0, total / count.clamp_min(1), overall)
        # One pseudo-observation of the overall variance keeps a deviation of few brains from being near 0 by chance.
        squared_deviations = (squares - count * torch.where(count > 0, mean, 0.0).square()).clamp_min(0)
        deviation = ((squared_deviations + variance) / (count + 1)).sqrt()
        model = HealthyMean(HealthyMeanConfig(self.grid.shape, len(mean), self.grid.voxel_size), metadata)
        model.mean.copy_(mean)
        model.deviation.copy_(deviation)
        model.overall.copy_(torch.stack([overall, variance.sqrt()]))
        return model.eval()
