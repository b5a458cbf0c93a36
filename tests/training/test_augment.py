"""Augmentation: what it may change, what it must not, and that each slice is on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from lesioncore.data.grid import SliceGrid
from lesioncore.models import PriorMetadata
from lesioncore.preprocess.intensity import IntensityScale
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.scan import BACKGROUND
from lesioncore.training.augment import Augmentation, augment

EVERYTHING = Augmentation(
    rotation=20, scaling=0.1, translation=3, elastic=3, gain=0.2, offset=0.3, gamma=0.2, bias=0.2, noise=0.1
)
SHAPE = (41, 38)


def batch(n: int = 6, shape: tuple[int, int] = SHAPE) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images in elliptic brains with a lesion, right of the middle."""
    i, j = torch.meshgrid(*(torch.linspace(-1, 1, length) for length in shape), indexing="ij")
    k = torch.arange(n).view(-1, 1, 1, 1)
    brain = (i**2 + (j * 1.2) ** 2 < 0.5 + 0.02 * k).expand(n, 1, *shape)
    lesion = (i - 0.3) ** 2 + j**2 < 0.04
    slices = torch.sin(4 * i + k) + j
    labels = brain.to(torch.uint8) + (brain & lesion).to(torch.uint8)
    return torch.where(brain, slices, BACKGROUND), labels


class Draws:
    """Random numbers of each slice's own, whichever part of the batch is asked for."""

    def __init__(self, n: int, part: slice = slice(None), seed: int = 0) -> None:
        self.n, self.part, self.stream = n, part, torch.Generator().manual_seed(seed)

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(self.n, *shape, generator=self.stream)[self.part]

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(self.n, *shape, generator=self.stream)[self.part]


