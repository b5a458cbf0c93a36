"""The phantom's parts: lattices, random fields, growth."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("scipy")

from lesioncore.phantom.fields import bspline_matrix, catmull_rom_matrix, random_field, resample_lattice
from lesioncore.phantom.growth import LOCAL_MM, LocalGrid, grow, territory, volume_level

positions = st.lists(st.floats(0, 90), min_size=1, max_size=20).map(lambda values: np.array(values, dtype=np.float64))


@settings(max_examples=50, deadline=None)
@given(positions)
def test_weights_of_both_bases_sum_to_one(x):
    for basis in (bspline_matrix, catmull_rom_matrix):
        np.testing.assert_allclose(basis(x, 0.0, 10.0, 10).sum(axis=1), 1.0, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(positions, st.floats(-3, 3), st.floats(-3, 3))
def test_catmull_rom_reproduces_a_quadratic_inside(x, slope, bend):
    x = 10 + x * 70 / 90
    nodes = np.arange(10) * 10.0
    values = slope * nodes + bend * nodes**2 / 90
    expected = slope * x + bend * x**2 / 90
    np.testing.assert_allclose(catmull_rom_matrix(x, 0.0, 10.0, 10) @ values, expected, atol=1e-3)


def test_catmull_rom_meets_its_nodes():
    rng = np.random.default_rng(0)
    lattice = [np.arange(n) * 4.0 - 7 for n in (6, 5, 7)]
    values = rng.standard_normal((6, 5, 7)).astype(np.float32)
    np.testing.assert_allclose(resample_lattice(values, lattice, lattice), values, atol=1e-6)


def test_random_field_has_unit_variance_and_does_not_depend_on_where_it_is_asked():
    low, high = [-60.0] * 3, [60.0] * 3
    dense = [np.arange(-60, 60, 2.0)] * 3
    fields = [random_field(np.random.default_rng(seed), 8.0, low, high, dense) for seed in range(4)]
    assert abs(np.mean(fields)) < 0.05
    assert np.std(fields) == pytest.approx(1.0, abs=0.05)
    sparse = [dense[0][::3], dense[1][5:9], dense[2][-7:]]
    again = random_field(np.random.default_rng(1), 8.0, low, high, sparse)
    np.testing.assert_allclose(again, fields[1][::3, 5:9, -7:], atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(2.5, 7.0))
def test_volume_level_gives_the_sphere(seed, radius):
    rng = np.random.default_rng(seed)
    level = rng.permutation(20**3).reshape(20, 20, 20).astype(np.float32)
    counted = rng.random(level.shape) < 0.7
    edge = volume_level(level, counted, radius)
    volume = (level[counted] < edge).sum() * LOCAL_MM**3
    assert abs(volume - 4 / 3 * np.pi * radius**3) <= LOCAL_MM**3


def test_a_tumour_follows_white_matter_and_stops_at_fluid():
    size = 31
    middle = size // 2
    white = np.zeros((size, size, size), dtype=np.float32)
    white[:, middle - 2 : middle + 3, middle - 2 : middle + 3] = 1  # a tract along x through grey matter
    grey = 1 - white
    white[middle + 6 :] = grey[middle + 6 :] = 0  # fluid ahead
    arrival = grow(white, grey, np.ones_like(white), 8.0, 18.0)
    assert arrival[middle, middle, middle] == 0
    along, across = arrival[middle - 8, middle, middle], arrival[middle, middle - 8, middle]
    assert 0 < along < 0.8 * across
    beyond_fluid = arrival[middle + 8, middle, middle]
    assert beyond_fluid > 2 * along
    steps = arrival[middle::-1, middle, middle][:10]
    assert (np.diff(steps) >= 0).all()


def test_a_territory_widens_from_its_apex_to_the_surface():
    grid = LocalGrid(np.array([40.0, 0.0, 10.0]), 20)
    outward = np.array([1.0, 0.0, 0.0])
    level = territory(grid, outward, 30.0, 0.8)
    inside = level < np.quantile(level, 0.1)
    widths = inside.sum(axis=(1, 2))
    apex, surface = 20 - 15, 20
    assert widths[surface] > 2 * widths[apex + 2] > 0
    assert widths[0] < widths[apex + 2]
