"""Registration to the template: any pose, any contrast, large lesions; what is no brain is refused."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from lesioncore.preprocess.pose import apply, turn_between
from lesioncore.preprocess.registration import RegistrationError, RegistrationQuality, register
from lesioncore.preprocess.template import brain_template, write_template

pytest.importorskip("SimpleITK")

SHAPE = (110, 120, 110)
LEVELS = {"T1w": (40, 110, 160), "T2w": (220, 110, 80), "FLAIR": (20, 120, 95)}  # fluid, grey, white


def turn(axis, degrees):
    axis = np.array(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.cross(np.eye(3), -axis)
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix


def person(contrast, pose, scales=(0.95, 1.05, 0.92), voxel=2.0, seed=0):
    """A brain with its own contrast, bias and noise in a pose: values, affine, brain, and the map to the template."""
    template = brain_template()
    fluid, grey, white = LEVELS[contrast]
    values = fluid + (grey - fluid) * template.grey + (white - fluid) * template.white
    size = np.diag([*scales, 1.0])
    to_template = np.linalg.inv(pose @ size)  # scan's world -> template
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = apply(pose @ size, np.array([0, -17.0, 5.0])) - voxel * (np.array(SHAPE) - 1) / 2
    matrix = np.linalg.inv(template.affine) @ to_template @ affine
    moved, share = (
        affine_transform(part.astype(np.float32), matrix[:3, :3], matrix[:3, 3], SHAPE, order=1)
        for part in (values * template.brain, template.brain)
    )
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    bias = np.exp(0.3 * (x - y + 0.5 * z))
    noise = rng.normal(0, 4, SHAPE) + 8 * gaussian_filter(rng.normal(size=SHAPE), 2) / 0.05
    brain = share > 0.5
    return np.where(brain, (moved + 0.2 * noise) * bias, 0).astype(np.float32), affine, brain, to_template


def distance(first, second):
    """Largest distance (mm) between where two maps put the template's brain."""
    template = brain_template()
    points = apply(template.affine, np.argwhere(template.brain)[::101].astype(np.float64))
    return np.linalg.norm(apply(second @ np.linalg.inv(first), points) - points, axis=1).max()


@pytest.mark.parametrize(
    ("contrast", "axis", "degrees"),
    [("T1w", (1, 0.3, 0), 30), ("T2w", (0, 1, 0), 90), ("FLAIR", (1, -1, 2), 170)],
)
def test_a_brain_in_any_pose_and_contrast_finds_its_place(contrast, axis, degrees):
    pose = turn(axis, degrees)
    pose[:3, 3] = (30, -40, 25)
    values, affine, brain, expected = person(contrast, pose)
    found = register(values, affine, brain)
    assert found.accepted
    assert distance(expected, found.matrix) < 2.0
    assert found.quality.overlap > 0.95
    np.testing.assert_allclose(np.sort(found.quality.scales), np.sort(1 / np.array([0.95, 1.05, 0.92])), atol=0.02)
    assert found.quality.rotation == pytest.approx(degrees, abs=3)


def test_storage_order_and_handedness_are_the_affines():
    """Stored from right to left, a brain has the same place; called the other way round, it is its mirror image."""
    values, affine, brain, expected = person("T1w", turn((0, 0, 1), 10), voxel=2.2)
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SHAPE[0] - 1
    flipped = [part[::-1].transpose(2, 0, 1) for part in (values, brain)]
    order = np.eye(4)[[1, 2, 0, 3]]
    found = register(flipped[0], affine @ flip @ order, flipped[1])
    assert np.linalg.det(found.matrix[:3, :3]) > 0
    assert distance(expected, found.matrix) < 2.0


def test_registrations_repeat_to_the_bit_and_leave_simpleitk_its_threads():
    from SimpleITK import ProcessObject

    before = ProcessObject.GetGlobalDefaultNumberOfThreads()
    ProcessObject.SetGlobalDefaultNumberOfThreads(3)
    try:
        values, affine, brain, _ = person("T1w", turn((0, 0, 1), 10))
        with ThreadPoolExecutor(2) as executor:
            matrices = [executor.submit(register, values, affine, brain) for _ in range(2)]
        first, second = (future.result().matrix for future in matrices)
        assert np.array_equal(first, second)
        assert ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
    finally:
        ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@pytest.mark.parametrize("step", [50.0, 200.0, 2000.0])
def test_a_first_step_too_far_is_taken_back(step, monkeypatch):
    from SimpleITK import ImageRegistrationMethod as Method

    values, affine, brain, expected = person("T1w", turn((0, 0, 1), 10))
    usual = Method.SetOptimizerAsRegularStepGradientDescent
    far = {2.0: step}  # the affine map's at 4 mm
    monkeypatch.setattr(
        Method,
        "SetOptimizerAsRegularStepGradientDescent",
        lambda method, first, *rest: usual(method, far.get(first, first), *rest),
    )
    assert distance(expected, register(values, affine, brain).matrix) < 2.0


