"""The simulated population: one brain per subject, whatever is asked of it, and lesions that are hard enough."""

import json
import sys
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("scipy")
pytest.importorskip("nilearn")

from scipy import ndimage

from lesioncore.metrics import ScoreHistogram
from lesioncore.phantom import Phantom, PhantomConfig, simulate
from lesioncore.phantom.template import load_template

STILL = PhantomConfig(
    rotation_deg=0,
    scale=0,
    shift_mm=0,
    deformation_mm=(),
    deformation_spacing_mm=(),
    gyri_mm=0,
    gyri_logit=0,
    ventricle_mm=(0, 0),
    atrophy=(0, 0),
    strip_mm=0,
)


@lru_cache(maxsize=64)
def phantom(subject: int = 0, **arguments) -> Phantom:
    return simulate(subject, **{"voxel_size": 4.0, **arguments})


def same(a: Phantom, b: Phantom) -> bool:
    arrays = ("image", "brain_mask", "lesion_mask", "affine", "tissue")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays) and a.parameters == b.parameters


def radius(p: Phantom) -> float:
    volume = p.lesion_mask.sum() * abs(np.linalg.det(p.affine[:3, :3]))
    return (volume * 3 / 4 / np.pi) ** (1 / 3)


def distance_to_lesion(p: Phantom) -> np.ndarray:
    return ndimage.distance_transform_edt(~p.lesion_mask, sampling=np.diag(p.affine)[:3])


@pytest.mark.parametrize("lesion", [None, "glioma", "stroke"])
def test_same_arguments_give_the_same_bytes(lesion):
    assert same(simulate(3, lesion=lesion, voxel_size=4.0), phantom(3, lesion=lesion))


def test_subjects_splits_and_seeds_never_share_a_brain():
    others = [phantom(0, split=split) for split in ("train", "validation", "test", "demo")]
    others += [phantom(1), phantom(0, seed=1)]
    for i, a in enumerate(others):
        for b in others[:i]:
            assert not np.array_equal(a.tissue, b.tissue)
            assert not np.array_equal(a.image, b.image)
            assert a.parameters["anatomy"]["scale"] != b.parameters["anatomy"]["scale"]


@pytest.mark.parametrize("lesion", [None, "glioma", "stroke"])
def test_one_anatomy_in_both_contrasts(lesion):
    t1, t2 = (phantom(2, contrast=contrast, lesion=lesion) for contrast in ("T1w", "T2w"))
    np.testing.assert_array_equal(t1.tissue, t2.tissue)
    np.testing.assert_array_equal(t1.brain_mask, t2.brain_mask)
    np.testing.assert_array_equal(t1.lesion_mask, t2.lesion_mask)
    assert not np.array_equal(t1.image, t2.image)


def test_a_stroke_changes_nothing_but_its_surroundings():
    healthy, stroke = phantom(4), phantom(4, lesion="stroke")
    np.testing.assert_array_equal(healthy.tissue, stroke.tissue)
    far = distance_to_lesion(stroke) > 16
    assert far[stroke.brain_mask].sum() > 0.8 * stroke.brain_mask.sum()
    # A thin fringe of the territory may hold too little of it to be counted as lesion.
    change = np.abs(healthy.image - stroke.image)
    assert (change[far] > 0).sum() < 1e-3 * stroke.lesion_mask.sum() + 5
    assert change[far].max() < 0.05 * healthy.image.max()
    assert not np.array_equal(healthy.image[stroke.lesion_mask], stroke.image[stroke.lesion_mask])


