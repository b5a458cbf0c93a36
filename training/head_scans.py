"""Random scans of a head: any contrast, lesions, tilt, field of view, resolution, artefacts, stripped or not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lesioncore.training.heads import GROUPS, Head

# Knots of the curves that recolour what lies outside the brain, in T1w intensity: many where bone, eyes, muscle are.
_KNOTS = (0.0, 0.06, 0.12, 0.18, 0.26, 0.36, 0.5, 0.7, 1.0, 1.5)
_BONE_BELOW = 0.12


class Draws:
    """Random numbers of one example, by a generator of its own."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def chance(self, probability: float) -> bool:
        """Whether something happens."""
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """One of low, ..., high - 1."""
        return int(torch.randint(low, high, (), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator)

    def field(self, shape: Sequence[int], spacing: float, channels: int = 1) -> Tensor:
        """A smooth random field ``[channels, X, Y, Z]`` of about unit variance, with nodes `spacing` voxels apart."""
        nodes = [max(2, round(length / spacing) + 1) for length in shape]
        coarse = self.normal(1, channels, *nodes)
        return F.interpolate(coarse, tuple(shape), mode="trilinear", align_corners=True)[0]


def draw_anatomy(head: Head, shape: tuple[int, int, int], draws: Draws) -> Tensor:
    """Draw a contrast, lesions and a place in the scanner for one head: what :func:`draw_scan` acquires.

    Parameters
    ----------
    head : Head
        The anatomy.
    shape : tuple of int
        Shape of the result, in voxels of 2 mm.
    draws : Draws
        Where the random numbers come from.

    Returns
    -------
    Tensor
        float32 ``[4, *shape]``: image, conventional mask, core, and what stripping or defacing leaves of the head.
    """
    image = _recoloured(head, draws) if draws.chance(0.4) else _rendered(head, draws)
    brain, core = head.brain, head.core
    if draws.chance(0.4):
        image = _lesioned(image, brain if draws.chance(0.5) else core, head, draws)
    return _moved(torch.stack([image, brain.float(), core.float(), _kept(head, draws)]), shape, head, draws)


def draw_scan(anatomy: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Draw one scan of what :func:`draw_anatomy` gave, and where its brain is.

    Returns
    -------
    scan, labels : Tensor
        float32 ``[1, X, Y, Z]``, in no particular unit, and ``[2, X, Y, Z]``: conventional mask and core, 0 or 1.
    """
    image, labels, kept = anatomy[:1], (anatomy[1:3] > 0.5).float(), anatomy[3:] > 0.5
    if draws.chance(0.3):
        image = image.clamp_min(0).pow(math.exp(draws.uniform(-0.3, 0.3)))
    image = _acquired(image, draws)
    kept = kept & _field_of_view(labels[0], draws)
    # Where a scan was stripped or cut it is exactly 0 as a rule; the ripples of a spline are small.
    ripple = 0.02 * draws.normal(*image.shape) if draws.chance(0.1) else 0.0
    return torch.where(kept, image, ripple), labels * kept


def _recoloured(head: Head, draws: Draws) -> Tensor:
    """The real T1w scan through a random curve."""
    image = head.t1.float()
    kind = draws.uniform()
    if kind < 0.6:
        return image.clamp(0, 2).pow(math.exp(draws.uniform(-0.5, 0.5)))
    knots = torch.linspace(0, 1.6, 8)
    if kind < 0.85:  # monotone
        heights = (0.1 + draws.normal(8).abs()).cumsum(0)
        heights = (heights - heights[0]) / (heights[-1] - heights[0])
    else:
        heights = draws.normal(8).abs()
        heights[0] = heights[0] if draws.chance(0.3) else 0.0
    return curve(image, knots, heights)


def _rendered(head: Head, draws: Draws) -> Tensor:
    """A random contrast of the same anatomy: most of them like T2w or FLAIR."""
    kind = draws.uniform()
    grey, fat, dark = draws.uniform(0.35, 0.7), draws.uniform(0.3, 1.3), draws.uniform(0.0, 0.12)
    if kind < 0.4:  # T2w
        csf, white = draws.uniform(0.75, 1.3), grey - draws.uniform(0.0, 0.25)
    elif kind < 0.7:  # FLAIR
        csf, white = draws.uniform(0.0, 0.25), grey - draws.uniform(-0.08, 0.2)
    elif kind < 0.82:  # T1w
        csf, white = draws.uniform(0.0, 0.35), grey + draws.uniform(0.05, 0.4)
    else:
        csf, grey, white = (draws.uniform(0.02, 1.1) for _ in range(3))
        dark = draws.uniform(0.0, 0.8)
    shape = head.t1.shape
    part_csf, part_white = head.csf.float() / 255, head.white.float() / 255
    fluid = torch.full(shape, csf)
    if draws.chance(0.5):  # the outermost fluid is mixed with dura and veins
        mixed = (draws.uniform(0, 0.8) + 0.5 * draws.field(shape, draws.uniform(3, 8))[0]).clamp(0, 1)
        mixed = mixed * (head.distance > -draws.uniform(3, 9))
        fluid = torch.lerp(fluid, torch.full(shape, draws.uniform(0.05, 0.8)), mixed)
    inside = grey + (fluid - grey) * part_csf + (white - grey) * part_white
    offsets = 0.06 * draws.uniform() * draws.normal(GROUPS)
    offsets[1] = 0.0  # CSF around the brain; that of the ventricles may flow
    inside = inside + offsets[head.group.long()]
    inside = inside * (1 + 0.08 * draws.uniform() * draws.field(shape, draws.uniform(1.5, 6))[0])

    heights = torch.tensor([dark, dark, dark, *(draws.uniform(0.05, 0.6) for _ in range(4)), fat, fat, fat])
    if kind >= 0.82 or draws.chance(0.3):
        heights[1:] = torch.tensor([draws.uniform(0.0, 1.2) for _ in range(9)])
    outside = draw_surroundings(head, heights, csf, draws)
    return torch.lerp(outside, inside, brain_share(head) if draws.chance(0.7) else head.brain.float())


def draw_surroundings(head: Head, heights: Tensor, csf: float, draws: Draws) -> Tensor:
    """Draw what lies around the brain, and air.

    Parameters
    ----------
    head : Head
        The anatomy.
    heights : Tensor
        ``[10]``: what the T1w intensities 0, .06, .12, .18, .26, .36, .5, .7, 1 and 1.5 (white matter is 1) become;
        the first is bone's.
    csf : float
        Level of the fluid that may lie beyond the mask.
    draws : Draws
        Where the random numbers come from.

    Returns
    -------
    Tensor
        float32 ``[X, Y, Z]``; of no meaning within the brain.
    """
    shape, t1, dark = head.t1.shape, head.t1.float(), float(heights[0])
    wander = 0.12 * draws.uniform() * draws.field(shape, draws.uniform(3, 10))[0]
    outside = curve((t1 + wander * (t1 > 0.05)).clamp_min(0), torch.tensor(_KNOTS), heights)
    bone = head.solid & (t1 < _BONE_BELOW)
    outside = torch.where(bone, dark * draws.uniform(0.5, 1.5), outside)
    if draws.chance(0.15):  # CSF that the mask left out, as far as dura is
        shell = bone & (head.distance <= draws.uniform(2, 4))
        outside = torch.where(shell, csf, outside)
    air = 0.0 if draws.chance(0.9) else draws.uniform(0.0, 0.4)
    return torch.where(head.solid, outside * (1 + 0.1 * draws.field(shape, 2.5)[0]), air)


def brain_share(head: Head) -> Tensor:
    """Share of the brain in each voxel: its surface runs between them, so that the edge is partial volume."""
    return (0.5 - head.distance.float() / 4).clamp(0, 1)


def _lesioned(image: Tensor, where: Tensor, head: Head, draws: Draws) -> Tensor:
    """Bright, dark or mixed bodies with ragged surfaces inside `where`, up to some 6 cm across.

    Every third scan has dark ones at the cortex, which are easily taken for what is around the brain.
    """
    dark = draws.chance(1 / 3)
    places = (head.core & (head.distance > -10) if dark else head.core).nonzero()
    for _ in range(draws.integer(1, 4)):
        centre = places[draws.integer(0, len(places))].float()
        radius = math.exp(draws.uniform(math.log(2.0), math.log(16.0)))
        axes = [torch.arange(n).float() - c for n, c in zip(image.shape, centre, strict=True)]
        scaled = [axis / (radius * draws.uniform(0.6, 1.2)) for axis in axes]
        far = (scaled[0].square()[:, None, None] + scaled[1].square()[:, None] + scaled[2].square()).sqrt()
        far = far + 0.25 * draws.field(image.shape, max(2.0, radius / 2))[0]
        weight = ((1 - far) * draws.uniform(1.5, 8)).clamp(0, 1) * where
        brightest = 0.3 if dark else 1.4
        rim, middle = draws.uniform(0, brightest), draws.uniform(0, brightest)
        colour = rim + (middle - rim) * ((0.7 - far) * 5).clamp(0, 1) if draws.chance(0.4) else torch.tensor(rim)
        image = torch.lerp(image, colour.expand_as(image), weight * draws.uniform(0.5, 1.0))
    return image


def _kept(head: Head, draws: Draws) -> Tensor:
    """Part of the head that stripping or defacing leaves, 0 or 1."""
    kept = torch.ones(head.t1.shape)
    away = head.distance.float()
    if draws.chance(0.3):
        margin = draws.uniform(-2.0, 6.5)
        if draws.chance(0.6):
            away = away + draws.uniform(0, 2.5) * draws.field(head.t1.shape, draws.uniform(3, 10))[0]
        kept = (away < margin).float()
    elif draws.chance(0.2):
        places = [torch.linspace(-1, 1, n) for n in head.t1.shape]
        slope, level = draws.uniform(0.5, 2.0), draws.uniform(-0.1, 0.5)
        face = (places[1][None, :, None] - slope * places[2][None, None, :]) > level
        kept = (~(face & (away > draws.uniform(3, 12)))).float()
    return kept


def _moved(channels: Tensor, shape: tuple[int, int, int], head: Head, draws: Draws) -> Tensor:
    """Tilt, turn, scale, shear, shift and bend a head; what comes from beyond the scan is 0."""
    tilt = 40.0 if draws.chance(0.4) else 12.0
    turn = torch.eye(3)
    for axis in range(3):
        angle = math.radians(draws.uniform(-tilt, tilt))
        first, second = (other for other in range(3) if other != axis)
        step = torch.eye(3)
        step[first, first] = step[second, second] = math.cos(angle)
        step[first, second], step[second, first] = -math.sin(angle), math.sin(angle)
        turn = step @ turn
    if draws.chance(0.2):
        turn = turn @ _quarter_turn(draws)
    if draws.chance(0.5):
        turn[0] = -turn[0]  # a mirrored brain is as good as itself
    scale = torch.tensor([draws.uniform(-1, 1) for _ in range(4)])
    scale = torch.exp(math.log(1.2) * scale[0] + math.log(1.05) * scale[1:])
    matrix = turn @ (torch.diag(1 / scale) + 0.04 * draws.normal(3, 3) * (1 - torch.eye(3)))
    source = torch.tensor(channels.shape[1:]).float()
    middle = head.brain.nonzero().float().mean(0)
    reach = 14 if draws.chance(0.5) else 5  # voxels of shift
    axes = [torch.arange(n).float() - (n - 1) / 2 - draws.uniform(-reach, reach) for n in shape]
    lines = [matrix[:, k] * axes[k].view([-1 if j == k else 1 for j in range(3)] + [1]) for k in range(3)]
    places = (middle + lines[0] + lines[1]) + lines[2]
    if draws.chance(0.4):
        places = places + (draws.uniform(0, 1.2) * draws.field(shape, draws.uniform(10, 24), 3)).permute(1, 2, 3, 0)
    grid = ((2 * places + 1) / source - 1).flip(-1)
    return F.grid_sample(channels[None], grid[None], align_corners=False)[0]


def _quarter_turn(draws: Draws) -> Tensor:
    """One of the 24 rotations that bring the axes onto each other."""
    order = torch.randperm(3, generator=draws.generator)
    turn = torch.eye(3)[order] * (1 - 2 * torch.randint(0, 2, (3, 1), generator=draws.generator))
    return turn * torch.linalg.det(turn)


def _acquired(image: Tensor, draws: Draws) -> Tensor:
    """Apply a coil's bias, resolution, a ghost and noise to ``[1, X, Y, Z]``."""
    shape = image.shape[1:]
    if draws.chance(0.8):
        image = image * torch.exp(draws.uniform(0, 0.6) * draws.field(shape, draws.uniform(30, 80)))
    if draws.chance(0.2):
        image = F.avg_pool3d(image[None], 3, stride=1, padding=1)[0].lerp(image, draws.uniform(0.0, 0.7))
    if draws.chance(0.4):  # slices of up to 7 mm
        axis, thickness = draws.integer(0, 3), draws.uniform(1.2, 3.5)
        coarse = list(shape)
        coarse[axis] = max(2, round(shape[axis] / thickness))
        image = F.interpolate(F.interpolate(image[None], coarse, mode="area"), shape, mode="trilinear")[0]
    if draws.chance(0.1):
        axis = draws.integer(1, 4)
        image = image + draws.uniform(0, 0.15) * image.roll(draws.integer(15, image.shape[axis] - 15), axis)
    if draws.chance(0.7):
        level = draws.uniform(0, 0.08)
        image = image + level * draws.normal(*image.shape)
        image = image.abs() if draws.chance(0.6) else image
    return image


def _field_of_view(brain: Tensor, draws: Draws) -> Tensor:
    """Voxels in the field of view, bool ``[1, X, Y, Z]``: all, or cut through the head at either or both ends."""
    seen = torch.ones_like(brain, dtype=torch.bool)
    if draws.chance(0.3):
        axis = draws.integer(0, 3) if draws.chance(0.5) else 2
        there = brain.movedim(axis, 0).flatten(1).any(1).nonzero()
        if len(there):
            first, last = int(there[0]), int(there[-1])
            reach = max(1, last - first)
            low, high = (draws.uniform(-0.15, 0.35) if draws.chance(0.7) else -9.0 for _ in range(2))
            rows = torch.arange(brain.shape[axis])
            rows = (rows >= first + low * reach) & (rows <= last - high * reach)
            seen &= rows.view([-1 if k == axis else 1 for k in range(3)])
    return seen[None]


def curve(values: Tensor, knots: Tensor, heights: Tensor) -> Tensor:
    """A piecewise linear function through `heights` at increasing `knots`, constant beyond them."""
    segment = torch.bucketize(values, knots[1:-1])
    slopes = heights.diff() / knots.diff()
    return heights[segment] + slopes[segment] * (values.clamp(float(knots[0]), float(knots[-1])) - knots[segment])
