"""The packaged atlas: known places, symmetric, nothing of the brain left out; names of bodies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lesioncore.preprocess.template import brain_template
from lesioncore.report.regions import locate, region_at, region_atlas, region_numbers

KNOWN = {
    (12, -18, 8): "thalamus",
    (12, 12, 10): "caudate nucleus",
    (26, 4, 0): "putamen",
    (20, -4, -2): "globus pallidus",
    (28, -22, -14): "hippocampus",
    (22, -4, -20): "amygdala",
    (38, 6, 0): "insula",
    (4, 20, 32): "cingulate gyrus",
    (22, -12, 8): "internal capsule, posterior limb",
    (18, 10, 8): "internal capsule, anterior limb",
    (18, -38, 16): "lateral ventricle",
    (24, 20, 26): "frontal lobe, white matter",
    (4, 50, 30): "frontal lobe, cortex",
    (30, -60, 40): "parietal lobe, white matter",
    (4, -60, 50): "parietal lobe, cortex",
    (38, -35, 0): "temporal lobe, white matter",
    (56, -20, -10): "temporal lobe, cortex",
    (25, -80, 5): "occipital lobe, white matter",
    (6, -92, 10): "occipital lobe, cortex",
    (25, -62, -38): "cerebellar hemisphere",
}


@pytest.mark.parametrize(("place", "name"), KNOWN.items(), ids=KNOWN.values())
def test_known_places_have_their_names_on_both_sides(place, name):
    x, y, z = place
    assert region_at((x, y, z)) == f"right {name}"
    assert region_at((-x, y, z)) == f"left {name}"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ((2, -30, -36), "brain stem"),
        ((-2, -62, -24), "cerebellar vermis"),
        ((1, -46, -34), "fourth ventricle"),
        ((-2, 24, 6), "corpus callosum"),
    ],
)
def test_what_is_one_for_both_sides_has_none(place, name):
    assert region_at(place) == name


def test_the_midline_is_on_no_side():
    assert region_at((0, 50, 30)) == "frontal lobe, cortex"


@pytest.mark.parametrize("place", [(0, 200, 0), (-1e30, 0, 0), (0, 88, 0)])
def test_beyond_the_atlas_there_is_no_region(place):
    assert region_at(place) is None


def test_the_atlas_covers_the_template_and_is_symmetric():
    atlas, template = region_atlas(), brain_template()
    assert atlas.numbers.shape == template.brain.shape
    assert np.array_equal(atlas.affine, template.affine)
    assert atlas.numbers[template.brain].all()
    assert np.array_equal(atlas.numbers, atlas.numbers[::-1])


def test_every_region_has_voxels_a_name_and_its_number():
    atlas = region_atlas()
    assert [region.number for region in atlas.regions] == list(range(1, len(atlas.regions) + 1))
    assert set(np.unique(atlas.numbers)) == set(range(len(atlas.regions) + 1))
    assert len({region.name for region in atlas.regions}) == len(atlas.regions)


def test_ventricles_are_fluid_and_lobes_hold_the_tissue_of_their_name():
    atlas, template = region_atlas(), brain_template()
    grey, white = (
        {region.name: part[(atlas.numbers == region.number) & template.brain].mean() for region in atlas.regions}
        for part in (template.grey, template.white)
    )
    for lobe in ("frontal", "parietal", "temporal", "occipital"):
        assert white[f"{lobe} lobe, white matter"] > grey[f"{lobe} lobe, white matter"]
        assert grey[f"{lobe} lobe, cortex"] > white[f"{lobe} lobe, cortex"]
    assert grey["lateral ventricle"] + white["lateral ventricle"] < 0.5


@settings(max_examples=50)
@given(st.tuples(st.floats(0.1, 75), st.floats(-110, 80), st.floats(-70, 80)))
def test_a_place_and_its_mirror_image_have_one_name(place):
    x, y, z = place
    right, left = region_at((x, y, z)), region_at((-x, y, z))
    assert left == (None if right is None else right.replace("right ", "left "))


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """Places 1 mm apart."""
    steps = np.arange(-radius, radius + 1)
    offsets = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    return np.array(centre) + offsets[(offsets**2).sum(axis=1) <= radius**2]


def test_a_body_has_the_region_of_most_of_its_voxels():
    location = locate(np.concatenate([ball((-12, -18, 8), 3), ball((-24, 20, 26), 1)]))
    assert location.region == "left thalamus"
    assert location.side == "left"
    assert 0.9 < location.share < 1
    assert str(location) == f"left thalamus, {100 * location.share:.0f} %"


def test_a_body_over_both_sides_says_so():
    location = locate(np.concatenate([ball((-12, -18, 8), 3), ball((12, -18, 8), 3)]))
    assert (location.region, location.side) == ("thalamus, both sides", "both")


def test_the_side_of_the_region_is_that_of_its_own_voxels():
    location = locate(np.concatenate([ball((-24, 20, 26), 5), ball((12, -18, 8), 4)]))
    assert (location.region, location.side) == ("left frontal lobe, white matter", "both")


def test_a_body_beyond_the_atlas_has_no_region():
    location = locate(np.array([[-300.0, 0, 0]]))
    assert (location.region, location.share, location.side) == (None, 0.0, "left")
    assert str(location) == "outside the atlas"


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros(3), r"points: got shape \(3,\)"),
        (np.zeros((2, 4)), "expected \\[N, 3\\]"),
        (np.array([[np.nan, 0, 0]]), "not finite"),
    ],
)
def test_places_that_are_none_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        region_numbers(points)


def test_a_body_without_voxels_is_refused():
    with pytest.raises(ValueError, match="points: got none"):
        locate(np.zeros((0, 3)))