def test_mass_effect_moves_tissue_near_a_glioma_only():
    healthy = phantom(4)
    still = phantom(4, lesion="glioma", config=PhantomConfig(mass_effect=(0, 0)))
    pushed = phantom(4, lesion="glioma", config=PhantomConfig(mass_effect=(0.3, 0.3)))
    np.testing.assert_array_equal(healthy.tissue, still.tissue)
    change = np.abs(pushed.tissue - healthy.tissue).max(axis=0)
    reach = 5 * pushed.parameters["lesion"]["core_radius_mm"]
    axes = np.indices(change.shape).reshape(3, -1).T @ pushed.affine[:3, :3].T + pushed.affine[:3, 3]
    away = np.linalg.norm(axes - pushed.parameters["lesion"]["centre_mm"], axis=1).reshape(change.shape)
    assert change[away < reach / 2].max() > 0.1
    assert change[away > reach].max() < 0.01


def test_a_lesion_without_contrast_is_invisible():
    stroke = phantom(4, lesion="stroke", config=PhantomConfig(lesion_contrast=0))
    np.testing.assert_array_equal(stroke.image, phantom(4).image)
    assert stroke.lesion_mask.any()


@pytest.mark.parametrize("lesion", ["glioma", "stroke"])
@pytest.mark.parametrize("subject", range(4))
def test_lesions_lie_in_the_brain_and_have_the_size_they_claim(lesion, subject):
    p = phantom(subject, lesion=lesion, voxel_size=3.0)
    assert p.lesion_mask.any()
    assert not (p.lesion_mask & ~p.brain_mask).any()
    wanted = p.parameters["lesion"]["radius_mm"]
    assert 8 <= wanted <= 25
    assert radius(p) == pytest.approx(wanted, rel=0.1)
    assert p.parameters["lesion"]["volume_ml"] == pytest.approx(4 / 3 * np.pi * radius(p) ** 3 / 1000)
    # Ventricles and cisterns are no lesion.
    assert not (p.lesion_mask & (p.tissue[0] > 0.95)).any()


@pytest.mark.parametrize("lesion", ["glioma", "stroke"])
@pytest.mark.parametrize("size", [10.0, 24.0])
def test_the_configured_size_is_kept(lesion, size):
    p = phantom(1, lesion=lesion, voxel_size=3.0, config=PhantomConfig(lesion_radius_mm=(size, size)))
    assert radius(p) == pytest.approx(size, rel=0.1)


@pytest.mark.parametrize("subject", range(3))
@pytest.mark.parametrize(("contrast", "order"), [("T1w", [0, 1, 2]), ("T2w", [2, 1, 0])])
def test_tissues_are_ordered_as_in_the_contrast(contrast, order, subject):
    p = phantom(subject, contrast=contrast)
    means = [p.image[fraction > 0.9].mean() for fraction in p.tissue]
    assert means[order[0]] * 1.1 < means[order[1]] < means[order[2]] / 1.1


@pytest.mark.parametrize(("contrast", "lesion", "sign"), [("T2w", "glioma", 1), ("T1w", "stroke", -1)])
def test_thresholding_finds_lesions_but_not_well(contrast, lesion, sign):
    histogram = ScoreHistogram(0.0, 40.0)
    lesions, grey, fluid = [], [], []
    for subject in range(8):
        p = phantom(subject, contrast=contrast, lesion=lesion)
        inside = p.image[p.brain_mask]
        score = np.where(p.brain_mask, 20 + sign * (p.image - inside.mean()) / inside.std(), 0.0)
        histogram.add(score, p.lesion_mask, p.brain_mask)
        lesions.append(score[p.lesion_mask])
        grey.append(score[(p.tissue[1] > 0.7) & ~p.lesion_mask])
        fluid.append(score[(p.tissue[0] > 0.5) & ~p.lesion_mask])
    assert 0.78 < histogram.auc() < 0.93
    # The lesions' values run from those of grey matter into those of fluid.
    scores = np.concatenate(lesions)
    assert (scores < np.quantile(np.concatenate(grey), 0.99)).mean() > 0.1
    assert (np.concatenate(fluid) < np.quantile(scores, 0.9)).mean() > 0.2