def test_a_step_that_throws_the_brains_apart_is_taken_back(monkeypatch):
    from SimpleITK import ImageRegistrationMethod as Method

    values, affine, brain, expected = person("T1w", turn((0, 0, 1), 10))
    usual, failed = Method.Execute, []

    def execute(method, *images):
        if not failed:
            failed.append(method)
            raise RuntimeError("All samples map outside moving image buffer")
        return usual(method, *images)

    monkeypatch.setattr(Method, "Execute", execute)
    assert distance(expected, register(values, affine, brain).matrix) < 2.0
    assert failed


@pytest.mark.parametrize("shift", [120.0, -90.0])
def test_a_lesion_of_230_ml_does_not_move_it(shift):
    values, affine, brain, expected = person("T1w", turn((1, 0, 0), 15))
    indices = np.argwhere(brain)
    centre = np.array(SHAPE) / 2 + (14, 8, 6)
    nearest = np.argsort(np.linalg.norm(indices - centre, axis=1))[: int(230 / 0.008)]
    weight = np.zeros(SHAPE, dtype=np.float32)
    weight[tuple(indices[nearest].T)] = 1
    found = register(values + shift * gaussian_filter(weight, 1.5) * brain, affine, brain)
    assert distance(expected, found.matrix) < 4.0


def test_half_a_brain_and_noise_are_refused():
    values, affine, brain, expected = person("T1w", np.eye(4))
    places = apply(expected @ affine, np.stack(np.indices(SHAPE), axis=-1).astype(float))
    with pytest.raises(RegistrationError, match="does not fit the template") as error:
        register(values, affine, brain & (places[..., 0] < 0))
    assert "overlap" in str(error.value)
    noise = gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 1.5).astype(np.float32)
    with pytest.raises(RegistrationError, match="likeness"):
        register(noise, affine, brain)


def test_each_limit_names_its_figure():
    good = {"overlap": 0.95, "likeness": 0.4, "scales": (0.9, 1.0, 1.1), "rotation": 180.0}
    assert not RegistrationQuality(**good).problems
    for name, value in (("overlap", 0.7), ("likeness", 0.05), ("scales", (0.4, 1.0, 1.1)), ("scales", (1.0, 1.0, 1.9))):
        (problem,) = RegistrationQuality(**{**good, name: value}).problems
        assert problem.startswith(name)


def test_what_cannot_be_registered_is_refused():
    values, affine, brain, _ = person("T1w", np.eye(4))
    with pytest.raises(ValueError, match="expected bool of shape"):
        register(values, affine, brain[1:])
    with pytest.raises(ValueError, match="ml, expected a brain"):
        register(values, affine, np.zeros_like(brain))
    with pytest.raises(ValueError, match="same value"):
        register(brain.astype(float), affine, brain)
    with pytest.raises(ValueError, match="NaN"):
        register(np.where(brain, np.nan, 0), affine, brain)


def test_angles_between_maps():
    assert turn_between(turn((1, 2, 3), 50) @ np.diag([2, 2, 2, 1]), turn((1, 2, 3), -30)) == pytest.approx(80)


def test_the_packaged_template_is_what_nilearn_ships(tmp_path):
    pytest.importorskip("nilearn")
    write_template(tmp_path)
    template = brain_template()
    for name, packaged in (
        ("T1w", template.t1),
        ("brain_mask", template.brain),
        ("white_probseg", template.white * 255),
    ):
        made = nib.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(made.affine, template.affine)
        np.testing.assert_allclose(made.get_fdata(), packaged, atol=1e-3)
    assert not template.t1.flags.writeable
    assert np.count_nonzero(template.brain) * 0.008 == pytest.approx(1887, abs=2)  # ml
    # Left-right symmetric, as its name says.
    assert (template.brain != template.brain[::-1]).mean() < 1e-3


@pytest.mark.skipif("LESIONCORE_REAL_DATA" not in os.environ, reason="needs real heads: LESIONCORE_REAL_DATA")
def test_a_real_head_turned_by_30_degrees_finds_the_same_place():
    root = Path(os.environ["LESIONCORE_REAL_DATA"]) / "ixi"
    scan = sorted(root.glob("sub-*/anat/*_T1w.nii.gz"))[0]
    name = scan.name.split("_")[0]
    mask = next((root / "derivatives/muse" / name).glob("anat/*desc-brain_mask.nii.gz"))
    image, brain = nib.load(scan), nib.load(mask).get_fdata() > 0
    straight = register(image.get_fdata(), image.affine, brain)
    world = turn((1, 1, 0), 30)
    tilted = register(image.get_fdata(), world @ image.affine, brain)
    assert distance(straight.matrix, tilted.matrix @ world) < 1.5


def test_without_simpleitk_the_extra_is_named(monkeypatch):
    template = brain_template()
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r"pip install 'lesioncore\[preprocess\]'"):
        register(template.t1, template.affine, template.brain)
