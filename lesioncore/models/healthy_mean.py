"""The mean and standard deviation of healthy brains at each place of the template."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lesioncore.data.resample import AxisResampler
from lesioncore.data.stack import SliceStack
from lesioncore.models.prior import PriorMetadata
from lesioncore.models.registry import register_model


@dataclass(frozen=True)
class HealthyMeanConfig:
    """Size of a :class:`HealthyMean`.

    Parameters
    ----------
    image_shape : tuple of int
        Slice height and width in pixels.
    slices : int
        Number of slices, from the lowest to that of the top of the brain.
    spacing : float
        Distance between them in mm.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    image_shape: tuple[int, int]
    slices: int
    spacing: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        if len(self.image_shape) != 2 or min(*self.image_shape, self.slices) < 1 or not self.spacing > 0:
            raise ValueError(f"image_shape, slices, spacing: got {self}, expected positive sizes")


class HealthyMean(nn.Module):
    """Mean and standard deviation of healthy brains at each place of the template space.

    Places correspond as scans come onto a :class:`~lesioncore.SliceGrid`: in the plane, by the centre of the brain
    mask's bounding box; through the slices, by the distance from the topmost slice with brain. Rotation and size are
    taken as they are, so scans must be registered to the template, and reach the top of the brain. Where none of the
    healthy brains had a pixel, the mean and deviation of all pixels stand in.

    Parameters
    ----------
    config : HealthyMeanConfig
        Size.
    metadata : PriorMetadata, optional
        Grid and intensities of the slices that it was made from.
    """

    mean: Tensor
    deviation: Tensor
    overall: Tensor

    def __init__(self, config: HealthyMeanConfig, metadata: PriorMetadata | None = None) -> None:
        super().__init__()
        self.config = config
        self.metadata = metadata
        shape = (config.slices, 1, *config.image_shape)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))
        self.register_buffer("overall", torch.tensor([0.0, 1.0]))

    def at(self, stack: SliceStack) -> tuple[Tensor, Tensor]:
        """Mean and deviation at the places of a stack's slices, ``[N, 1, H, W]`` each.

        Raises
        ------
        ValueError
            If the slices are of another size.
        """
        check_size(stack, self.config.image_shape)
        step = spacing_of(stack, self.config.spacing) / self.config.spacing
        start = self.config.slices - 1 - top_of(stack) * step
        along = AxisResampler.overlap(len(stack.slices), start, step, self.config.slices, strict=True)
        known = along(torch.ones(self.config.slices, 1, 1, 1), 0)
        images = []
        for image, elsewhere in zip((self.mean, self.deviation), self.overall, strict=True):
            images.append(torch.where(known > 0, along(image.cpu(), 0) / known, elsewhere.cpu()))
        return images[0], images[1]


register_model("healthy-mean", HealthyMean, HealthyMeanConfig)


def top_of(stack: SliceStack) -> int:
    """Index of the topmost slice with brain; slices go from inferior to superior."""
    rows = stack.brain_rows.nonzero()[:, 0]
    return int(rows[-1]) if len(rows) else len(stack.slices) - 1


def spacing_of(stack: SliceStack, default: float) -> float:
    return default if stack.voxel_size is None else stack.voxel_size[2]


def check_size(stack: SliceStack, shape: tuple[int, int]) -> None:
    if tuple(stack.slices.shape[2:]) != shape:
        raise ValueError(
            f"slices: got {tuple(stack.slices.shape[2:])} pixels, expected {shape}, those of the mean image"
        )