@pytest.mark.parametrize("contrast", ["T1w", "T2w"])
def test_image_is_a_skull_stripped_scan(contrast):
    p = phantom(0, contrast=contrast)
    assert p.image.dtype == np.float32
    assert p.brain_mask.dtype == p.lesion_mask.dtype == bool
    assert (p.image[~p.brain_mask] == 0).all()
    assert (p.image[p.brain_mask] >= 1).all()
    np.testing.assert_array_equal(p.image, np.rint(p.image))
    assert not p.lesion_mask.any()
    np.testing.assert_allclose(p.tissue.sum(axis=0), p.brain_mask, atol=1e-5)
    assert p.tissue.min() >= 0
    assert ndimage.label(p.brain_mask)[1] == 1
    assert 1.3e6 < p.brain_mask.sum() * 64 < 2.4e6
    for axis in range(3):
        faces = np.take(p.brain_mask, [0, -1], axis=axis)
        assert not faces.any()
    json.dumps(p.parameters, allow_nan=False)


def test_affine_is_ras_and_centres_the_brain_in_mni_space():
    p = phantom(0, voxel_size=3.0)
    np.testing.assert_array_equal(p.affine[:3, :3], np.diag([3.0, 3.0, 3.0]))
    centre = np.array(ndimage.center_of_mass(p.brain_mask)) * 3 + p.affine[:3, 3]
    np.testing.assert_allclose(centre, [0, -20, 7], atol=10)
    image = p.nifti()
    np.testing.assert_array_equal(image.affine, p.affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), p.image)
    assert p.nifti("brain_mask").get_data_dtype() == np.uint8
    with pytest.raises(ValueError, match=r"name: got .* expected"):
        p.nifti("tissue")


def blocks(values: np.ndarray) -> np.ndarray:
    x, y, z = (size // 2 for size in values.shape)
    return values.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))


def test_two_millimetres_are_the_mean_of_one():
    fine, coarse = (phantom(0, lesion="glioma", contrast="T2w", voxel_size=size) for size in (1.0, 2.0))
    inside = coarse.brain_mask & (blocks(fine.brain_mask) == 1)
    assert inside.sum() > 0.95 * coarse.brain_mask.sum()
    for tissue in range(3):
        np.testing.assert_allclose(blocks(fine.tissue[tissue])[inside], coarse.tissue[tissue][inside], atol=2e-3)
    down = blocks(fine.image)
    assert np.corrcoef(down[inside], coarse.image[inside])[0, 1] > 0.99
    assert np.abs(down - coarse.image)[inside].mean() < 0.03 * coarse.image[inside].mean()
    lesion = blocks(fine.lesion_mask) > 0.5
    assert 2 * (lesion & coarse.lesion_mask).sum() > 0.93 * (lesion.sum() + coarse.lesion_mask.sum())


def test_coarser_voxels_keep_anatomy_and_lesion():
    fine, coarse = (phantom(5, lesion="stroke", voxel_size=size) for size in (2.0, 4.0))
    inside = coarse.brain_mask & (blocks(fine.brain_mask) == 1)
    assert np.corrcoef(blocks(fine.image)[inside], coarse.image[inside])[0, 1] > 0.97
    assert radius(coarse) == pytest.approx(radius(fine), rel=0.08)


def test_without_variation_every_subject_is_the_template():
    a, b = phantom(0, config=STILL), phantom(1, config=STILL)
    np.testing.assert_array_equal(a.tissue, b.tissue)
    assert not np.array_equal(a.image, b.image)
    # The template is left-right symmetric, and so is the field of view.
    np.testing.assert_allclose(a.tissue, a.tissue[:, ::-1], atol=0.25)


