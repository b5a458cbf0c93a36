"""Latents of a multiscale VAE: their layout and use; test_vae.py has the rest."""

from __future__ import annotations

import pytest
import torch
from support.models import tiny_multiscale

import lesioncore as lc
from lesioncore.training import TensorSlices, TrainingConfig, fit
from lesioncore.training.recipes import Corruption, MultiscaleVAERecipe, VAERecipe


def test_layout_of_the_latents():
    config = lc.MultiscaleVAEConfig((100, 100), (16, 32, 64), 5, finer_channels=[2, 4])
    assert config.latent_shapes == [(2, 49, 49), (4, 24, 24), (5, 11, 11)]
    assert config.latent_shape == (2 * 49 * 49 + 4 * 24 * 24 + 5 * 11 * 11, 1, 1)
    assert lc.MultiscaleVAEConfig().latent_shapes[-1] == (512, 2, 2)  # the paper's, and finer ones
    for wrong in ((2,), (2, 4, 8), (2, 0)):
        with pytest.raises(ValueError, match="finer_channels: got"):
            lc.MultiscaleVAEConfig((100, 100), (16, 32, 64), 5, finer_channels=wrong)


def test_each_map_reaches_the_image_near_its_place():
    """A latent of the fine map moves the pixels around it, one of the coarse map moves many more."""
    model = tiny_multiscale((60, 60)).double()
    shapes = model.config.latent_shapes
    assert shapes == [(2, 29, 29), (3, 14, 14)]
    fine_places = 2 * 29 * 29

    def moved(index: int) -> torch.Tensor:
        z = torch.zeros(2, *model.noise_shape, dtype=torch.float64)
        z[1, index] = 1.0
        with torch.no_grad():
            a, b = model.decode(z)
        return (a - b)[0].abs() > 1e-12

    fine, coarse = moved(14 * 29 + 14), moved(fine_places + 7 * 14 + 7)
    assert fine[29, 29]
    assert coarse[29, 29]
    rows = fine.any(1).nonzero()[:, 0]
    assert (rows > 20).all()
    assert (rows < 40).all()
    assert coarse.sum() > fine.sum()


def test_encoder_and_decoder_agree_on_the_places():
    """The fine latents of a place are made from the pixels that they decode to."""
    model = tiny_multiscale((60, 60)).double()
    x = torch.zeros(2, 1, 60, 60, dtype=torch.float64)
    x[1, 0, 20:22, 40:42] = 1.0
    with torch.no_grad():
        mean = model.encode(x).mean[:, : 2 * 29 * 29].reshape(2, 2, 29, 29)
        rows, columns = (mean[1] - mean[0]).abs().sum(0).nonzero().unbind(1)
    assert {*rows.tolist()} <= {9, 10, 11}
    assert {*columns.tolist()} <= {19, 20, 21}


def test_a_directory_brings_it_back(tmp_path):
    model = tiny_multiscale(metadata=None)
    model.metadata = lc.PriorMetadata("fine", "T2w")
    lc.save_model(model, tmp_path / "fine", card="test")
    again = lc.load_prior(tmp_path / "fine")
    x = torch.randn(2, 1, 24, 20)
    assert again.config == model.config
    with torch.no_grad():
        assert torch.equal(again.elbo(x), model.elbo(x))


@pytest.mark.slow
def test_it_follows_fine_anatomy_that_a_coarse_latent_cannot():
    """Thin lines at random places, as sulci are: at the same length of training its bound is far higher."""
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(160, 1, 30, 30, generator=generator)
    for one in x:
        row, column = torch.randint(2, 27, (2,), generator=generator).tolist()
        one[0, row : row + 2] += 2.0
        one[0, :, column : column + 2] += 2.0
    config = TrainingConfig(slices_seen=800, learning_rate=3e-3)
    shape = {"image_shape": (30, 30), "channels": (8, 12, 16), "latent_channels": 8}
    recipes = (
        VAERecipe(lc.VAEConfig(**shape)),
        MultiscaleVAERecipe(lc.MultiscaleVAEConfig(**shape, finer_channels=(2, 4)), corruption=Corruption()),
    )
    bounds = []
    for recipe in recipes:
        learner = recipe.build(0)
        fit(learner, TensorSlices(x[:128]), config=config)
        with torch.no_grad():
            bounds.append(float(learner.model.elbo(x[128:]).mean()))
    assert bounds[1] > bounds[0] + 30, bounds
