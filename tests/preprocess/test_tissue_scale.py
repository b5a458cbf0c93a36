"""Registered tissue brings intensities to the prior's scale, whatever lesions and masks do."""

import json
from functools import cache

import numpy as np
import pytest
import torch

from lesioncore.models import load_prior
from lesioncore.preprocess.intensity import IntensityScale
from lesioncore.preprocess.template import brain_template
from lesioncore.preprocess.tissue_regions import TISSUES, tissue_regions, tissue_regions_at
from lesioncore.preprocess.tissue_scale import TissueScale

# Intensity of fluid, grey and white matter.
CONTRASTS = {"T1w": (300.0, 480.0, 650.0), "T2w": (1000.0, 600.0, 420.0), "FLAIR": (90.0, 460.0, 380.0)}
TEMPLATE, REGIONS = brain_template(), tissue_regions()
BRAIN = TEMPLATE.brain
INSIDE = REGIONS[BRAIN]


@cache
def person(contrast, seed=0):
    """Intensities of the template's tissues, with partial volume and noise, everywhere in the box."""
    levels = CONTRASTS[contrast]
    shares = 1 - TEMPLATE.grey - TEMPLATE.white, TEMPLATE.grey, TEMPLATE.white
    rng = np.random.default_rng(seed)
    clean = sum(share * level for share, level in zip(shares, levels, strict=True))
    return clean + 20.0 * rng.standard_normal(BRAIN.shape, np.float32)


def blob(millilitres, centre=(30.0, -10.0, 25.0)):
    """A ball within the brain, around a place given in mm: the distances decide, so the volume is exact."""
    axes = [start + 2.0 * np.arange(size) for start, size in zip(TEMPLATE.affine[:3, 3], BRAIN.shape, strict=True)]
    points = np.meshgrid(*axes, indexing="ij", sparse=True)
    distance = sum(np.square(axis - place) for axis, place in zip(points, centre, strict=True))[BRAIN]
    return distance <= np.partition(distance, round(millilitres / 0.008))[round(millilitres / 0.008)]


@pytest.fixture(scope="module", params=CONTRASTS)
def contrast(request):
    return request.param


@pytest.fixture(scope="module")
def scale(contrast):
    return TissueScale.fit([(person(contrast, seed)[BRAIN], INSIDE) for seed in (1, 2)])


class TestRegions:
    def test_tissues_lie_where_the_template_has_them(self):
        for tissue, (share, least) in enumerate(
            [(1 - TEMPLATE.grey - TEMPLATE.white, 0.7), (TEMPLATE.grey, 0.7), (TEMPLATE.white, 0.9)]
        ):
            found = (REGIONS > 0) & (tissue == (REGIONS - 1) % 3)
            assert found.sum() > 2000
            assert share[found].min() > least - 1e-6, TISSUES[tissue]
        assert not REGIONS[~BRAIN].any()

    def test_rim_is_in_no_region(self):
        shifted = [np.roll(BRAIN, step, axis) for axis in range(3) for step in (-1, 1)]
        assert not REGIONS[BRAIN & ~np.logical_and.reduce(shifted)].any()

    def test_parcels_fit_in_boxes(self):
        for label in np.unique(REGIONS[REGIONS > 0]):
            extent = np.ptp(np.argwhere(label == REGIONS), axis=0) + 1
            assert np.all(extent <= 20)  # 40 mm
        assert len(np.unique(REGIONS)) > 40

    def test_looked_up_at_places(self):
        voxels = np.argwhere(REGIONS > 0)[::97]
        points = voxels @ TEMPLATE.affine[:3, :3] + TEMPLATE.affine[:3, 3]
        np.testing.assert_array_equal(tissue_regions_at(points + 0.9), REGIONS[tuple(voxels.T)])
        np.testing.assert_array_equal(tissue_regions_at(np.array([[500.0, 0, 0], [0, 0, -500.0]])), 0)