class Fixed(Draws):
    """The same uniform number at each place."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.full((6, *shape), self.value)


def run(config: Augmentation, draws: Draws, data=None) -> tuple[torch.Tensor, torch.Tensor]:
    return augment(*(data or batch()), config, draws.uniform, draws.normal)


def only(**options: float) -> Augmentation:
    return Augmentation(**{"flip": 0.0, **options})


def test_nothing_changes_when_all_is_off():
    slices, labels = batch()
    found = run(only(), Draws(6), (slices, labels))
    assert torch.equal(found[0], slices)
    assert torch.equal(found[1], labels)


def test_mirroring_is_exact_and_half_of_the_slices_are_mirrored_by_default():
    slices, labels = batch(200)
    found, moved = run(Augmentation(), Draws(200), (slices, labels))
    same = (found == slices).flatten(1).all(1)
    flipped = (found == slices.flip(2)).flatten(1).all(1)
    assert torch.equal(same, ~flipped)
    assert 70 < int(flipped.sum()) < 130
    assert torch.equal(moved, torch.where(flipped.view(-1, 1, 1, 1), labels.flip(2), labels))


def test_mirroring_is_left_to_right():
    """A scan in RAS+ order whose right half is bright has its bright half on the left afterwards."""
    volume = np.zeros((20, 18, 4), np.float32)
    volume[4:16, 4:14] = 100 + np.arange(12)[:, None, None] + 0.01 * np.arange(10)[:, None]
    scale = IntensityScale.fit(volume[volume > 0])
    scan = prepare(volume, PriorMetadata("test", grid=SliceGrid(2.0, (20, 18)), intensity=scale))
    labels = scan.mask.to(torch.uint8)
    draws = Draws(len(labels))
    found, _ = augment(scan.slices, labels, only(flip=1.0), draws.uniform, draws.normal)
    other_way = prepare(volume[::-1].copy(), PriorMetadata("test", grid=SliceGrid(2.0, (20, 18)), intensity=scale))
    assert torch.equal(found, other_way.slices)
    assert not torch.equal(found, scan.slices)


def test_background_is_exact_and_labels_move_with_their_slices():
    slices, labels = batch()
    found, moved = run(EVERYTHING, Draws(6))
    assert moved.dtype == torch.uint8
    assert found.dtype == torch.float32
    assert set(moved.unique().tolist()) == {0, 1, 2}
    assert bool((found[moved == 0] == BACKGROUND).all())
    assert not torch.equal(moved, labels)
    # Nothing of the background is mixed into the brain.
    found, moved = run(only(rotation=30, scaling=0.2, translation=3, elastic=3), Draws(6))
    inside = slices[labels > 0]
    assert bool((found[moved > 0] >= inside.min() - 1e-5).all())
    assert bool((found[moved > 0] <= inside.max() + 1e-5).all())
    assert bool((found[moved == 0] == BACKGROUND).all())


def test_a_slice_follows_its_label():
    """With the label as the image, moving one is moving the other, up to the interpolation at its borders."""
    _, labels = batch()
    slices = torch.where(labels > 0, labels.float(), BACKGROUND)
    found, moved = run(only(rotation=30, scaling=0.2, translation=4, elastic=3), Draws(6), (slices, labels))
    assert bool(
        ((found - moved).abs()[moved > 0] <= 0.75 + 1e-5).all()
    )  # the nearest pixel has a quarter of the weight
    assert float((found[moved > 0] == moved[moved > 0]).float().mean()) > 0.8


def test_whole_turns_and_shifts_are_exact():
    """Half a turn mirrors both axes; a shift by whole pixels is a roll, where there is room around the brain."""
    slices, labels = batch()
    found, moved = run(only(rotation=180), Fixed(1.0))
    assert torch.equal(moved, labels.flip(2, 3))
    torch.testing.assert_close(found, slices.flip(2, 3), rtol=0, atol=2e-5)
    found, moved = run(only(translation=3), Fixed(1.0))
    assert torch.equal(moved, labels.roll((-3, -3), (2, 3)))
    torch.testing.assert_close(found, slices.roll((-3, -3), (2, 3)), rtol=0, atol=2e-5)


def test_rotation_and_scaling_keep_shapes_in_millimetres():
    """Pixels are square also where slices are not: a disc stays a disc of the scaled area."""
    i, j = torch.meshgrid(torch.arange(60.0) - 29.5, torch.arange(44.0) - 21.5, indexing="ij")
    disc = (i**2 + j**2 < 12**2).expand(6, 1, 60, 44)
    data = torch.where(disc, 1.0, BACKGROUND), disc.to(torch.uint8)
    _, turned = run(only(rotation=37), Fixed(1.0), data)
    assert float((turned != data[1]).float().mean()) < 0.01
    _, larger = run(only(scaling=0.2), Fixed(1.0), data)
    assert int(larger.sum()) == pytest.approx(1.2**2 * int(data[1].sum()), rel=0.03)


def test_intensities_as_documented():
    slices, labels = batch()
    brain = labels > 0
    found, _ = run(only(gain=0.2, offset=0.3), Fixed(1.0))
    torch.testing.assert_close(found[brain], 1.2 * slices[brain] + 0.3)
    found, moved = run(only(gamma=0.5), Fixed(1.0))
    share = (slices[brain].double() + 3.5) / 7
    torch.testing.assert_close(found[brain].double(), 7 * share**1.5 - 3.5, rtol=0, atol=1e-5)
    assert torch.equal(moved, labels)
    draws = Draws(6)
    found, _ = run(only(noise=0.5), draws)
    noise = torch.where(brain, found - slices, 0).flatten(1)
    strength = noise.square().sum(1).div(brain.flatten(1).sum(1)).sqrt()
    torch.testing.assert_close(strength, 0.5 * Draws(6).uniform(5)[:, 4], rtol=0.1, atol=0)
    found, _ = run(only(bias=0.5), Draws(6))
    field = torch.where(brain, found - slices, 0)
    step = torch.where(brain[:, :, 1:] & brain[:, :, :-1], field.diff(dim=2), 0).abs().max()
    assert 0 < float(step) < 0.2 * float(field.abs().max())


@pytest.mark.parametrize("part", [slice(0, 2), slice(2, 6), slice(3, 4)])
def test_a_slice_does_not_depend_on_its_batch(part):
    slices, labels = batch()
    whole = augment(slices, labels, EVERYTHING, (d := Draws(6)).uniform, d.normal)
    alone = augment(slices[part], labels[part], EVERYTHING, (d := Draws(6, part)).uniform, d.normal)
    assert torch.equal(whole[0][part], alone[0])
    assert torch.equal(whole[1][part], alone[1])


def test_the_same_draws_give_the_same_and_the_input_is_left_alone():
    slices, labels = batch()
    before = slices.clone(), labels.clone()
    first, again, other = (run(EVERYTHING, Draws(6, seed=seed), (slices, labels)) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(slices, before[0])
    assert torch.equal(labels, before[1])


@given(st.integers(0, 2**32 - 1), st.sampled_from([(41, 38), (60, 50), (20, 18), (97, 25)]))
def test_the_strongest_deformation_does_not_fold(seed, shape):
    """Extreme nodes, +-3 pixels at random: places along an axis stay in order."""
    from lesioncore.training.augment import _places

    stream = torch.Generator().manual_seed(seed)

    def extremes(*size: int) -> torch.Tensor:
        if size == (4, 1, 1):
            return torch.full((2, *size), 0.5)  # no rotation, scaling or translation
        return torch.randint(0, 2, (2, *size), generator=stream).double()

    rows, columns = _places(shape, only(elastic=3), extremes, torch.zeros(1, dtype=torch.float64))
    down, right = (
        torch.stack([rows.diff(dim=axis)[:, : shape[0] - 1, : shape[1] - 1] for axis in (1, 2)]),
        torch.stack([columns.diff(dim=axis)[:, : shape[0] - 1, : shape[1] - 1] for axis in (1, 2)]),
    )
    assert float((down[0] * right[1] - down[1] * right[0]).min()) > 0


@pytest.mark.parametrize(
    "wrong",
    [{"flip": 1.5}, {"rotation": -1}, {"noise": float("nan")}, {"gain": 1.0}, {"elastic": 4.0}, {"bias": float("inf")}],
)
def test_bad_options_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: got"):
        Augmentation(**wrong)


def test_labels_of_another_shape_are_refused():
    slices, labels = batch()
    with pytest.raises(ValueError, match="slices, labels"):
        augment(slices, labels[:, 0], Augmentation(), Draws(6).uniform, Draws(6).normal)


@pytest.mark.needs_cuda
def test_the_device_of_the_batch():
    slices, labels = batch()
    expected = run(EVERYTHING, Draws(6))
    draws = Draws(6)
    found = augment(
        slices.cuda(),
        labels.cuda(),
        EVERYTHING,
        lambda *shape: draws.uniform(*shape).cuda(),
        lambda *shape: draws.normal(*shape).cuda(),
    )
    assert found[0].device.type == "cuda"
    same = found[1].cpu() == expected[1]
    assert float(same.float().mean()) > 0.999
    torch.testing.assert_close(found[0].cpu()[same], expected[0][same], rtol=0, atol=1e-3)
