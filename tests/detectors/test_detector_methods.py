"""Each detector against its definition."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from support.models import GaussianPrior, scan_values, tiny_calibration, tiny_vae
from support.scans import AFFINE, BRAIN, FAST, FINE_AFFINE, HEALTHY, METADATA, SHAPE, VALUES, finer, voxels

import lesioncore as lc
from lesioncore.data.stack import SliceStack
from lesioncore.detectors import AnoGANDetector, EqualizedThreshold, MAPDetector, MeanDistance, ProjectionDetector
from lesioncore.detectors.intensity import mean_ranks
from lesioncore.models import AnoGAN, AnoGANConfig, HealthyMean, HealthyMeanConfig, LatentSearch
from lesioncore.restoration.prepare import prepare
from lesioncore.scoring.smoothing import smooth


def slices_of(values):
    scan = prepare(values, METADATA)
    return SliceStack(scan.slices, scan.mask, scan.voxel_size)


class TestMAP:
    @pytest.mark.parametrize("latent", ["mean", "sample"])
    def test_is_the_score_of_restore(self, latent):
        prior = tiny_vae(metadata=METADATA)
        config = replace(FAST, latent=latent)
        detector = MAPDetector(prior, config)
        for values, affine in ((VALUES, AFFINE), (finer(VALUES), FINE_AFFINE)):
            score = detector.detect(values, affine=affine)
            assert torch.equal(score, lc.restore(values, prior, affine=affine, config=config).score)

    def test_normalized_values_are_taken_as_they_are(self):
        z = torch.where(BRAIN, torch.randn(SHAPE), -3.5)
        config = replace(FAST, normalized=True)
        prior = tiny_vae(metadata=METADATA)
        found = MAPDetector(prior, config).detect(z, mask=BRAIN)
        assert torch.equal(found, lc.restore(z, prior, mask=BRAIN, config=config).score)

    def test_thresholds_are_those_of_calibrate(self):
        prior = tiny_vae(metadata=METADATA)
        config = replace(FAST, smoothing=5.0)
        found = MAPDetector(prior, config).thresholds([prepare(v, METADATA) for v in HEALTHY])
        expected = lc.calibrate(prior, HEALTHY, config=config)
        assert found.matches(expected.settings, expected.tv_weight, 5.0)
        # Slices that share batches are rounded differently.
        for limit in (0.01, 0.05, 0.1):
            assert found.threshold(limit) == pytest.approx(expected.threshold(limit), rel=0.01)

    def test_priors_own_calibration_holds_for_its_settings_alone(self):
        prior = tiny_vae(metadata=METADATA.with_calibration(tiny_calibration(solver=FAST.solver)))
        bare = replace(FAST, tv_weight=None)
        assert MAPDetector(prior, bare).calibration is prior.metadata.calibration
        for other in (MAPDetector(prior, replace(bare, tv_weight=2.0)), MAPDetector(prior, replace(bare, sign=1))):
            assert other.calibration is None
        assert ProjectionDetector(prior).calibration is None

    def test_takes_any_prior_and_wants_a_weight(self):
        prior = GaussianPrior(torch.zeros(1, 1, 6, 5))
        y = torch.randn(3, 1, 6, 5)
        found = MAPDetector(prior, lc.RestoreConfig(tv_weight=0.0)).detect(y)
        assert torch.allclose(found, y.abs(), atol=5e-3)
        with pytest.raises(ValueError, match="tv_weight"):
            MAPDetector(prior)

    def test_calibration_of_another_method_gives_no_weight(self):
        vae = tiny_vae(metadata=METADATA)
        projection = ProjectionDetector(vae)
        vae.metadata = vae.metadata.with_calibration(projection.thresholds(HEALTHY))
        assert ProjectionDetector(vae).calibration is vae.metadata.calibration
        with pytest.raises(ValueError, match="no calibration of restoration"):
            lc.restore(VALUES, vae)
        with pytest.raises(ValueError, match="no calibration for these settings"):
            lc.restore(VALUES, vae, config=FAST).mask(0.05)


class TestProjection:
    @pytest.mark.parametrize("batch_size", [1, 5, 64])
    def test_is_the_distance_to_the_reconstruction(self, batch_size, device):
        vae = tiny_vae(metadata=METADATA)
        scan = prepare(VALUES, METADATA)
        with torch.no_grad():
            expected = torch.where(scan.mask, (scan.slices - vae.reconstruct(scan.slices)).abs(), 0.0)
        calls = []
        (found,) = ProjectionDetector(vae, standardize=False, batch_size=batch_size).score_stacks(
            [scan], device=device, progress=lambda *done: calls.append(done)
        )
        assert torch.allclose(found, expected, atol=1e-5 if device == "cpu" else 1e-2)
        count = int(scan.mask.flatten(1).any(1).sum())
        assert calls[-1] == (count, count)
        assert len(calls) == -(-count // batch_size)

    def test_smoothing_is_of_the_signed_residual_in_the_brain_and_in_mm(self):
        vae = tiny_vae(metadata=METADATA)
        scan = prepare(VALUES, METADATA)
        with torch.no_grad():
            residual = torch.where(scan.mask, scan.slices - vae.reconstruct(scan.slices), 0.0)
        expected = smooth(residual, scan.mask, scan.voxel_size, 6.0)
        (found,) = ProjectionDetector(vae, smoothing=6.0, sign=-1, standardize=False).score_stacks([scan])
        assert torch.allclose(found, -expected, atol=1e-5)

    def test_bad_arguments_are_named(self):
        with pytest.raises(TypeError, match="reconstruct"):
            ProjectionDetector(torch.nn.Identity())
        with pytest.raises(ValueError, match="smoothing"):
            ProjectionDetector(tiny_vae(), smoothing=-1.0)
        with pytest.raises(ValueError, match="batch_size"):
            ProjectionDetector(tiny_vae(), batch_size=0)

    def test_models_of_other_resolutions_score_the_same_voxels(self):
        """VAE-128 and VAE-256 are priors whose grids share a field of view."""
        coarse = METADATA.grid.resized((12, 10))
        assert coarse == lc.SliceGrid(8.0, (12, 10))
        assert coarse.field_of_view == METADATA.grid.field_of_view
        assert lc.SliceGrid(1.0, (200, 200)).resized((128, 128)) == lc.SliceGrid(1.5625, (128, 128))
        for wrong in ((12, 9), (0, 0), (12,)):
            with pytest.raises(ValueError, match="shape: got"):
                METADATA.grid.resized(wrong)
        image = nib.Nifti1Image(VALUES.numpy(), AFFINE)
        for grid in (METADATA.grid, coarse):
            prior = tiny_vae(grid.shape, metadata=replace(METADATA, grid=grid))
            score = ProjectionDetector(prior).detect(image)
            assert score.shape == SHAPE
            assert np.array_equal(score.affine, AFFINE)
            assert (voxels(score)[BRAIN] > 0).mean() > 0.99
            assert not voxels(score)[~BRAIN].any()


class TestAnoGAN:
    SEARCH = LatentSearch(steps=3, step_size=0.1)

    @staticmethod
    def model(encoder):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return AnoGAN(AnoGANConfig((24, 20), (4, 6), 3, encoder=encoder), METADATA).eval()

    def test_is_the_distance_to_the_slice_that_the_search_finds_in_the_brain(self):
        model, scan = self.model(encoder=False), prepare(VALUES, METADATA)
        (found,) = AnoGANDetector(model, search=self.SEARCH, standardize=False, batch_size=4).score_stacks([scan])
        rows = scan.mask.flatten(1).any(1)
        x, mask = scan.slices[rows], scan.mask[rows]
        with torch.no_grad():
            expected = torch.where(mask, (x - model.reconstruct(x, mask, self.SEARCH)).abs(), 0.0)
        assert torch.allclose(found[rows], expected, atol=1e-3)
        assert not found[~rows].any()

    def test_with_an_encoder_nothing_is_searched(self):
        model, scan = self.model(encoder=True), prepare(VALUES, METADATA)
        detector = AnoGANDetector(model, standardize=False)
        (found,) = detector.score_stacks([scan])
        with torch.no_grad():
            expected = torch.where(scan.mask, (scan.slices - model.reconstruct(scan.slices)).abs(), 0.0)
        assert torch.allclose(found, expected, atol=1e-5)
        assert detector.settings()["search"] is None
        with pytest.raises(ValueError, match="search"):
            AnoGANDetector(model, search=self.SEARCH)


class TestEqualized:
    @given(st.lists(st.integers(-50, 50), min_size=1, max_size=60))
    def test_ranks_are_those_of_scipy(self, values):
        stats = pytest.importorskip("scipy.stats")
        expected = (stats.rankdata(values) - 0.5) / len(values)
        assert np.allclose(mean_ranks(torch.tensor(values, dtype=torch.float32)).numpy(), expected, atol=1e-12)

    @given(seed=st.integers(0, 99), knots=st.lists(st.floats(0.05, 20.0), min_size=4, max_size=4))
    def test_monotone_changes_of_intensity_do_not_matter(self, seed, knots):
        volume = scan_values(BRAIN, seed=seed).round()
        places = np.linspace(0.0, float(volume.max()), len(knots) + 1)
        levels = np.concatenate([[0.0], np.cumsum(np.diff(places) * knots)])
        changed = torch.from_numpy(np.interp(volume.numpy(), places, levels))
        for sign in (1, -1, None):
            detector = EqualizedThreshold(METADATA, sign=sign)
            assert torch.equal(detector.detect(changed, mask=BRAIN), detector.detect(volume, mask=BRAIN))

    def test_score_is_a_rank_in_each_scan(self):
        bright, dark, either = (EqualizedThreshold(METADATA, sign=s).detect(VALUES)[BRAIN] for s in (1, -1, None))
        assert torch.allclose(bright + dark, torch.ones(()))
        assert torch.allclose(either, (2 * bright - 1).abs(), atol=1e-6)
        assert bright.argmax() == VALUES[BRAIN].argmax()
        n = int(BRAIN.sum())
        assert (float(bright.min()), float(bright.max())) == pytest.approx((0.5 / n, 1 - 0.5 / n))


class TestMeanDistance:
    def test_is_the_distance_to_the_mean_image(self):
        detector = MeanDistance.fit(HEALTHY, METADATA, standardize=False)
        stacks = [slices_of(values) for values in HEALTHY]
        mean = torch.stack([s.slices.double() for s in stacks]).mean(0)
        scan = prepare(VALUES, METADATA)
        expected = torch.where(scan.mask, (scan.slices - mean).abs(), 0.0)
        assert torch.allclose(detector.score_stacks([scan])[0].double(), expected.double(), atol=1e-5)
        variance = torch.stack([s.slices.double() for s in stacks]).var(0, unbiased=False)
        pixels = torch.cat([s.slices[s.mask].double() for s in stacks])
        deviation = ((4 * variance + pixels.var(unbiased=False)) / 5).sqrt()
        (found,) = MeanDistance(detector.model, normalize=True, standardize=False).score_stacks([scan])
        assert torch.allclose(found.double(), expected / deviation, atol=1e-4)

    def test_slices_are_counted_from_the_top_of_the_brain(self):
        detector = MeanDistance.fit(HEALTHY, METADATA)
        low_cut = VALUES[:, :, 4:]  # without the lowest slices, and three empty ones on top
        padded = torch.cat([low_cut, torch.zeros(*SHAPE[:2], 3)], 2)
        mask = torch.cat([BRAIN[:, :, 4:], torch.zeros(*SHAPE[:2], 3, dtype=torch.bool)], 2)
        metadata = replace(METADATA, intensity=None)
        stacks = [prepare(v, metadata, mask=m) for v, m in ((VALUES, BRAIN), (padded, mask))]
        whole, cut = (d.permute(1, 2, 3, 0)[0] for d in detector.deviation_stacks(stacks))
        assert whole[..., 4:].any()
        assert torch.equal(whole[..., 4:], cut[..., :7])

    def test_thick_slices_get_the_mean_in_between(self):
        config = HealthyMeanConfig((24, 20), 6, 4.0)
        model = HealthyMean(config, METADATA)
        model.mean.copy_(torch.arange(6.0).view(6, 1, 1, 1).expand(model.mean.shape))
        mask = torch.ones(3, 1, 24, 20, dtype=torch.bool)
        mean, _ = model.at(SliceStack(torch.zeros(3, 1, 24, 20), mask, (4.0, 4.0, 6.0)))
        assert mean[:, 0, 0, 0].tolist() == pytest.approx([2.0, 3.5, (4 / 4 + 5) / (1 / 4 + 1)])

    def test_places_that_no_healthy_brain_had_get_the_overall_mean(self):
        narrow = replace(METADATA, intensity=None)
        z = torch.where(BRAIN, 1.0 + 0.1 * torch.randn(SHAPE), -3.5)
        detector = MeanDistance.fit([prepare(z, narrow, mask=BRAIN)], METADATA)
        everywhere = torch.ones(20, 1, 24, 20, dtype=torch.bool)
        (found,) = detector.deviation_stacks([SliceStack(torch.zeros(20, 1, 24, 20), everywhere, None)])
        assert found[-1, 0, 0, 0] == pytest.approx(-float(z[BRAIN].mean()), abs=1e-5)
        assert found[0, 0, 12, 10] == pytest.approx(-float(z[BRAIN].mean()), abs=1e-5)

    def test_bad_arguments_are_named(self):
        with pytest.raises(ValueError, match="no scans"):
            MeanDistance.fit([], METADATA)
        with pytest.raises(ValueError, match="has no grid"):
            MeanDistance.fit(HEALTHY, replace(METADATA, grid=None))
        with pytest.raises(ValueError, match="masks: got 1"):
            MeanDistance.fit(HEALTHY, METADATA, masks=[BRAIN])
        with pytest.raises(ValueError, match="no pixel of brain"):
            MeanDistance.fit([SliceStack(torch.zeros(2, 1, 24, 20), torch.zeros(2, 1, 24, 20).bool(), None)], METADATA)
        with pytest.raises(ValueError, match=r"expected \(24, 20\)"):
            MeanDistance.fit(HEALTHY, METADATA).score_stacks(
                [SliceStack(torch.zeros(2, 1, 9, 9), torch.ones(2, 1, 9, 9).bool(), None)]
            )
        with pytest.raises(ValueError, match="positive sizes"):
            HealthyMeanConfig((24, 20), 0, 1.0)