class TestMatch:
    def test_reference_has_mean_0_and_deviation_1(self, scale, contrast):
        values = person(contrast, 1)[BRAIN]
        z = scale.match(values, INSIDE)(values)
        assert (z.mean(), z.std()) == pytest.approx((0, 1), abs=0.03)

    def test_gain_and_offset_do_not_matter(self, scale, contrast):
        values = person(contrast, 3)[BRAIN]
        plain = scale.match(values, INSIDE)
        for gain, offset in ((0.01, 0.0), (37.0, -900.0)):
            changed = gain * values + offset
            np.testing.assert_allclose(scale.match(changed, INSIDE)(changed), plain(values), atol=2e-4)

    @pytest.mark.parametrize("shift", [2.0, -1.5])
    def test_large_tumour_leaves_the_rest_alone(self, scale, contrast, shift):
        """And keeps its contrast, where percentiles of the brain give both away."""
        values, ill = person(contrast, 3)[BRAIN], blob(230)
        spoilt = values + shift * values.std() * ill
        reference = IntensityScale.fit(person(contrast, 1)[BRAIN])
        changes = []
        for match in (lambda v: scale.match(v, INSIDE), reference.match):
            before, mapping = match(values)(values), match(spoilt)
            changes.append(np.abs(mapping(spoilt) - before)[~ill].mean())
            if match != reference.match:
                assert (mapping(spoilt) - before)[ill].mean() == pytest.approx(shift, rel=0.1)
        assert changes[0] < 0.07
        assert changes[1] > 2 * changes[0]

    def test_rim_of_fluid_does_not_matter(self, scale, contrast):
        volume = person(contrast, 3)
        loose = BRAIN.copy()
        for axis in range(3):
            loose |= np.roll(loose, 2, axis) | np.roll(loose, -2, axis)
        rng = np.random.default_rng(0)
        volume = np.where(loose & ~BRAIN, CONTRASTS[contrast][0] + 20 * rng.standard_normal(BRAIN.shape), volume)
        assert loose.sum() > 1.2 * BRAIN.sum()
        before, after = (scale.match(volume[mask], REGIONS[mask])(volume[BRAIN]) for mask in (BRAIN, loose))
        assert np.abs(after - before).mean() < 0.01

    def test_bends_to_another_scanner(self, scale, contrast):
        """Grey matter lies elsewhere between fluid and white matter: a line cannot bring all three."""
        values = person(contrast, 3)[BRAIN]
        top = values.max()
        curved = top * np.maximum(values / top, 0.0) ** 1.4
        plain, mapping = scale.match(values, INSIDE)(values), scale.match(curved, INSIDE)
        error = np.abs(mapping(curved) - plain).mean()
        assert error < 0.07
        if contrast != "FLAIR":  # where the curve is nearly straight from white to grey matter
            line = np.polynomial.Polynomial.fit(curved, plain, 1)
            assert error < 0.8 * np.abs(line(curved) - plain).mean()

    def test_comes_back(self, scale, contrast):
        values = person(contrast, 3)[BRAIN]
        mapping = scale.match(values, INSIDE)
        assert np.all(np.diff(mapping.scores) > 0)
        np.testing.assert_allclose(mapping.inverse(mapping(values)), values, atol=1e-3 * values.std())

    def test_part_of_the_brain(self, scale, contrast):
        """A few slices, or a person whose ventricles are narrow: a tissue may be missing."""
        volume = person(contrast, 3)
        upper = BRAIN.copy()
        upper[:, :, :60] = False
        labels = np.where((REGIONS - 1) % 3 == 0, np.int16(0), REGIONS)
        whole, part = scale.match(volume[BRAIN], INSIDE), scale.match(volume[upper], labels[upper])
        solid = volume[upper & (TEMPLATE.grey + TEMPLATE.white > 0.9)]
        assert np.abs(part(solid) - whole(solid)).mean() < 0.1

    def test_takes_tensors(self, scale, contrast):
        values = person(contrast, 3)[BRAIN].astype(np.float32)
        mapping = scale.match(torch.from_numpy(values), torch.from_numpy(INSIDE))
        assert mapping == scale.match(values, INSIDE)

    def test_likelihood_tells_the_contrast(self, scale, contrast):
        likely = {other: scale.likelihood(0.1 * person(other, 5)[BRAIN] + 7, INSIDE) for other in CONTRASTS}
        assert max(likely, key=likely.get) == contrast

    def test_ventricles_tell_t2w_from_flair(self, monkeypatch):
        monkeypatch.setitem(CONTRASTS, "little contrast", (1000.0, 470.0, 420.0))  # but for the fluid
        values = person("little contrast")[BRAIN]
        t2, flair = (load_prior(name).metadata.intensity for name in ("real-t2", "real-flair"))
        # That they fit nowhere counts in full.
        assert t2.likelihood(values, INSIDE) > flair.likelihood(values, INSIDE) + 0.4


class TestFormat:
    SCALE = TissueScale.fit([(person("T1w")[BRAIN], INSIDE)], background=-4.0)

    def test_json_round_trip(self):
        text = json.dumps(self.SCALE.to_dict())
        assert TissueScale.from_dict(json.loads(text)) == self.SCALE
        assert self.SCALE.background == -4.0
        assert len(text) < 10_000

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"densities": [[1.0, 2.0, 1.0]] * 2}, "densities: got lengths"),
            ({"densities": [[1.0, 2.0, 1.0], [1.0] * 4, [1.0] * 4]}, "densities: got lengths"),
            ({"densities": [[1.0, 2.0, 1.0], [1.0, -1.0, 1.0], [1.0] * 3]}, "negative"),
            ({"densities": [[0.0] * 3] * 3}, "all-zero"),
            ({"densities": 3.0}, "intensity.densities: got 3.0, expected a list"),
            ({"step": 0.0}, "positive step"),
            ({"lowest": float("nan")}, "intensity.lowest: got nan, expected a finite number"),
            ({"background": float("inf")}, "background"),
            ({"extra": 1}, "intensity.extra.* is unknown"),
        ],
    )
    def test_from_dict_refuses(self, change, message):
        with pytest.raises(ValueError, match=message):
            TissueScale.from_dict({**self.SCALE.to_dict(), **change})

    def test_scans_that_cannot_be_standardised(self):
        values = person("T1w")[BRAIN]
        with pytest.raises(ValueError, match="people: got none"):
            TissueScale.fit([])
        with pytest.raises(ValueError, match="regions: got int16 of shape"):
            self.SCALE.match(values[1:], INSIDE)
        with pytest.raises(ValueError, match="regions: got float64"):
            self.SCALE.match(values, INSIDE.astype(float))
        with pytest.raises(ValueError, match="regions: got 0 voxels"):
            self.SCALE.match(values, np.zeros_like(INSIDE))
        with pytest.raises(ValueError, match="nearly everywhere"):
            self.SCALE.match(np.full(values.shape, 3.0), INSIDE)
        spoilt = values.copy()
        spoilt[5] = np.inf
        with pytest.raises(ValueError, match="1 NaN or infinite"):
            self.SCALE.match(spoilt, INSIDE)
