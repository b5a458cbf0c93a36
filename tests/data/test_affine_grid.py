"""Slices of the template's space cut through an affine: true to an independent interpolation, and back in place."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from lesioncore.data.affine_grid import TEMPLATE_HIGH, TEMPLATE_LOW, AffineGridPlan
from lesioncore.data.grid import SliceGrid
from lesioncore.preprocess.template import brain_template

FILL = -3.5
GRID = SliceGrid(2.0, (80, 96))
MIDDLE = np.array([0.0, -17.0, 5.0])  # of the template's brain, mm


def turned(x=0.0, y=0.0, z=0.0):
    """A rotation by degrees about each axis in turn, through the template's middle."""
    matrix = np.eye(4)
    for degrees, (i, j) in ((x, (1, 2)), (y, (0, 2)), (z, (0, 1))):
        one = np.eye(4)
        one[[i, j], [i, j]] = np.cos(np.deg2rad(degrees))
        one[i, j], one[j, i] = -np.sin(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        matrix = one @ matrix
    matrix[:3, 3] = MIDDLE - matrix[:3, :3] @ MIDDLE
    return matrix


def centred(shape, sizes, matrix=None):
    """Affine of a scan whose middle is the template's, turned by a matrix."""
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = MIDDLE - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine if matrix is None else matrix @ affine


def places(shape, affine):
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def ball(shape, affine, centre, radius):
    return torch.from_numpy(np.linalg.norm(places(shape, affine) - centre, axis=-1) <= radius)


def brain(shape, affine):
    return torch.from_numpy((((places(shape, affine) - MIDDLE) / (66, 84, 70)) ** 2).sum(axis=-1) <= 1)


def smooth(shape, affine, frequency=0.05):
    x, y, z = np.moveaxis(places(shape, affine), -1, 0)
    wave = np.sin(frequency * x + 1) + np.cos(frequency * 1.2 * y) * np.sin(frequency * 0.8 * z)
    return torch.from_numpy(wave)


def noise(shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def dice(first, second):
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


class TestPlace:
    def test_slices_are_centred_on_the_templates_brain_and_cover_it(self):
        template = brain_template()
        corners = np.argwhere(template.brain) * 2.0 + template.affine[:3, 3]
        # The 2 mm mask has voxels more than half in the brain: its faces are within a voxel of the box stated.
        np.testing.assert_allclose(corners.min(axis=0) - 1, TEMPLATE_LOW, atol=1.01)
        np.testing.assert_allclose(corners.max(axis=0) + 1, TEMPLATE_HIGH, atol=1.01)
        plan = AffineGridPlan.of(GRID, (10, 10, 10), np.eye(4))
        first, last = (plan.grid_to_template @ [*index, 1] for index in ((0, 0, 0), (79, 95, plan.slice_count - 1)))
        np.testing.assert_allclose((first + last)[:2] / 2, [0, -17])
        assert first[2] - 1 <= TEMPLATE_LOW[2] - 8
        assert last[2] + 1 >= TEMPLATE_HIGH[2] + 8
        assert plan.slices_shape == (plan.slice_count, 1, 80, 96)
        assert plan.slice_spacing == 2.0

    def test_a_pixel_shows_what_lies_at_its_place_of_the_template(self):
        shape, matrix = (160, 190, 170), turned(20, -10, 30)
        affine = centred(shape, (1.0, 1.0, 1.0), matrix)
        centre = np.array([31.0, -42.0, 25.0])
        plan = AffineGridPlan.of(GRID, shape, affine)
        slices = plan.mask_to_grid(ball(shape, affine, centre, 9.0))
        n, _, h, w = (axis.double().mean().item() for axis in slices.nonzero(as_tuple=True))
        np.testing.assert_allclose((plan.grid_to_template @ [h, w, n, 1])[:3], centre, atol=0.1)


class TestToGrid:
    @pytest.mark.parametrize("sizes", [(2.0, 2.0, 2.0), (3.0, 2.5, 6.0)])
    def test_scans_not_finer_than_the_grid_are_interpolated_linearly(self, sizes):
        shape = tuple(int(190 / size) for size in sizes)
        affine = centred(shape, sizes, turned(15, 5, -20))
        volume = noise(shape)
        plan = AffineGridPlan.of(GRID, shape, affine)
        indices = np.moveaxis(places((80, 96, plan.slice_count), plan.grid_to_voxel), -1, 0)
        expected = map_coordinates(volume.numpy(), indices, order=1, mode="grid-constant")
        coverage = map_coordinates(np.ones(shape), indices, order=1, mode="grid-constant")
        expected = np.moveaxis(expected + (1 - coverage) * FILL, 2, 0)[:, None]
        np.testing.assert_allclose(plan.to_grid(volume, FILL).numpy(), expected, atol=1e-10)

    @pytest.mark.parametrize("size", [0.8, 1.0])
    def test_finer_scans_are_averaged_over_the_pixel_at_any_angle(self, size):
        """The mean over 8 x 8 x 8 points of each pixel, of a linear interpolation in float64, is what a coarser scanner
        sees; a single interpolation aliases."""
        shape = (70, 70, 50)
        affine = centred(shape, (size,) * 3, turned(20, 10, 35))
        volume = smooth(shape, affine, 1.1)  # periods of 2 to 3 pixels
        plan = AffineGridPlan.of(GRID, shape, affine)
        offsets = (np.arange(8) - 3.5) / 8
        middle = places((9, 9, 9), np.eye(4)) + np.array([36, 44, plan.slice_count // 2 - 4])
        expected = np.zeros((9, 9, 9))
        for offset in np.stack(np.meshgrid(offsets, offsets, offsets), axis=-1).reshape(-1, 3):
            indices = (middle + offset) @ plan.grid_to_voxel[:3, :3].T + plan.grid_to_voxel[:3, 3]
            expected += map_coordinates(volume.numpy(), np.moveaxis(indices, -1, 0), order=1) / 512
        indices = middle @ plan.grid_to_voxel[:3, :3].T + plan.grid_to_voxel[:3, 3]
        single = map_coordinates(volume.numpy(), np.moveaxis(indices, -1, 0), order=1)
        start = plan.slice_count // 2 - 4
        got = plan.to_grid(volume, 0.0)[start : start + 9, 0, 36:45, 44:53].permute(1, 2, 0).numpy()
        error, aliased = np.abs(got - expected).max(), np.abs(single - expected).max()
        assert aliased > 0.2
        assert error < 0.4 * aliased, (error, aliased)

    @pytest.mark.parametrize("sizes", [(2.0, 2.0, 2.0), (1.0, 1.0, 1.0), (0.5, 1.0, 2.0)])
    def test_agrees_with_the_plan_along_the_scans_axes(self, sizes):
        """Whole numbers of voxels in a pixel: the same kernel as `GridPlan`."""
        shape = tuple(round(length / size) for length, size in zip((60, 72, 172), sizes, strict=True))
        affine = np.diag([*sizes, 1.0])
        plan = AffineGridPlan.of(GRID, shape, affine)
        # The scan's slices are the grid's, and the box around its brain has the middle of the template's.
        affine[:3, 3] = plan.grid_to_template[:3, 3] - 1 + np.array(sizes) / 2
        affine[:2, 3] += (50, 60)
        plan = AffineGridPlan.of(GRID, shape, affine)
        mask = torch.ones(shape, dtype=torch.bool)
        reference = GRID.plan(shape, sizes, mask)
        volume = noise(shape)
        assert reference.slices_shape == plan.slices_shape
        torch.testing.assert_close(plan.mask_to_grid(mask), reference.mask_to_grid(mask))
        torch.testing.assert_close(
            plan.to_grid(volume, FILL, mask), reference.to_grid(volume, FILL, mask), rtol=0, atol=1e-10
        )
        slices = noise(plan.slices_shape)
        torch.testing.assert_close(
            plan.from_grid(slices, plan.mask_to_grid(mask)),
            reference.from_grid(slices, reference.mask_to_grid(mask)),
            rtol=0,
            atol=1e-10,
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_background_never_mixes_into_the_brain(self, dtype):
        shape = (150, 180, 160)
        affine = centred(shape, (1.0, 1.0, 1.0), turned(20, 5, 10))
        mask = brain(shape, affine)
        volume = torch.full(shape, 7.5, dtype=dtype).where(mask, torch.nan)
        plan = AffineGridPlan.of(GRID, shape, affine, mask)
        slices, inside = plan.to_grid(volume, FILL, mask), plan.mask_to_grid(mask)
        assert slices.dtype == dtype
        assert inside.sum() * 8 == pytest.approx(int(mask.sum()), rel=0.01)
        torch.testing.assert_close(slices[inside], torch.full_like(slices[inside], 7.5), rtol=1e-6, atol=0)
        assert torch.equal(slices[~inside], torch.full_like(slices[~inside], FILL))
        back = plan.from_grid(slices, inside)
        reached = mask & (back != 0)
        torch.testing.assert_close(back[reached], torch.full_like(back[reached], 7.5), rtol=1e-6, atol=0)
        assert int(reached.sum()) > 0.999 * int(mask.sum())


class TestBack:
    def test_is_one_linear_interpolation(self):
        shape = (70, 90, 80)
        affine = centred(shape, (1.6, 1.5, 1.7), turned(-20, 10, 5))
        plan = AffineGridPlan.of(GRID, shape, affine)
        slices = noise(plan.slices_shape)
        indices = np.moveaxis(places(shape, np.linalg.inv(plan.grid_to_voxel)), -1, 0)
        expected = map_coordinates(slices[:, 0].permute(1, 2, 0).numpy(), indices, order=1, mode="nearest")
        inside = ((indices >= 0) & (indices <= np.array([79, 95, plan.slice_count - 1])[:, None, None, None])).all(
            axis=0
        )
        np.testing.assert_allclose(plan.from_grid(slices).numpy()[inside], expected[inside], atol=1e-10)

    @pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (1.0, 1.0, 6.0), (0.8, 0.8, 3.0)])
    def test_a_smooth_volume_comes_back(self, sizes):
        shape = tuple(int(170 / size) for size in sizes)
        affine = centred(shape, sizes, turned(20, 0, 0))
        mask = brain(shape, affine)
        volume = smooth(shape, affine)
        plan = AffineGridPlan.of(GRID, shape, affine, mask)
        back = plan.from_grid(plan.to_grid(volume, FILL, mask), plan.mask_to_grid(mask))
        core = brain(shape, affine) & ball(shape, affine, MIDDLE, 55.0)
        assert (back - volume)[core].abs().max() < (0.02 if max(sizes) < 2 else 0.1)

    @pytest.mark.parametrize("centre", [(20.3, -40.7, 30.1), (-33.0, 10.4, -8.9)])
    def test_a_lesion_of_8_mm_comes_back_in_place(self, centre):
        shape = (100, 120, 100)
        affine = centred(shape, (1.0, 1.0, 1.0), turned(20, -12, 7))
        lesion = ball(shape, affine, centre, 8.0)
        plan = AffineGridPlan.of(GRID, shape, affine)
        score = plan.to_grid(lesion.float(), 0.0)
        assert dice(plan.from_grid(score) > 0.5, lesion) >= 0.97
        # Cut off at half of each pixel before it comes back, the ball is that of 2 mm pixels.
        assert dice(plan.from_grid(plan.mask_to_grid(lesion).float()) > 0.5, lesion) >= 0.92


class TestErrors:
    def test_a_brain_beyond_the_slices_is_refused_or_warned_of(self):
        shape = (150, 180, 160)
        affine = centred(shape, (1.0, 1.0, 1.0))
        mask = brain(shape, affine)
        affine[0, 3] += 60
        with pytest.raises(ValueError, match="outside the prior's slices"):
            AffineGridPlan.of(GRID, shape, affine, mask)
        affine[0, 3] -= 40
        with pytest.warns(UserWarning, match="will not be restored"):
            AffineGridPlan.of(GRID, shape, affine, mask)

    @pytest.mark.parametrize(
        "matrix", [np.zeros((4, 4)), np.diag([1.0, 1.0, 0.0, 1.0]), np.full((4, 4), np.nan), np.eye(3)]
    )
    def test_matrices_without_an_inverse_are_refused(self, matrix):
        with pytest.raises(ValueError, match="voxel_to_template"):
            AffineGridPlan.of(GRID, (8, 8, 8), matrix)

    def test_other_shapes_and_values_are_refused(self):
        plan = AffineGridPlan.of(GRID, (8, 9, 10), np.eye(4))
        with pytest.raises(ValueError, match="volume: got"):
            plan.to_grid(torch.zeros(8, 9, 11), 0.0)
        with pytest.raises(ValueError, match="finite"):
            plan.to_grid(torch.full((8, 9, 10), torch.nan), 0.0)
        with pytest.raises(ValueError, match="slices: got"):
            plan.from_grid(torch.zeros(1, 1, 80, 96))

    def test_an_empty_mask_gives_the_fill(self):
        plan = AffineGridPlan.of(GRID, (8, 9, 10), np.eye(4))
        empty = torch.zeros(8, 9, 10, dtype=torch.bool)
        assert (plan.to_grid(torch.ones(8, 9, 10), FILL, empty) == FILL).all()
        assert not plan.from_grid(torch.ones(plan.slices_shape), plan.mask_to_grid(empty)).any()
