"""Random changes of training slices, each slice's own, on the device of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from lesioncore.restoration.scan import BACKGROUND

_ELASTIC_SPACING = 24.0
# Nodes moved by at most an eighth of their spacing cannot fold the image: cubic convolution changes either component of
# the displacement by less than 5.3 / 8 of a pixel from one pixel to the next, whichever way.
_LARGEST_ELASTIC = _ELASTIC_SPACING / 8
_BIAS_NODES = 4
_GAMMA_REACH = 3.5


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training slices; 0 switches one off. All but mirroring are off by default.

    A prior is to hold what healthy brains look like after registration and intensity standardisation, so a change pays
    only where it stays within what the preprocessing leaves: a brain mirrored about its midline is as likely as itself,
    while every other change makes room for images that scans of the same kind may never show.

    Parameters
    ----------
    flip : float
        Probability that a slice is mirrored left to right.
    rotation : float
        Largest rotation in degrees, either way.
    scaling : float
        Largest relative change of size: 0.1 scales by 1/1.1 to 1.1.
    translation : float
        Largest shift along either axis, in pixels.
    elastic : float
        Strength of a smooth deformation, in pixels: its nodes, 24 pixels apart, move by up to this much along either
        axis. At most 3, below which it cannot fold.
    gain : float
        Largest relative change of the z-scores' scale, about 0.
    offset : float
        Largest shift of the z-scores.
    gamma : float
        Largest relative change of the exponent that bends the z-scores between -3.5 and 3.5, which both stay.
    bias : float
        Largest standard deviation (z-score) of a smooth additive field; each slice draws its own.
    noise : float
        Largest standard deviation (z-score) of white noise; each slice draws its own.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    flip: float = 0.5
    rotation: float = 0.0
    scaling: float = 0.0
    translation: float = 0.0
    elastic: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    gamma: float = 0.0
    bias: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        most = {"flip": 1.0, "rotation": 180.0, "elastic": _LARGEST_ELASTIC}
        for field in fields(self):
            value = getattr(self, field.name)
            limit = most.get(field.name, math.inf)
            if not (0 <= value <= limit and math.isfinite(value)):
                expected = f"0 to {limit:g}" if math.isfinite(limit) else "a finite number >= 0"
                raise ValueError(f"{field.name}: got {value}, expected {expected}")
        if self.gain >= 1:
            raise ValueError(f"gain: got {self.gain}, expected less than 1; a scale of 0 leaves no image")

    @property
    def moves(self) -> bool:
        """Whether slices are interpolated at other places."""
        return any((self.rotation, self.scaling, self.translation, self.elastic))


def augment(
    slices: Tensor,
    labels: Tensor,
    config: Augmentation,
    uniform: Callable[..., Tensor],
    normal: Callable[..., Tensor],
    *,
    background: float = BACKGROUND,
) -> tuple[Tensor, Tensor]:
    """Change a batch at random, each slice on its own.

    Labels move with their slices, to the nearest pixel, and decide where there is brain; its values are linearly
    interpolated among brain pixels alone, so that the background never mixes into the brain's rim.

    Parameters
    ----------
    slices, labels : Tensor
        ``[n, 1, H, W]`` z-scores, and uint8 labels: 0 background, else brain. They are left as they are.
    config : Augmentation
        What to change, and how much.
    uniform, normal : callable
        ``uniform(*shape)`` in [0, 1) and ``normal(*shape)``, each ``[n, *shape]`` on the slices' device.
    background : float
        What the slices are outside the brain, before and after.

    Returns
    -------
    slices, labels : Tensor
        ``[n, 1, H, W]``, of the same dtypes.

    Raises
    ------
    ValueError
        If the shapes differ or are not ``[n, 1, H, W]``.
    """
    if slices.dim() != 4 or slices.shape[1] != 1 or labels.shape != slices.shape:
        raise ValueError(
            f"slices, labels: got shapes {tuple(slices.shape)} and {tuple(labels.shape)}, expected [n, 1, H, W] both"
        )
    if config.flip > 0:
        mirrored = uniform(1, 1, 1) < config.flip
        # Height runs from left to right (SliceGrid).
        slices, labels = torch.where(mirrored, slices.flip(2), slices), torch.where(mirrored, labels.flip(2), labels)
    if config.moves:
        slices, labels = _move(slices, labels, config, uniform, background)
    if any((config.gain, config.offset, config.gamma, config.bias, config.noise)):
        changed = _change_intensities(slices, config, uniform, normal)
        slices = torch.where(labels > 0, changed, background)
    return slices, labels


def _move(
    slices: Tensor, labels: Tensor, config: Augmentation, uniform: Callable[..., Tensor], background: float
) -> tuple[Tensor, Tensor]:
    height, width = slices.shape[2:]
    places = _places((height, width), config, uniform, slices)
    grid = torch.stack([(2 * places[1] + 1) / width - 1, (2 * places[0] + 1) / height - 1], -1)
    brain = labels > 0
    channels = torch.cat([torch.where(brain, slices - background, 0), brain.to(slices.dtype)], 1)
    value, weight = F.grid_sample(channels, grid, align_corners=False).split(1, 1)
    nearest = F.grid_sample(labels.to(slices.dtype), grid, mode="nearest", align_corners=False).to(labels.dtype)
    # The nearest pixel has at least a quarter of the weight: no division by nothing where it is brain.
    return torch.where(nearest > 0, value / weight + background, background), nearest


def _places(
    shape: tuple[int, int], config: Augmentation, uniform: Callable[..., Tensor], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Places that the pixels of the result are taken from: rows and columns ``[n, H, W]``, in pixels.

    Element by element and not by matrix products, whose rounding may depend on the size of the batch.
    """
    centre = [(length - 1) / 2 for length in shape]
    rows, columns = (
        torch.arange(length, dtype=like.dtype, device=like.device) - c for length, c in zip(shape, centre, strict=True)
    )
    draws = 2 * uniform(4, 1, 1) - 1
    angle = draws[:, 0] * math.radians(config.rotation)
    scale = torch.exp(draws[:, 1] * math.log1p(config.scaling))
    sine, cosine = torch.sin(angle) / scale, torch.cos(angle) / scale
    rows, columns = rows.view(1, -1, 1), columns.view(1, 1, -1)
    from_row = cosine * rows - sine * columns + (centre[0] + config.translation * draws[:, 2])
    from_column = sine * rows + cosine * columns + (centre[1] + config.translation * draws[:, 3])
    if config.elastic > 0:
        nodes = [max(2, int((length - 1) / _ELASTIC_SPACING) + 1) for length in shape]
        shift = smooth(config.elastic * (2 * uniform(2, *nodes) - 1), shape)
        from_row, from_column = from_row + shift[:, 0], from_column + shift[:, 1]
    return from_row, from_column


def _change_intensities(
    slices: Tensor, config: Augmentation, uniform: Callable[..., Tensor], normal: Callable[..., Tensor]
) -> Tensor:
    draws = uniform(5, 1, 1, 1)
    spread = 2 * draws - 1
    if config.gamma > 0:
        share = (slices + _GAMMA_REACH) / (2 * _GAMMA_REACH)
        bent = share.clamp_min(0).pow(torch.exp(spread[:, 0] * math.log1p(config.gamma)))
        slices = torch.where(share > 0, 2 * _GAMMA_REACH * bent - _GAMMA_REACH, slices)
    slices = slices * (1 + config.gain * spread[:, 1]) + config.offset * spread[:, 2]
    if config.bias > 0:
        nodes = normal(1, _BIAS_NODES, _BIAS_NODES)
        slices = slices + config.bias * draws[:, 3] * smooth(nodes, (slices.shape[2], slices.shape[3]))
    if config.noise > 0:
        slices = slices + config.noise * draws[:, 4] * normal(*slices.shape[1:])
    return slices


def smooth(nodes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Cubic interpolation of nodes ``[n, c, p, q]`` that are spread over a slice: ``[n, c, H, W]``."""
    return F.interpolate(nodes, shape, mode="bicubic", align_corners=True)
