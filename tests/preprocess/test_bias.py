"""Bias-field correction: what a coil does is taken out, what a lesion does stays."""

import numpy as np
import pytest

from lesioncore.preprocess.bias import correct_bias
from lesioncore.preprocess.template import brain_template

HERE = np.eye(4)  # the template is where it is


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
    own = correct_bias(values, affine, brain, HERE)[1]
    corrected, found = correct_bias(values * field, affine, brain, HERE)
    left = spread(np.log(field * own / found), brain)
    assert left < 0.15 * spread(np.log(field), brain)
    np.testing.assert_allclose(corrected, values * field / found, rtol=1e-6)
    assert corrected.dtype == found.dtype == np.float32
    assert np.log(found[brain]).mean() == pytest.approx(0, abs=1e-4)
    assert found[brain].min() <= found.min()
    assert found.max() <= found[brain].max()


def test_the_contrast_does_not_matter(scan):
    values, affine, brain = scan
    field = field_of(values.shape)
    inverted = np.where(brain, 300 - values, 0).astype(np.float32)
    own = correct_bias(inverted, affine, brain, HERE)[1]
    found = correct_bias(inverted * field, affine, brain, HERE)[1]
    assert spread(np.log(field * own / found), brain) < 0.25 * spread(np.log(field), brain)


@pytest.mark.parametrize("shift", [60.0, -60.0])
@pytest.mark.parametrize("biased", [False, True])
def test_a_large_lesion_stays(scan, shift, biased):
    """An eighth of the brain, and a quarter of its intensity: the hardest kind, too little for another tissue."""
    values, affine, brain = scan
    weight = lesion_of(affine, values.shape)
    ill = np.where(brain, np.maximum(values + shift * weight, 5), 0)
    core, rest = brain & (weight > 0.9), brain & (weight < 0.1)
    field = field_of(values.shape) if biased else np.float32(1)
    change = np.log(
        correct_bias(ill * field, affine, brain, HERE)[1] / correct_bias(values * field, affine, brain, HERE)[1]
    )
    true = np.log(ill[core] / np.maximum(values[core], 5)).mean()
    assert abs(change[core].mean() - change[rest].mean()) < 0.1 * abs(true)


def test_pose_storage_order_and_voxels_change_nothing(scan):
    values, affine, brain = scan
    biased = values * field_of(values.shape)
    field = correct_bias(biased, affine, brain, HERE)[1]
    order = np.eye(4)[[2, 0, 1, 3]]
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = values.shape[0] - 1

    def stored(array):
        return array[::-1].transpose(1, 2, 0)

    other = correct_bias(stored(biased), affine @ flip @ order, stored(brain), HERE)[1]
    assert np.abs(np.log(other / stored(field)))[stored(brain)].max() < 0.02
    fine = [part.repeat(2, 0).repeat(2, 1) for part in (biased, brain)]
    half = affine @ np.diag([0.5, 0.5, 1.0, 1.0])
    half[:3, 3] -= 0.25 * (affine[:3, 0] + affine[:3, 1])  # the first of two voxels lies a quarter before their middle
    found = correct_bias(fine[0], half, fine[1], HERE)[1]
    assert np.abs(np.log(found[::2, ::2] / field))[brain].max() < 0.02
    turn = np.array([[0.8, -0.6, 0, 30], [0.6, 0.8, 0, -12], [0, 0, 1, 7], [0, 0, 0, 1]])
    turned = correct_bias(biased, turn @ affine, brain, np.linalg.inv(turn))[1]
    np.testing.assert_allclose(turned, field, rtol=1e-4)


def test_values_that_are_not_positive_are_left_out(scan):
    values, affine, brain = scan
    holes = values.copy()
    holes[30:36, 40:46, 40:46] = -3
    corrected, field = correct_bias(holes, affine, brain, HERE)
    assert np.isfinite(corrected).all()
    assert np.abs(np.log(field / correct_bias(values, affine, brain, HERE)[1]))[brain].max() < 0.03


def test_a_constant_brain_has_no_field(scan):
    values, affine, brain = scan
    field = correct_bias(np.full_like(values, 7), affine, brain, HERE)[1]
    np.testing.assert_allclose(field, 1, atol=1e-3)


def test_what_cannot_be_corrected_is_refused(scan):
    values, affine, brain = scan
    with pytest.raises(ValueError, match="expected bool of shape"):
        correct_bias(values, affine, brain[1:], HERE)
    with pytest.raises(ValueError, match="no positive value"):
        correct_bias(-values, affine, brain, HERE)
    with pytest.raises(ValueError, match="NaN"):
        correct_bias(np.where(brain, np.nan, 0), affine, brain, HERE)
    with pytest.raises(ValueError, match=r"to_template: got shape \(3, 4\), expected \(4, 4\)"):
        correct_bias(values, affine, brain, HERE[:3])
    few = np.zeros_like(brain)
    few[40:48, 40:48, 40:48] = True
    with pytest.raises(ValueError, match=r"got \d+ blocks of 4 mm, expected a brain"):
        correct_bias(values, affine, few, HERE)
