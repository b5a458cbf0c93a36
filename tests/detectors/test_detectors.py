"""Detectors: one call for all, thresholds that hold, and each against its definition."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from support.models import GaussianPrior, tiny_gmvae, tiny_vae
from support.scans import AFFINE, BRAIN, FAST, FINE_AFFINE, HEALTHY, METADATA, SHAPE, VALUES, finer, voxels

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.data.stack import SliceStack
from lesioncore.detectors import (
    METHODS,
    AnoGANDetector,
    EqualizedThreshold,
    IntensityThreshold,
    MAPDetector,
    MeanDistance,
    ProjectionDetector,
    UNetDetector,
    make_detector,
)
from lesioncore.metrics import ScoreHistogram, fpr_threshold
from lesioncore.models import AAE, AAEConfig, AnoGAN, AnoGANConfig, UNet, UNetConfig
from lesioncore.restoration.prepare import prepare


def detectors(sign=None):
    """Every detector of the package, on one grid."""
    vae = tiny_vae(metadata=METADATA)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(UNetConfig((24, 20), (4, 6), 3), METADATA)
    return {
        "intensity": IntensityThreshold(METADATA, sign=sign),
        "equalized": EqualizedThreshold(METADATA, sign=sign),
        "mean-distance": MeanDistance.fit(HEALTHY, METADATA, sign=sign),
        "map": MAPDetector(vae, replace(FAST, sign=sign)),
        "projection": ProjectionDetector(vae, sign=sign),
        "unet": UNetDetector(unet),
    }


ALL = pytest.mark.parametrize("name", list(detectors()))


def slices_of(values, detector):
    scan = prepare(values, detector.metadata)
    return SliceStack(scan.slices, scan.mask, scan.voxel_size)


@ALL
def test_score_is_of_the_inputs_kind_and_grid(name, tmp_path):
    detector = detectors()[name]
    image = nib.Nifti1Image(VALUES.numpy(), AFFINE)
    nib.save(image, tmp_path / "a_T2w.nii.gz")
    score = detector.detect(VALUES, affine=AFFINE)
    assert isinstance(score, torch.Tensor)
    assert (score.shape, score.dtype) == (VALUES.shape, torch.float32)
    assert not score[~BRAIN].any()
    assert score[BRAIN].std() > 1e-4
    array = detector.detect(VALUES.numpy(), affine=AFFINE)
    assert isinstance(array, np.ndarray)
    assert np.array_equal(array, score)
    for found in (detector.detect(image), detector.detect(tmp_path / "a_T2w.nii.gz")):
        assert isinstance(found, nib.Nifti1Image)
        assert np.array_equal(found.affine, AFFINE)
        assert np.array_equal(voxels(found), score)
    several = detector.detect([image, HEALTHY[0]], mask=[BRAIN, BRAIN])
    assert isinstance(several, list)
    assert np.allclose(voxels(several[0]), score, atol=2e-3)  # float32 convolutions round by batch
    assert np.allclose(several[1], detector.detect(HEALTHY[0]), atol=2e-3)


@ALL
def test_finer_scan_keeps_its_grid_and_flipped_storage_its_order(name):
    detector = detectors()[name]
    fine = finer(VALUES).numpy()
    score = voxels(detector.detect(nib.Nifti1Image(fine, FINE_AFFINE)))
    assert score.shape == fine.shape
    assert not score[~finer(BRAIN).numpy()].any()
    flipped = FINE_AFFINE @ np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] += FINE_AFFINE[:3, 0] * (fine.shape[0] - 1)
    other = voxels(detector.detect(nib.Nifti1Image(fine[::-1].copy(), flipped)))
    assert np.array_equal(other[::-1], score)


@pytest.mark.parametrize("sign", [1, -1, None])
@pytest.mark.parametrize("name", [name for name in detectors() if name != "unet"])
def test_finds_a_planted_blob(name, sign):
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij"))
    blob = (places - torch.tensor([12, 8, 5]).view(3, 1, 1, 1)).square().sum(0) <= 6
    changed = torch.where(blob, VALUES + (sign or 1) * 400.0, VALUES).clamp_min(20) * BRAIN
    score = detectors(sign)[name].detect(changed, mask=BRAIN)
    histogram = ScoreHistogram(-10.0, 10.0)
    histogram.add(score, blob, BRAIN)
    assert histogram.auc() > 0.9
    if sign is not None:
        opposite = ScoreHistogram(-10.0, 10.0)
        opposite.add(detectors(-sign)[name].detect(changed, mask=BRAIN), blob, BRAIN)
        assert opposite.auc() < 0.2


@ALL
def test_thresholds_hold_exactly_on_the_healthy_scans(name):
    detector = detectors()[name]
    limits = (0.01, 0.05, 0.1, 0.5)
    fine = [finer(values) for values in HEALTHY]
    prepared = [prepare(v, detector.metadata, affine=FINE_AFFINE) for v in fine]
    calibration = detector.thresholds(prepared)
    detector.metadata = detector.metadata.with_calibration(calibration)
    scores = [detector.detect(v, affine=FINE_AFFINE) for v in fine]
    inside = finer(BRAIN)
    assert (calibration.subjects, calibration.pixels) == (4, 4 * int(inside.sum()))
    healthy = torch.cat([score[inside] for score in scores])
    for limit in limits:
        threshold, exact = calibration.threshold(limit), fpr_threshold(healthy, limit)
        detected = torch.cat([detector.mask(score, limit)[inside] for score in scores])
        assert detected.double().mean() <= limit
        assert torch.equal(detected, healthy > threshold)
        assert exact <= threshold <= exact + max(2e-6, 0.003 * abs(exact))
    stacks = [slices_of(values, detector) for values in HEALTHY]
    alone = [HealthyScores.of(detector.score_stacks([s])[0][s.mask], extent=s.extent) for s in stacks]
    assert detector.thresholds(stacks).healthy == merged(alone)


def test_mask_is_of_the_scores_kind_and_wants_thresholds_for_these_settings():
    detector = IntensityThreshold(METADATA, sign=1)
    image = nib.Nifti1Image(VALUES.numpy(), AFFINE)
    score = detector.detect(image)
    with pytest.raises(ValueError, match="no thresholds for its settings"):
        detector.mask(score)
    detector.metadata = detector.metadata.with_calibration(detector.thresholds(HEALTHY))
    found = detector.mask(score, 0.1)
    assert np.array_equal(found.affine, AFFINE)
    assert np.array_equal(voxels(found) > 0, detector.mask(voxels(score).astype(np.float32), 0.1))
    assert 0 < voxels(found).sum() < 0.2 * BRAIN.sum()
    left = np.zeros(BRAIN.shape, dtype=bool)
    left[: len(left) // 2] = True
    assert np.array_equal(voxels(detector.mask(score, 0.1, brain=left)) > 0, (voxels(found) > 0) & left)
    with pytest.raises(ValueError, match="brain: got shape"):
        detector.mask(score, 0.1, brain=left[1:])
    other = IntensityThreshold(detector.metadata, sign=-1)
    assert other.calibration is None
    ranks = detector.calibration.rank(np.linspace(-9, 9, 50))
    assert (np.diff(ranks) >= 0).all()
    assert ranks[0] == 0
    with pytest.raises(ValueError, match="no scans"):
        detector.thresholds([])
    with pytest.raises(ValueError, match="masks: got 1"):
        detector.thresholds(HEALTHY, masks=[BRAIN])


def test_bounded_scores_lie_between_0_and_1():
    bounded = {name: detector for name, detector in detectors().items() if detector.bounded}
    assert set(bounded) == {"equalized", "unet"}
    for detector in bounded.values():
        score = detector.detect(VALUES)
        assert 0 <= score.min() < score.max() <= 1


def test_a_detector_says_what_it_is():
    projection = ProjectionDetector(tiny_vae(metadata=METADATA), smoothing=4.0, sign=-1)
    assert repr(projection) == "<ProjectionDetector 'tiny', sign=-1, standardize=True, smoothing=4.0; not calibrated>"
    projection.metadata = METADATA.with_calibration(projection.thresholds(HEALTHY))
    assert repr(projection).endswith("smoothing=4.0; calibrated on 4 healthy scans>")
    projection.smoothing = 0.0
    assert repr(projection) == "<ProjectionDetector 'tiny', sign=-1, standardize=True; not calibrated>"
    restoring = repr(detectors()["map"])
    assert "solver=ProxSolver(steps=3," in restoring
    assert "tv_weight=1.0" in restoring
    assert "latent" not in restoring  # the usual one


def test_progress_and_device():
    calls = []
    detector = detectors()["map"]
    score = detector.detect(VALUES, progress=lambda done, steps: calls.append((done, steps)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(detector.detect(VALUES, progress=True), score)
    for wrong in detectors().values():
        with pytest.raises(ValueError, match="device: got 'tpu'"):
            wrong.detect(VALUES, device="tpu")


@pytest.mark.parametrize("kind", [IntensityThreshold, EqualizedThreshold])
def test_wrong_sign_is_named(kind):
    with pytest.raises(ValueError, match="sign: got 2"):
        kind(METADATA, sign=2)


def models():
    """A model of each kind that a directory can hold."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return {
            "vae": tiny_vae(metadata=METADATA),
            "gmvae": tiny_gmvae(metadata=METADATA),
            "unet": UNet(UNetConfig((24, 20), (4, 6), 3), METADATA).eval(),
            "healthy-mean": MeanDistance.fit(HEALTHY, METADATA).model,
            "aae": AAE(AAEConfig((24, 20), (4, 6), 3), METADATA).eval(),
            "anogan": AnoGAN(AnoGANConfig((24, 20), (4, 6), 3, encoder=True), METADATA).eval(),
        }


