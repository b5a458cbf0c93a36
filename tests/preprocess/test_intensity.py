"""Intensities reach the prior's scale and come back; the brain is found by its background."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from lesioncore.preprocess.intensity import IntensityMap, IntensityScale
from lesioncore.preprocess.mask import brain_mask


def tissue(n=20_000, seed=0, gain=1.0, offset=0.0):
    """Intensities of three overlapping tissues, in scanner units."""
    rng = np.random.default_rng(seed)
    centres = rng.choice([150.0, 420.0, 610.0], p=[0.2, 0.45, 0.35], size=n)
    return gain * rng.normal(centres, 45.0) + offset


REFERENCE = IntensityScale.fit(tissue())


class TestScale:
    def test_fit_takes_the_reference_as_it_is(self):
        values = tissue(seed=3)
        scale = IntensityScale.fit(values)
        assert scale.percentiles == (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
        np.testing.assert_allclose(scale.landmarks, np.percentile(values, scale.percentiles))
        assert (scale.mean, scale.std) == pytest.approx((values.mean(), values.std()))
        assert scale.background == -3.5
        # The reference itself is only z-scored.
        np.testing.assert_allclose(scale.match(values)(values), (values - values.mean()) / values.std(), atol=2e-6)

    @given(gain=st.floats(1e-3, 1e4), offset=st.floats(-1e3, 1e3), seed=st.integers(0, 20))
    @settings(max_examples=40, deadline=None)
    def test_gain_and_offset_of_the_scanner_do_not_matter(self, gain, offset, seed):
        plain = tissue(2000, seed)
        changed = gain * plain + offset
        np.testing.assert_allclose(REFERENCE.match(changed)(changed), REFERENCE.match(plain)(plain), atol=1e-5)

    def test_landmarks_land_on_the_references(self):
        """Any monotone change of contrast is undone at the percentiles."""
        values = np.exp(tissue(seed=5) / 200)
        z = REFERENCE.match(values)(values)
        expected = (np.array(REFERENCE.landmarks) - REFERENCE.mean) / REFERENCE.std
        np.testing.assert_allclose(np.percentile(z, REFERENCE.percentiles), expected, atol=1e-3)

    def test_json_round_trip(self):
        scale = IntensityScale.fit(tissue(), percentiles=(5, 50, 95), background=-4.0)
        assert IntensityScale.from_dict(json.loads(json.dumps(scale.to_dict()))) == scale

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"std": 0.0}, "mean, std: got"),
            ({"mean": float("nan")}, "intensity.mean: got nan, expected a finite number"),
            ({"landmarks": [1.0, 2.0]}, "one per percentile"),
            ({"landmarks": [5.0] * 11}, "landmarks: got .* expected finite, increasing"),
            ({"landmarks": list(range(11, 0, -1))}, "landmarks: got .* expected finite, increasing"),
            ({"percentiles": [50] * 11}, "percentiles"),
            ({"percentiles": [*range(10), 101]}, "percentiles"),
            ({"background": float("inf")}, "background"),
            ({"mean": None}, "intensity.mean: got None, expected a finite number"),
            ({"landmarks": 3.0}, "intensity.landmarks: got 3.0, expected a list"),
            ({"extra": 1}, "intensity.extra.* is unknown"),
        ],
    )
    def test_from_dict_refuses(self, change, message):
        with pytest.raises(ValueError, match=message):
            IntensityScale.from_dict({**REFERENCE.to_dict(), **change})
        with pytest.raises(ValueError, match="is missing"):
            IntensityScale.from_dict({"mean": 0.0})

    @pytest.mark.parametrize("use", [IntensityScale.fit, REFERENCE.match])
    def test_values_that_cannot_be_standardised(self, use):
        with pytest.raises(ValueError, match="got 99 brain voxels, expected at least 100"):
            use(tissue(99))
        with pytest.raises(ValueError, match="constant"):
            use(np.full(500, 7))
        spoilt = tissue(500)
        spoilt[3] = np.nan
        with pytest.raises(ValueError, match="1 NaN or infinite of 500"):
            use(spoilt)
        with pytest.raises(TypeError, match="real"):
            use(tissue(500) + 0j)
        with pytest.raises(TypeError, match="got list"):
            use([1.0] * 500)

    def test_all_but_constant(self):
        values = np.zeros(1000)
        values[:3] = 100
        with pytest.raises(ValueError, match="in one knot"):
            REFERENCE.match(values)


class TestMap:
    @given(
        values=hnp.arrays(
            np.float32,
            st.integers(100, 300),
            elements=st.floats(0, 2000, width=32) | st.integers(0, 8).map(float) | st.just(0.0),
        )
    )
    @settings(max_examples=200, deadline=None)
    def test_increases_strictly_and_comes_back_whatever_the_data(self, values):
        try:
            mapping = REFERENCE.match(values)
        except ValueError:
            low, high = np.percentile(values, [1, 99])
            assert high - low <= 2e-3 * max(high, 1)
            return
        assert np.all(np.diff(mapping.intensities) > 0)
        assert np.all(np.diff(mapping.scores) > 0)
        distinct = np.unique(values)
        z = mapping(distinct)
        assert np.all(np.isfinite(z))
        knots = mapping.intensities
        spread = max(knots[-1] - knots[0], float(np.abs(distinct).max()))
        np.testing.assert_allclose(mapping.inverse(z), distinct, rtol=1e-4, atol=1e-4 * spread)

    @pytest.mark.parametrize("gain", [1e-6, 1.0, 1e6])
    def test_round_trip_of_a_scan(self, gain):
        values = tissue(200_000, seed=2, gain=gain).astype(np.float32)
        mapping = REFERENCE.match(values)
        kept = np.abs(values) > 0.01 * np.ptp(values)  # nearer 0, the rounding of z weighs more
        np.testing.assert_allclose(mapping.inverse(mapping(values))[kept], values[kept], rtol=1e-4)

    @pytest.mark.parametrize("levels", [2, 3, 5, 12, 40])
    def test_quantised_data_keep_their_order(self, levels):
        """Percentiles that share an intensity are one knot, and no two intensities become one."""
        values = np.round((tissue() - 100) / 600 * levels).clip(0, levels).astype(np.int16)
        mapping = REFERENCE.match(values)
        distinct = np.unique(values)
        z = mapping(distinct)
        assert np.all(np.diff(z) > 1e-3)
        np.testing.assert_allclose(mapping.inverse(z), distinct, atol=1e-4 * levels)
        # Tied percentiles go to the mean of their landmarks, so that the bulk stays where the reference's is.
        assert abs(mapping(values).mean()) < 0.3

    def test_tied_reference(self):
        """A reference whose percentiles coincide, such as clipped data, gives an invertible map as well."""
        scale = IntensityScale.fit(tissue().clip(380, 600))
        values = tissue(seed=9)
        mapping = scale.match(values)
        np.testing.assert_allclose(mapping.inverse(mapping(values)), values, rtol=1e-4, atol=0.07)

    def test_the_ends_go_on_with_their_slopes(self):
        mapping = IntensityMap(intensities=(0.0, 10.0, 20.0), scores=(-1.0, 0.0, 3.0))
        np.testing.assert_allclose(mapping(np.array([-10.0, 5.0, 15.0, 30.0])), [-2.0, -0.5, 1.5, 6.0])
        np.testing.assert_allclose(mapping.inverse(np.array([-2.0, -0.5, 1.5, 6.0])), [-10.0, 5.0, 15.0, 30.0])

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8, ">f4"])
    @pytest.mark.parametrize("shape", [(), (0,), (4, 5, 3), (2, 1, 1)])
    def test_kind_shape_and_type(self, dtype, shape):
        mapping = IntensityMap(intensities=(0.0, 100.0), scores=(-2.0, 2.0))
        values = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 100, dtype=dtype)
        for result in (mapping(values), mapping.inverse(values)):
            assert isinstance(result, np.ndarray)
            assert (result.shape, result.dtype) == (shape, np.float32)
        if dtype != ">f4":
            tensor = torch.from_numpy(values)
            for result, expected in (
                (mapping(tensor), mapping(values)),
                (mapping.inverse(tensor), mapping.inverse(values)),
            ):
                assert isinstance(result, torch.Tensor)
                assert result.dtype == torch.float32
                np.testing.assert_array_equal(result, expected)

    def test_views_and_read_only_arrays(self):
        mapping = IntensityMap(intensities=(0.0, 100.0), scores=(-2.0, 2.0))
        values = np.arange(24.0).reshape(2, 3, 4)
        values.flags.writeable = False
        np.testing.assert_array_equal(mapping(values[::-1].T), mapping(values.copy())[::-1].T)
        assert values[0, 0, 0] == 0

    def test_bad_knots(self):
        with pytest.raises(ValueError, match="intensities: got"):
            IntensityMap(intensities=(0.0, 0.0), scores=(0.0, 1.0))
        with pytest.raises(ValueError, match="scores: got"):
            IntensityMap(intensities=(0.0, 1.0), scores=(1.0, 0.0))
        with pytest.raises(ValueError, match="one per intensity"):
            IntensityMap(intensities=(0.0, 1.0), scores=(0.0, 1.0, 2.0))


def head(shape=(20, 24, 16), background=0.0):
    """A brain, an ellipsoid of tissue, on a constant background; and where it is."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) if n > 2 else np.zeros(n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.8
    values = np.random.default_rng(0).uniform(100, 200, size=shape)
    return np.where(inside, values, background).astype(np.float32), inside


