"""Bias-field correction: what a coil does is taken out, what a lesion does stays."""

import builtins

import numpy as np
import pytest

from lesioncore.preprocess.bias import correct_bias
from lesioncore.preprocess.template import brain_template

pytest.importorskip("SimpleITK")


@pytest.fixture(scope="module")
def scan():
    """The template with texture: values, affine, brain."""
    template = brain_template()
    texture = np.random.default_rng(0).normal(0, 4, template.t1.shape)
    return np.where(template.brain, template.t1 + texture, 0).astype(np.float32), template.affine, template.brain


def field_of(shape, strength=0.3):
    """A smooth field of about 1 - strength to 1 + strength, brighter to the left, the front and in the middle."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.exp(strength * (-0.5 * x + 0.4 * y + 0.3 * z**2 - 0.3 * x * y)).astype(np.float32)


def lesion_of(affine, shape, centre=(-30, -30, 25), radius=36):
    """A smooth-edged ball of about 190 ml: its weight."""
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(indices @ affine[:3, :3].T + affine[:3, 3] - centre, axis=-1)
    return (1 / (1 + np.exp((distance - radius) / 1.5))).astype(np.float32)


def spread(log_field, where):
    return float(log_field[where].std())


def test_a_smooth_field_is_taken_out(scan):
    values, affine, brain = scan
    field = field_of(values.shape)
    own = correct_bias(values, affine, brain)[1]
    corrected, found = correct_bias(values * field, affine, brain)
    left = spread(np.log(field * own / found), brain)
    assert left < 0.35 * spread(np.log(field), brain)
    np.testing.assert_allclose(corrected, values * field / found, rtol=1e-6)
    assert corrected.dtype == found.dtype == np.float32
    assert np.log(found[brain]).mean() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("shift", [60.0, -60.0])
def test_a_large_lesion_stays(scan, shift):
    """The defaults keep most of it, and more of it than a finer field."""
    values, affine, brain = scan
    weight = lesion_of(affine, values.shape)
    ill = np.where(brain, np.maximum(values + shift * weight, 5), 0)
    core, rest = brain & (weight > 0.9), brain & (weight < 0.1)

    def contrast(levels):
        """Change of the ratio of lesion and healthy brain that the lesion makes in the field."""
        logs = [np.log(correct_bias(scan, affine, brain, levels=levels, iterations=10)[1]) for scan in (ill, values)]
        return abs((logs[0] - logs[1])[core].mean() - (logs[0] - logs[1])[rest].mean())

    true = abs(np.log(ill[core] / np.maximum(values[core], 5)).mean())
    assert contrast(2) < contrast(4)
    assert contrast(2) < 0.5 * true


def test_the_storage_order_and_the_voxels_change_nothing(scan):
    values, affine, brain = scan
    biased = values * field_of(values.shape)
    field = correct_bias(biased, affine, brain, iterations=5)[1]
    order = np.eye(4)[[2, 0, 1, 3]]
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = values.shape[0] - 1

    def stored(array):
        return array[::-1].transpose(1, 2, 0)

    other = correct_bias(stored(biased), affine @ flip @ order, stored(brain), iterations=5)[1]
    assert np.abs(np.log(other / stored(field)))[stored(brain)].max() < 0.02
    fine = [part.repeat(2, 0).repeat(2, 1) for part in (biased, brain)]
    found = correct_bias(fine[0], affine @ np.diag([0.5, 0.5, 1.0, 1.0]), fine[1], iterations=5)[1]
    assert np.abs(np.log(found[::2, ::2] / field))[brain].max() < 0.02


def test_values_that_are_not_positive_are_left_out(scan):
    values, affine, brain = scan
    holes = values.copy()
    holes[30:36, 40:46, 40:46] = -3
    corrected, field = correct_bias(holes, affine, brain)
    assert np.isfinite(corrected).all()
    assert np.abs(np.log(field / correct_bias(values, affine, brain)[1]))[brain].max() < 0.03


def test_what_cannot_be_corrected_is_refused(scan, monkeypatch):
    values, affine, brain = scan
    with pytest.raises(ValueError, match="expected bool of shape"):
        correct_bias(values, affine, brain[1:])
    with pytest.raises(ValueError, match="no positive value"):
        correct_bias(-values, affine, brain)
    with pytest.raises(ValueError, match="NaN"):
        correct_bias(np.where(brain, np.nan, 0), affine, brain)
    with pytest.raises(ValueError, match="positive numbers"):
        correct_bias(values, affine, brain, levels=0)
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "SimpleITK":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"lesioncore\[preprocess\]"):
        correct_bias(values, affine, brain)