@pytest.mark.parametrize(
    ("kind", "method", "options", "expected"),
    [
        ("vae", None, {"config": FAST}, MAPDetector),
        ("vae", "projection", {"smoothing": 4.0, "sign": 1}, ProjectionDetector),
        ("vae", "intensity", {"sign": -1}, IntensityThreshold),
        ("gmvae", None, {"config": replace(FAST, sign=1)}, MAPDetector),
        ("gmvae", "projection", {}, ProjectionDetector),
        ("unet", None, {}, UNetDetector),
        ("unet", "equalized", {}, EqualizedThreshold),
        ("healthy-mean", None, {"normalize": True}, MeanDistance),
        ("aae", None, {}, ProjectionDetector),
        ("anogan", "projection", {"smoothing": 4.0}, AnoGANDetector),
    ],
)
def test_saved_model_detects_as_before(kind, method, options, expected, tmp_path):
    model = models()[kind]
    detector = make_detector(model, method, **options)
    assert type(detector) is expected
    assert detector.name in METHODS
    calibration = detector.thresholds(HEALTHY)
    assert lc.Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    score = detector.detect(VALUES)
    model.metadata = METADATA.with_calibration(calibration)
    lc.save_model(model, tmp_path / "model", card="")
    loaded = lc.load_detector(tmp_path / "model", method, **options)
    assert type(loaded) is expected
    assert torch.equal(loaded.detect(VALUES), score)
    assert loaded.calibration == calibration
    assert torch.equal(loaded.mask(score, 0.05), score > calibration.threshold(0.05))


