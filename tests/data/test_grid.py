"""The prior's grid: exact where nothing needs interpolating, true to the scan where something does."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from lesioncore.data.grid import SliceGrid

FILL = -3.5


def box_mask(shape, lower, upper):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(start, stop) for start, stop in zip(lower, upper, strict=True))] = True
    return mask


def ball_mask(shape, voxel_sizes, radius):
    axes = [(torch.arange(n) - (n - 1) / 2) * size for n, size in zip(shape, voxel_sizes, strict=True)]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 <= radius**2


def noise(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def overlap_matrix(positions, length, width):
    """Shares of boxes of a width around positions that lie in each sample's box, also outside the input. [out, in]"""
    samples = np.arange(length)
    low = np.maximum(positions[:, None] - width / 2, samples - 0.5)
    high = np.minimum(positions[:, None] + width / 2, samples + 0.5)
    return np.clip(high - low, 0, None) / width


class TestExactness:
    @pytest.mark.parametrize("shape", [(8, 6, 5), (7, 9, 1), (1, 1, 1)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_same_grid_is_the_identity(self, shape, dtype):
        grid = SliceGrid(2.0, shape[:2])
        mask = torch.ones(shape, dtype=torch.bool)
        plan = grid.plan(shape, (2.0, 2.0, 2.0), mask)
        volume = noise(shape, dtype=dtype)
        slices = plan.to_grid(volume, FILL)
        assert slices.shape == plan.slices_shape == (shape[2], 1, *shape[:2])
        assert slices.dtype == dtype
        for k in range(shape[2]):
            assert torch.equal(slices[k, 0], volume[:, :, k])
        assert torch.equal(plan.from_grid(slices), volume)
        assert torch.equal(plan.mask_to_grid(mask), torch.ones(plan.slices_shape, dtype=torch.bool))

    @given(
        shape=st.tuples(*[st.integers(1, 12)] * 3),
        grid_shape=st.tuples(*[st.integers(1, 12)] * 2),
        spacing=st.floats(0.3, 3),
        drift=st.floats(-0.9e-3, 0.9e-3),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=150, deadline=None)
    def test_the_same_voxel_size_only_copies(self, shape, grid_shape, spacing, drift, seed):
        """Whatever the shapes and the mask's place: each pixel is a voxel or exactly `fill`, and comes back."""
        rng = np.random.default_rng(seed)
        extent = [int(rng.integers(1, min(pair) + 1)) for pair in zip(shape, (*grid_shape, 99), strict=True)]
        corner = [int(rng.integers(0, n - m + 1)) for n, m in zip(shape, extent, strict=True)]
        mask = box_mask(shape, corner, [c + m for c, m in zip(corner, extent, strict=True)])
        mask &= (noise(shape, seed) > 0) | box_mask(shape, corner, [c + 1 for c in corner])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a mask no larger than the grid loses nothing
            plan = SliceGrid(spacing, grid_shape).plan(shape, (spacing * (1 + drift),) * 3, mask)
        assert plan.slice_count == shape[2]
        index = torch.arange(1, mask.numel() + 1, dtype=torch.float64).reshape(shape)
        plain = plan.to_grid(index, 0.0)
        seen = plain[plain != 0]
        assert len(seen.unique()) == len(seen)
        assert torch.equal(seen, seen.round())
        back = plan.from_grid(plain)
        assert torch.equal(back, index.where(torch.isin(index, seen), 0))
        masked = plan.to_grid(index, FILL, mask=mask)
        on_grid = plan.mask_to_grid(mask)
        assert torch.equal(masked[on_grid], plain[on_grid])
        assert bool((masked[~on_grid] == FILL).all())
        assert set(masked[on_grid].tolist()) <= set(index[mask].tolist())

    def test_the_brain_is_centred_to_half_a_voxel(self):
        mask = box_mask((30, 30, 4), (3, 11, 0), (9, 24, 4))  # 6 x 13 voxels
        on_grid = SliceGrid(1.0, (20, 20)).plan(mask.shape, (1.0, 1.0, 1.0), mask).mask_to_grid(mask)
        for axis, expected in ((2, 6), (3, 13)):
            rows = on_grid.any(dim=5 - axis)[0, 0].nonzero().flatten()
            assert len(rows) == expected
            assert abs((rows[0] + rows[-1]) / 2 - 9.5) <= 0.5

    def test_height_is_x_and_width_is_y(self):
        volume = torch.zeros(6, 8, 2)
        volume[1, 5, 1] = 1.0
        slices = SliceGrid(1.0, (6, 8)).plan((6, 8, 2), (1.0, 1.0, 1.0), volume >= 0).to_grid(volume, 0.0)
        assert slices.nonzero().tolist() == [[1, 0, 1, 5]]


class TestInterpolation:
    @given(
        shape=st.tuples(*[st.integers(1, 14)] * 3),
        sizes=st.tuples(*[st.floats(0.4, 4)] * 3),
        voxel_size=st.floats(0.5, 3),
        margin=st.tuples(*[st.integers(0, 6)] * 2),
    )
    @settings(max_examples=60, deadline=None)
    def test_matches_a_dense_float64_reference(self, shape, sizes, voxel_size, margin):
        mask = box_mask(shape, [n // 4 for n in shape], [n - n // 4 for n in shape])
        grid_shape = tuple(
            math.ceil((n - 2 * (n // 4)) * size / voxel_size) + more
            for n, size, more in zip(shape[:2], sizes[:2], margin, strict=True)
        )
        plan = SliceGrid(voxel_size, grid_shape).plan(shape, sizes, mask)
        forward, backward = [], []
        counts = (*grid_shape, plan.slice_count)
        for axis, count in enumerate(counts):
            out = voxel_size if axis < 2 else plan.slice_spacing
            step = out / sizes[axis]
            if abs(step - 1) <= 1e-3:
                step = 1.0
            start = (shape[axis] - 1) / 2 - step * (count - 1) / 2
            first, middle = math.floor((shape[axis] - 1) / 2 - (count - 1) / 2 + 0.5), (count - 1) // 2
            if step == 1.0 or (axis < 2 and abs(step - 1) <= 0.03):  # a pixel is a copy, near the middle
                start = first + middle * (1 - step)
            forward.append(overlap_matrix(start + step * np.arange(count), shape[axis], max(1, step)))
            positions = (np.arange(shape[axis]) - start) / step
            rows = overlap_matrix(positions, count, max(1, 1 / step))
            rows[(positions < -0.5 - 1e-6) | (positions > count - 0.5 + 1e-6)] = 0
            backward.append(rows)
        volume = noise(shape, dtype=torch.float64)
        contract = "hx,wy,nz,xyz->nhw"
        inside = np.einsum(contract, *forward, np.ones(shape))
        expected = np.einsum(contract, *forward, volume.numpy()) + FILL * (1 - inside)
        slices = plan.to_grid(volume, FILL)
        np.testing.assert_allclose(slices[:, 0], expected, atol=1e-5)
        np.testing.assert_allclose(plan.to_grid(volume.float(), FILL)[:, 0], expected, atol=1e-4)
        contract = "xh,yw,zn,nhw->xyz"
        weight = np.einsum(contract, *backward, np.ones((plan.slice_count, *grid_shape)))
        value = np.einsum(contract, *backward, slices[:, 0].numpy())
        expected = np.divide(value, weight, out=np.zeros_like(value), where=weight > 1e-5)
        keep = (weight == 0) | (weight > 1e-4)  # weights that are rounding may be either
        np.testing.assert_allclose(plan.from_grid(slices).numpy()[keep], expected[keep], atol=1e-4)

    @pytest.mark.parametrize(("size", "bias"), [(0.5, 0), (1.0, 0), (2.0, 0), (3.1, 0), (0.8, 0.08), (1.7, 0.08)])
    def test_a_linear_ramp_stays_one(self, size, bias):
        """Every pixel is where it should be: to rounding for whole ratios and finer grids, else to 0.08 pixels."""
        shape = tuple(math.ceil(length / size) for length in (60, 64, 50))
        x, y, z = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) * size for n in shape], indexing="ij")
        lower, upper = [n // 4 for n in shape], [n - n // 4 for n in shape]
        plan = SliceGrid(2.0, (18, 20)).plan(shape, (size,) * 3, box_mask(shape, lower, upper))
        centres = [(lower[0] + upper[0] - 1) / 2, (lower[1] + upper[1] - 1) / 2, (shape[2] - 1) / 2]
        steps, counts = (2.0, 2.0, plan.slice_spacing), (18, 20, plan.slice_count)
        for axis, ramp in enumerate((x, y, z)):
            slices = plan.to_grid(ramp, 0.0)[2:-2, 0].movedim(0, 2)  # whole within the scan: no `fill` enters
            position = (torch.arange(counts[axis], dtype=torch.float64) - (counts[axis] - 1) / 2) * steps[
                axis
            ] + centres[axis] * size
            position = position[2:-2] if axis == 2 else position
            expected = position.view([-1 if other == axis else 1 for other in range(3)]).expand_as(slices)
            np.testing.assert_allclose(slices, expected, rtol=0, atol=bias * steps[axis] + 1e-9)

    def test_a_plane_keeps_its_place(self):
        """A bright plane is found on the grid and back at its distance from the brain's left edge.

        One of .7 mm may lie within a pixel of 1 mm anywhere, which tells its centre only to .15 mm.
        """
        size, shape = 0.7, (100, 100, 8)
        mask = box_mask(shape, (10, 10, 0), (90, 90, 8))
        plan = SliceGrid(1.0, (70, 70)).plan(shape, (size, size, 3.0), mask)
        errors = []
        for place in range(25, 45):
            volume = torch.zeros(shape)
            volume[place] = 1.0
            slices = plan.to_grid(volume, 0.0)
            profile = slices[0, 0].sum(dim=1)
            found = float((profile * torch.arange(70)).sum() / profile.sum())
            errors.append(found - ((place - 49.5) * size + 34.5))  # mm from the brain's centre, then pixels of 1 mm
            back = plan.from_grid(slices).sum(dim=(1, 2))
            assert float((back * torch.arange(100)).sum() / back.sum()) == pytest.approx(place, abs=0.25)
        assert np.abs(errors).max() <= 0.15 + 1e-6
        assert np.mean(errors) == pytest.approx(0, abs=0.01)

    def test_a_finer_scan_is_averaged_over_the_pixels(self):
        """A mean, as a scanner of the grid's resolution takes it; a smoother image would look unlike its scans."""
        volume = noise((48, 40, 12))
        plan = SliceGrid(2.0, (24, 20)).plan((48, 40, 12), (1.0, 1.0, 2.0), torch.ones(48, 40, 12, dtype=torch.bool))
        blocks = volume.view(24, 2, 20, 2, 12).mean(dim=(1, 3)).permute(2, 0, 1)
        np.testing.assert_allclose(plan.to_grid(volume, 0.0)[:, 0], blocks, atol=1e-5)

    def test_aliasing_is_averaged_away(self):
        """One-voxel stripes at 1 mm cannot be seen at 2 mm; they must not become broad ones."""
        volume = (torch.arange(64) % 2).float().view(64, 1, 1).expand(64, 64, 4).contiguous()
        mask = box_mask((64, 64, 4), (4, 4, 0), (60, 60, 4))
        slices = SliceGrid(2.0, (30, 30)).plan((64, 64, 4), (1.0, 1.0, 2.0), mask).to_grid(volume, 0.5)
        np.testing.assert_allclose(slices, 0.5, atol=1e-6)

    @pytest.mark.parametrize(
        ("spacing", "length", "slices", "out"),
        [
            (1.0, 11, 6, 2.0),
            (0.5, 3, 1, 2.0),
            (2.0, 7, 7, 2.0),
            (5.0, 7, 7, 5.0),
            (1.999, 9, 9, 1.999),
            (1.0, 1, 1, 2.0),
        ],
    )
    def test_slices_across(self, spacing, length, slices, out):
        """Finer scans come down to the grid's voxel size, thick slices stay, all are covered."""
        shape = (6, 6, length)
        plan = SliceGrid(2.0, (6, 6)).plan(shape, (2.0, 2.0, spacing), torch.ones(shape, dtype=torch.bool))
        assert (plan.slice_count, plan.slice_spacing) == (slices, pytest.approx(out))
        back = plan.from_grid(torch.ones(plan.slices_shape))
        np.testing.assert_allclose(back, 1.0, atol=1e-6)


class TestMasked:
    @pytest.mark.parametrize("size", [0.7, 1.0, 1.3, 2.0, 2.6])
    def test_background_never_mixes_into_the_brain(self, size):
        shape, sizes = (40, 44, 30), (size, size, size * 1.1)
        mask = ball_mask(shape, sizes, 12 * size)
        volume = torch.where(mask, 5.0, FILL)
        plan = SliceGrid(2.0, (48, 48)).plan(shape, sizes, mask)
        slices, on_grid = plan.to_grid(volume, FILL, mask=mask), plan.mask_to_grid(mask)
        np.testing.assert_allclose(slices[on_grid], 5.0, rtol=1e-6)
        assert bool((slices[~on_grid] == FILL).all())
        back = plan.from_grid(slices, on_grid)
        np.testing.assert_allclose(back[back != 0], 5.0, rtol=1e-6)
        # All but specks of the brain's rim gets a value, and gets it whole.
        assert float((back[mask] != 0).float().mean()) > 0.999
        volume_on_grid = float(on_grid.sum()) * 4 * plan.slice_spacing
        assert volume_on_grid == pytest.approx(float(mask.sum()) * math.prod(sizes), rel=0.06)

    def test_what_lies_outside_the_mask_has_no_influence(self):
        shape, sizes = (20, 20, 12), (1.3, 1.3, 1.1)
        mask = ball_mask(shape, sizes, 8)
        volume = noise(shape)
        plan = SliceGrid(2.0, (14, 14)).plan(shape, sizes, mask)
        clean = plan.to_grid(volume, FILL, mask=mask)
        assert torch.equal(clean, plan.to_grid(volume.where(mask, float("nan")), FILL, mask=mask))
        on_grid = plan.mask_to_grid(mask)
        assert torch.equal(plan.from_grid(clean, on_grid), plan.from_grid(clean.where(on_grid, float("nan")), on_grid))

    def test_float64_and_float32_agree_on_the_mask(self):
        shape, sizes = (21, 20, 13), (1.0, 1.0, 1.0)
        mask = noise(shape) > 0  # ragged: many pixels at exactly one half
        plan = SliceGrid(2.0, (14, 14)).plan(shape, sizes, mask)
        on_grid = plan.mask_to_grid(mask)
        for dtype in (torch.float32, torch.float64):
            assert torch.equal(plan.to_grid(torch.zeros(shape, dtype=dtype), FILL, mask=mask) != FILL, on_grid)

    def test_a_smooth_image_survives_the_way_there_and_back(self):
        shape, sizes = (60, 60, 40), (1.0, 1.0, 1.0)
        mask = ball_mask(shape, sizes, 18)
        x, y, z = torch.meshgrid(*[torch.arange(n) / 8.0 for n in shape], indexing="ij")
        volume = torch.sin(x) * torch.cos(y) + torch.sin(z)
        plan = SliceGrid(2.0, (32, 32)).plan(shape, sizes, mask)
        back = plan.from_grid(plan.to_grid(volume, FILL, mask=mask), plan.mask_to_grid(mask))
        assert float((back - volume)[mask].abs().mean()) < 0.03

    @given(seed=st.integers(0, 1000), size=st.floats(0.5, 2), voxel_size=st.floats(0.8, 4))
    @settings(max_examples=40, deadline=None)
    def test_values_stay_within_their_range(self, seed, size, voxel_size):
        shape = (9, 10, 7)
        mask = noise(shape, seed) > 0
        volume = noise(shape, seed + 1)
        plan = SliceGrid(voxel_size, (28, 28)).plan(shape, (size, size, size), mask)
        slices, on_grid = plan.to_grid(volume, FILL, mask=mask), plan.mask_to_grid(mask)
        low, high = volume[mask].min() - 1e-5, volume[mask].max() + 1e-5
        assert bool(((slices[on_grid] >= low) & (slices[on_grid] <= high)).all())
        back = plan.from_grid(slices, on_grid)
        assert bool(back.isfinite().all())
        assert bool(((back >= min(low, 0)) & (back <= max(high, 0))).all())


class TestFieldOfView:
    def test_outside_is_zero_on_the_way_back(self):
        shape = (40, 40, 3)
        mask = box_mask(shape, (15, 15, 0), (25, 25, 3))
        plan = SliceGrid(2.0, (6, 6)).plan(shape, (1.0, 1.0, 2.0), mask)
        back = plan.from_grid(torch.ones(plan.slices_shape))
        # 12 mm about the centre, 19.5: voxels 14 to 25.
        assert torch.equal(back != 0, box_mask(shape, (14, 14, 0), (26, 26, 3)))
        np.testing.assert_allclose(back[back != 0], 1.0, atol=1e-6)

    def test_outside_the_scan_is_fill(self):
        plan = SliceGrid(1.0, (30, 30)).plan((10, 10, 2), (2.0, 2.0, 2.0), torch.ones(10, 10, 2, dtype=torch.bool))
        slices = plan.to_grid(torch.ones(10, 10, 2), FILL)
        assert bool((slices[:, :, :4] == FILL).all())
        assert bool((slices[:, :, :, -4:] == FILL).all())
        np.testing.assert_allclose(slices[:, :, 6:24, 6:24], 1.0, atol=1e-6)

    def test_a_few_lost_voxels_warn_with_their_number(self):
        shape = (30, 20, 2)
        mask = box_mask(shape, (5, 5, 0), (25, 15, 2))
        mask[3:5, 10, 0] = mask[25:27, 10, 0] = True  # 24 wide: the 22 pixels lose the outermost of each side
        with pytest.warns(UserWarning, match=r"2 of 404 mask voxels .* 22 x 20 mm .* 24 x 10 mm"):
            plan = SliceGrid(1.0, (22, 20)).plan(shape, (1.0, 1.0, 1.0), mask)
        assert int(plan.mask_to_grid(mask).sum()) == 402

    def test_too_many_are_an_error(self):
        shape = (30, 20, 2)
        mask = box_mask(shape, (5, 5, 0), (25, 15, 2))
        with pytest.raises(ValueError, match=r"80 of 400 mask voxels .* 16 x 20 mm .* 20 x 10 mm"):
            SliceGrid(1.0, (16, 20)).plan(shape, (1.0, 1.0, 1.0), mask)

    def test_a_brain_that_just_fits_does_not_warn(self):
        shape = (30, 20, 2)
        mask = box_mask(shape, (5, 5, 0), (25, 15, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for size, grid in ((1.0, SliceGrid(1.0, (20, 10))), (0.7, SliceGrid(1.4, (10, 5)))):
                plan = grid.plan(shape, (size, size, size), mask)
                assert bool(plan.mask_to_grid(mask).any())


class TestErrors:
    def test_grid(self):
        with pytest.raises(ValueError, match="voxel_size"):
            SliceGrid(0.0, (4, 4))
        with pytest.raises(ValueError, match="voxel_size"):
            SliceGrid(math.nan, (4, 4))
        with pytest.raises(ValueError, match="shape"):
            SliceGrid(1.0, (4, 0))

    def test_plan(self):
        grid, mask = SliceGrid(1.0, (4, 4)), torch.ones(4, 4, 2, dtype=torch.bool)
        with pytest.raises(ValueError, match="mask: got no voxel"):
            grid.plan((4, 4, 2), (1.0, 1.0, 1.0), ~mask)
        with pytest.raises(ValueError, match=r"mask: got .* expected bool of shape"):
            grid.plan((4, 4, 3), (1.0, 1.0, 1.0), mask)
        with pytest.raises(ValueError, match=r"mask: got .* expected bool"):
            grid.plan((4, 4, 2), (1.0, 1.0, 1.0), mask.float())
        with pytest.raises(ValueError, match="voxel_sizes"):
            grid.plan((4, 4, 2), (1.0, -1.0, 1.0), mask)
        with pytest.raises(ValueError, match="volume_shape"):
            grid.plan((4, 0, 2), (1.0, 1.0, 1.0), mask[:, :0])

    def test_tensors(self):
        mask = torch.ones(4, 4, 2, dtype=torch.bool)
        plan = SliceGrid(1.0, (4, 4)).plan((4, 4, 2), (1.0, 1.0, 1.0), mask)
        with pytest.raises(ValueError, match=r"volume: got .* torch\.float32 or torch\.float64 of shape \(4, 4, 2\)"):
            plan.to_grid(torch.zeros(4, 4, 3), 0.0)
        with pytest.raises(ValueError, match="volume: got"):
            plan.to_grid(torch.zeros(4, 4, 2, dtype=torch.int16), 0.0)
        spoilt = torch.zeros(4, 4, 2)
        spoilt[1, 2, 0] = math.nan
        with pytest.raises(ValueError, match="1 NaN or infinite"):
            plan.to_grid(spoilt, 0.0)
        with pytest.raises(ValueError, match="fill"):
            plan.to_grid(torch.zeros(4, 4, 2), math.nan)
        with pytest.raises(ValueError, match="mask: got"):
            plan.to_grid(torch.zeros(4, 4, 2), 0.0, mask=mask[:3])
        with pytest.raises(ValueError, match="slices: got"):
            plan.from_grid(torch.zeros(2, 4, 4))
        with pytest.raises(ValueError, match="slice_mask: got"):
            plan.from_grid(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))


class TestPlace:
    @pytest.mark.parametrize("stray", [(0, 0, 2), (39, 17, 0), (0, 17, 4), (20, 0, 2)])
    def test_a_stray_voxel_does_not_move_the_grid(self, stray):
        shape, grid = (40, 36, 5), SliceGrid(2.0, (24, 24))
        mask = box_mask(shape, (10, 8, 0), (29, 29, 5))
        with_stray = mask.clone()
        with_stray[stray] = True
        volume = noise(shape)
        plan = grid.plan(shape, (2.0, 2.0, 2.0), mask)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is not restored
            moved = grid.plan(shape, (2.0, 2.0, 2.0), with_stray)
        assert torch.equal(plan.to_grid(volume, FILL), moved.to_grid(volume, FILL))

    @pytest.mark.parametrize("middle", [0, 1])
    @pytest.mark.parametrize("axis", [0, 1])
    def test_nearly_the_same_voxels_have_nearly_the_same_values(self, axis, middle):
        """Where the centre of the brain lies between two voxels, the grid would otherwise begin to average pairs."""
        shape, grid = (40, 40, 1), SliceGrid(2.0, (30, 30))
        mask = box_mask(shape, (8, 8, 0), (31 + middle, 31 + middle, 1))
        volume = noise(shape)
        sizes = [2.0, 2.0, 2.0]
        copied = grid.plan(shape, tuple(sizes), mask).to_grid(volume, FILL)
        sizes[axis] *= 1.00125
        nearly = grid.plan(shape, tuple(sizes), mask).to_grid(volume, FILL)
        difference = (copied - nearly).abs().max()
        assert 0 < difference < 0.1 * volume.abs().max()