class TestBrainMask:
    @pytest.mark.parametrize("shape", [(20, 24, 16), (20, 24, 1), (20, 24, 2), (1, 24, 20)])
    @pytest.mark.parametrize("background", [0.0, -1000.0, 37.5])
    def test_finds_the_brain(self, shape, background):
        volume, inside = head(shape, background)
        np.testing.assert_array_equal(brain_mask(volume), inside)
        result = brain_mask(torch.from_numpy(volume))
        assert isinstance(result, torch.Tensor)
        np.testing.assert_array_equal(result, inside)

    def test_background_values_inside_the_brain_are_brain(self):
        volume, inside = head()
        volume[8:12, 10:14, 6:9] = 0  # ventricles
        np.testing.assert_array_equal(brain_mask(volume), inside)

    def test_holes_on_a_face_that_cuts_the_brain_are_brain(self):
        """A field of view that ends within the brain, through CSF that is 0."""
        volume, inside = head()
        volume, inside = volume[:, :, :8].copy(), inside[:, :, :8]
        volume[9:12, 11:14, 5:] = 0
        np.testing.assert_array_equal(brain_mask(volume), inside)

    def test_a_bay_that_opens_to_the_outside_is_background(self):
        volume, inside = head()
        volume[10, 12, 8:] = 0
        inside[10, 12, 8:] = False
        np.testing.assert_array_equal(brain_mask(volume), inside)

    def test_winding_background(self):
        """The flood follows a maze to its end, however often it turns."""
        volume = np.ones((21, 21, 3), dtype=np.float32)
        volume[:, :, [0, -1]] = 1
        volume[[0, -1]] = volume[:, [0, -1]] = 0
        for row in range(2, 19, 2):
            volume[row, 1:20, 1] = 0
            volume[row + 1, 19 if row % 4 else 1, 1] = 0
        volume[2:19, 1, 1] = np.where(np.arange(2, 19) % 2 == 0, 0, volume[2:19, 1, 1])
        expected = reached_by_search(volume)
        np.testing.assert_array_equal(brain_mask(volume), ~expected)

    @given(seed=st.integers(0, 10_000), share=st.floats(0.2, 0.7))
    @settings(max_examples=40, deadline=None)
    def test_agrees_with_a_plain_search(self, seed, share):
        volume = (np.random.default_rng(seed).uniform(size=(7, 8, 6)) > share).astype(np.uint8)
        for first, second in itertools.combinations(range(3), 2):
            view = np.moveaxis(volume, (first, second), (0, 1))
            view[[0, 0, -1, -1], [0, -1, 0, -1]] = 0
        volume[3, 3, 3] = 1
        np.testing.assert_array_equal(brain_mask(volume), ~reached_by_search(volume))

    def test_nothing_there(self):
        with pytest.raises(ValueError, match="got the constant 0, expected a scan"):
            brain_mask(np.zeros((5, 5, 5)))

    def test_not_skull_stripped(self):
        noisy, _ = head()
        noisy += np.abs(np.random.default_rng(1).normal(size=noisy.shape)).astype(np.float32)
        with pytest.raises(ValueError, match=r"no constant background.*skull-strip.*mask="):
            brain_mask(noisy)
        cropped = np.full((40, 40, 40), 5.0)
        cropped[:, [0, 0, -1, -1], [0, -1, 0, -1]] = cropped[[0, 0, -1, -1], [0, -1, 0, -1]] = 0
        cropped[[0, 0, -1, -1], :, [0, -1, 0, -1]] = 0
        with pytest.raises(ValueError, match=r"99.* % brain .* at most 98 %.*mask="):
            brain_mask(cropped)

    def test_bad_volumes(self):
        volume, _ = head()
        volume[0, 0, :2] = np.nan
        with pytest.raises(ValueError, match="2 NaN or infinite"):
            brain_mask(volume)
        with pytest.raises(ValueError, match="shape"):
            brain_mask(np.zeros((5, 5)))
        with pytest.raises(ValueError, match="shape"):
            brain_mask(np.zeros((5, 0, 5)))


def reached_by_search(volume):
    """Zeros connected to zeros on the box's edges, by an explicit stack."""
    last = np.array(volume.shape) - 1
    reached = np.zeros(volume.shape, dtype=bool)
    stack = [
        index
        for index in np.ndindex(volume.shape)
        if volume[index] == 0 and sum(i in (0, end) for i, end in zip(index, last, strict=True)) >= 2
    ]
    while stack:
        index = stack.pop()
        if reached[index]:
            continue
        reached[index] = True
        for axis, step in itertools.product(range(3), (-1, 1)):
            near = tuple(i + step * (other == axis) for other, i in enumerate(index))
            if all(0 <= i <= end for i, end in zip(near, last, strict=True)) and volume[near] == 0:
                stack.append(near)
    return reached