def test_embedded_prior_restores_with_its_thresholds():
    detector = lc.load_detector("phantom-t2")
    assert isinstance(detector, MAPDetector)
    assert detector.calibration is detector.prior.metadata.calibration
    assert lc.load_detector("phantom-t2", "projection").calibration is None


def test_models_outside_the_package_offer_what_they_can():
    prior = GaussianPrior(torch.zeros(1, 1, 6, 5))
    assert isinstance(make_detector(prior, config=FAST), MAPDetector)
    with pytest.raises(ValueError, match="expected one that GaussianPrior offers: map, intensity, equalized"):
        make_detector(prior, "projection")


def test_wrong_names_methods_and_options_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="phantom-t2"):
        lc.load_detector("phantom-t9")
    with pytest.raises(ValueError, match="MultiscaleVAE offers: map, projection, intensity, equalized"):
        lc.load_detector("phantom-t2", "unet")
    takes = "sign, standardize, batch_size, smoothing, spread_map, asymmetry, edge_preserving"
    with pytest.raises(TypeError, match=f"got smothing, but 'projection' takes {takes}"):
        lc.load_detector("phantom-t2", "projection", smothing=1.0)
    with pytest.raises(ValueError, match="missing"):
        lc.load_detector(tmp_path)


def test_intensities_are_compared_at_the_models_resolution():
    """What a finer scan alone resolves, such as its noise, moves its percentiles, but not its z-scores on the grid."""
    x, y, z = torch.meshgrid(*(torch.arange(2 * n) for n in SHAPE), indexing="ij")
    fine, inside = finer(VALUES), finer(BRAIN)
    texture = 150.0 * (1 - 2 * ((x + y + z) % 2))  # cancels within every voxel of the grid
    smooth_scan, textured = (
        prepare(values * inside, METADATA, mask=inside, affine=FINE_AFFINE) for values in (fine, fine + texture)
    )
    change = (textured.slices - smooth_scan.slices)[smooth_scan.mask].abs()
    assert (fine + texture)[inside].std() > 1.2 * fine[inside].std()
    assert change.median() < 0.02
    assert textured.bend == pytest.approx(smooth_scan.bend, abs=0.02)