def test_ventricles_and_sulci_widen_with_their_strengths():
    def fluid(**strengths):
        p = phantom(0, config=PhantomConfig(**strengths))
        x, y, z = (np.arange(n) * 4 + o for n, o in zip(p.image.shape, p.affine[:3, 3], strict=True))
        middle = np.ix_(np.abs(x) < 36, np.abs(y + 10) < 45, np.abs(z - 14) < 20)
        return p.tissue[0][middle].sum(), p.tissue[0].sum()

    base = fluid(ventricle_mm=(0, 0), atrophy=(0.5, 0.5))
    wide = fluid(ventricle_mm=(5, 5), atrophy=(0.5, 0.5))
    old = fluid(ventricle_mm=(0, 0), atrophy=(2, 2))
    assert wide[0] > 1.3 * base[0]
    assert old[1] > 1.15 * base[1]
    assert old[1] - base[1] > 2 * (old[0] - base[0])


def test_noise_and_gain_follow_their_strengths():
    quiet = {"bias": (0.0, 0.0), "texture": 0.0, "gain": (1000.0, 1000.0), "periventricular": (0.0, 0.0)}
    low, high = (phantom(0, config=PhantomConfig(snr=(snr, snr), **quiet)) for snr in (5.0, 20.0))
    clean = phantom(0, config=PhantomConfig(snr=(1e6, 1e6), **quiet))
    white = clean.tissue[2] > 0.9
    for noisy, snr in ((low, 5.0), (high, 20.0)):
        level = clean.image[white].mean() / snr / 4.0**1.5
        assert (noisy.image - clean.image)[white].std() == pytest.approx(level, rel=0.15)
    double = phantom(0, config=PhantomConfig(snr=(1e6, 1e6), **{**quiet, "gain": (2000.0, 2000.0)}))
    np.testing.assert_allclose(double.image, 2 * clean.image, atol=1.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subject": -1}, "subject: got .* expected a whole number"),
        ({"subject": 1.5}, "subject: got .* expected a whole number"),
        ({"subject": True}, "subject: got .* expected a whole number"),
        ({"seed": -3}, "seed: got .* expected a whole number"),
        ({"split": "holdout"}, "split: got .* expected one of train"),
        ({"contrast": "FLAIR"}, "contrast: got 'FLAIR', expected one of T1w, T2w"),
        ({"lesion": "cyst"}, "lesion: got .* expected None or one of glioma, stroke"),
        ({"voxel_size": 0.0}, "voxel_size: got .* expected millimetres"),
        ({"voxel_size": float("nan")}, "voxel_size: got .* expected millimetres"),
        ({"voxel_size": "2"}, "voxel_size: got .* expected millimetres"),
        ({"voxel_size": 20}, "voxel_size: got .* expected millimetres"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(**{"subject": 0, **arguments})


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ({"texture": -0.1}, "texture: got .* expected numbers of at least 0"),
        ({"texture": float("inf")}, "texture: got .* expected finite"),
        ({"texture": "much"}, "texture: got .* expected finite"),
        ({"snr": (0.0, 3.0)}, "snr: got .* expected numbers above 0"),
        ({"bias": (0.2, 0.1)}, "bias: got .* expected .low, high."),
        ({"bias": 0.1}, "bias: got .* expected .low, high."),
        ({"texture": (0.1, 0.2)}, "texture: got .* expected one number"),
        ({"mass_effect": (0.0, 0.9)}, "mass_effect: got .* expected at most"),
        ({"deformation_mm": (1.0,)}, "deformation_mm: got .* expected one amplitude per entry"),
    ],
)
def test_bad_strengths_are_named(strengths, message):
    with pytest.raises(ValueError, match=message):
        PhantomConfig(**strengths)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 5), st.floats(0, 5))
def test_config_round_trips_through_json(a, b):
    config = PhantomConfig(texture=a, bias=(min(a, b), max(a, b)))
    values = json.loads(json.dumps(config.to_dict()))
    assert PhantomConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}) == config


@pytest.mark.parametrize("module", ["scipy.ndimage", "nilearn"])
def test_a_missing_extra_is_named(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'lesioncore\[phantom\]'"):
        load_template.__wrapped__()
