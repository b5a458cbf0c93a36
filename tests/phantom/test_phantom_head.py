"""The head around the template's brain: real average anatomy, layers of a head, and a lesion of known place."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from lesioncore.phantom import template_head
from lesioncore.phantom.template import read_maps, sample_linear

VOXEL = 4.0


@pytest.fixture(scope="module")
def patient():
    return template_head(0, voxel_size=VOXEL)


@pytest.fixture(scope="module")
def healthy():
    return template_head(0, lesion=None, voxel_size=VOXEL)


def test_the_brain_is_the_templates(healthy):
    t1, _, _, affine = read_maps()
    brain = healthy.brain_mask
    # The pose is a rigid motion: the template's place of a voxel follows from its index alone.
    origin = np.array([-92.0, -124.0, -88.0]) + VOXEL / 2 - VOXEL * round(16 / VOXEL)
    places = (np.argwhere(brain) * VOXEL + origin - affine[:3, 3]).T
    inside = sample_linear(t1, places.astype(np.float32))
    assert np.corrcoef(healthy.image[brain], inside)[0, 1] > 0.85
    assert 1600 < brain.sum() * VOXEL**3 / 1000 < 2000


def test_a_head_lies_around_it(healthy):
    brain, image = healthy.brain_mask, healthy.image
    middle = [int(index) for index in np.argwhere(brain).mean(0)]
    ray = image[: middle[0], middle[1], middle[2]]  # from the air on the left to the brain's middle
    first = int(np.argmax(brain[:, middle[1], middle[2]]))
    assert ray[:3].max() < 0.3 * ray[first + 2 :].mean()  # air
    assert ray[first - 4 : first].max() > 0.8 * ray[first + 2 :].mean()  # scalp
    assert ray[first - 3 : first].min() < 0.4 * ray[first + 2 :].mean()  # skull
    assert not image[[0, -1]].max() > 0.3 * image[brain].mean()


def test_the_lesion_alone_tells_the_patient_from_the_healthy(patient, healthy):
    assert not healthy.lesion_mask.any()
    assert np.array_equal(patient.brain_mask, healthy.brain_mask)
    assert np.array_equal(patient.affine, healthy.affine)
    change = patient.image - healthy.image
    assert change[patient.lesion_mask].mean() < -0.2 * healthy.image[healthy.brain_mask].mean()
    assert not change[~patient.brain_mask].any()
    volume = patient.lesion_mask.sum() * VOXEL**3 / 1000
    assert patient.parameters["lesion"]["volume_ml"] == pytest.approx(volume)
    assert not (patient.lesion_mask & ~patient.brain_mask).any()


def test_it_lies_oblique_in_its_scanner(patient):
    axes = patient.affine[:3, :3] / VOXEL
    assert np.allclose(axes @ axes.T, np.eye(3))
    assert np.linalg.det(axes) > 0
    assert nib.aff2axcodes(patient.affine) == ("R", "A", "S")
    assert 2 < np.degrees(np.arccos((np.trace(axes) - 1) / 2)) < 25
    header = patient.nifti().header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)  # the scanner's space, not MNI


def test_the_draws_follow_from_the_number(patient):
    assert np.array_equal(template_head(0, voxel_size=VOXEL).image, patient.image)
    other = template_head(1, voxel_size=VOXEL)
    assert not np.array_equal(other.lesion_mask, patient.lesion_mask)
    assert not np.allclose(other.affine, patient.affine)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"subject": -1}, "subject"), ({"lesion": "cyst"}, "lesion"), ({"voxel_size": 0.1}, "voxel_size")],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        template_head(**{"subject": 0, **arguments})
