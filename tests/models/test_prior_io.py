"""Prior directories: what is written is what is read, and damage is named."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from support.models import tiny_calibration, tiny_gmvae, tiny_metadata, tiny_vae
from torch import nn

import lesioncore as lc
from lesioncore.models import register_model
from lesioncore.models.networks import NetworkConfig
from lesioncore.models.registry import registered_kinds


@pytest.fixture
def saved(tmp_path):
    prior = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    return prior, lc.save_model(prior, tmp_path / "tiny", card="# tiny\n", training={"slices": 3})


def test_round_trip(saved):
    prior, directory = saved
    loaded = lc.load_prior(directory)
    assert sorted(p.name for p in directory.iterdir()) == [
        "README.md",
        "calibration.json",
        "config.json",
        "model.safetensors",
    ]
    assert loaded.metadata.fingerprint
    assert replace(loaded.metadata, fingerprint=None) == prior.metadata
    assert not loaded.training
    x = torch.randn(2, 1, 24, 20)
    with torch.no_grad():
        assert torch.equal(prior.elbo(x), loaded.elbo(x))


def test_a_list_of_numbers_takes_one_line_and_nothing_else_changes(tmp_path):
    odd = "in brackets: [\n 1,\n 2\n] and [3,  4]"
    training = {"note": odd, "empty": [], "mixed": [1, "a", [2, None]], "nested": [[1.5, -2e-9], [3]]}
    metadata = tiny_metadata(tiny_calibration())
    directory = lc.save_model(tiny_vae(metadata=metadata), tmp_path / "tiny", card="", training=training)
    assert json.loads((directory / "config.json").read_text())["training"] == training
    text = (directory / "calibration.json").read_text()
    origin = {"prior": lc.load_prior(directory).metadata.fingerprint, "fingerprint": metadata.calibration.fingerprint}
    assert json.loads(text) == json.loads(json.dumps({**origin, **metadata.calibration.to_dict()}))
    counts = ", ".join(map(str, metadata.calibration.healthy.counts))
    assert f'"counts": [{counts}],\n' in text


def test_every_option_of_a_gmvae_comes_back(tmp_path):
    prior = tiny_gmvae(metadata=tiny_metadata(), components=4, learned_variance=True, negative_slope=0.1)
    directory = lc.save_model(prior, tmp_path / "mixture", card="")
    assert json.loads((directory / "config.json").read_text())["kind"] == "gmvae"
    loaded = lc.load_prior(directory)
    assert isinstance(loaded, lc.GMVAE)
    assert loaded.config == prior.config
    x = torch.randn(2, 1, 24, 20)
    with torch.no_grad():
        assert torch.equal(prior.elbo(x), loaded.elbo(x))


def test_settings_of_other_detectors_get_no_weight():
    calibration = replace(tiny_calibration(), settings={"detector": "intensity"}, tv_weight=None)
    assert lc.Calibration.from_dict(calibration.to_dict()) == calibration


class Segmenter(nn.Module):
    """A model that is no prior."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config, self.metadata = config, None
        self.layer = nn.Conv2d(1, config.latent_channels, 1)


@pytest.fixture(scope="module")
def segmenter():
    register_model("test-segmenter", Segmenter, NetworkConfig)
    register_model("test-segmenter", Segmenter, NetworkConfig)  # once more is no mistake
    model = Segmenter(NetworkConfig((24, 20), (4, 6), 3))
    model.metadata = tiny_metadata()
    return model


def test_registered_model_is_loaded_but_is_no_prior(segmenter, tmp_path):
    assert "test-segmenter" in registered_kinds()
    directory = lc.save_model(segmenter, tmp_path / "model", card="")
    loaded = lc.load_model(directory)
    assert type(loaded) is Segmenter
    assert loaded.config == segmenter.config
    assert torch.equal(loaded.layer.weight, segmenter.layer.weight)
    assert loaded.metadata.fingerprint
    with pytest.raises(TypeError, match=r"kind 'test-segmenter' \(Segmenter\), which has no ELBO.*load_detector"):
        lc.load_prior(directory)


def test_kinds_are_unambiguous(segmenter):
    with pytest.raises(ValueError, match="'vae' is VAE already"):
        register_model("vae", Segmenter, NetworkConfig)
    with pytest.raises(TypeError, match="expected a dataclass"):
        register_model("test-other", Segmenter, dict)


def test_what_is_not_registered_is_not_saved(tmp_path):
    class Better(lc.VAE):
        pass

    model = Better(lc.VAEConfig((24, 20), (4, 6), 3), tiny_metadata())
    with pytest.raises(TypeError, match="got Better, expected one of"):
        lc.save_model(model, tmp_path / "better", card="")
    with pytest.raises(ValueError, match="metadata is None"):
        lc.save_model(tiny_vae(), tmp_path / "bare", card="")
    assert not list(tmp_path.iterdir())


def test_fingerprint_follows_the_weights(saved, tmp_path):
    prior, directory = saved
    with torch.no_grad():
        prior.output.bias.add_(1.0)
    other = lc.save_model(prior, tmp_path / "other", card="")
    assert lc.load_prior(other).metadata.fingerprint != lc.load_prior(directory).metadata.fingerprint


def test_existing_directory_is_kept(saved):
    prior, directory = saved
    with pytest.raises(FileExistsError, match="overwrite=True"):
        lc.save_model(prior, directory, card="new")
    assert (directory / "README.md").read_text() == "# tiny\n"
    lc.save_model(prior, directory, card="new", overwrite=True)
    assert (directory / "README.md").read_text() == "new"
    assert [p.name for p in directory.parent.iterdir()] == ["tiny"]


def test_overwrite_never_removes_what_is_no_prior(saved, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(FileExistsError):
        lc.save_model(saved[0], tmp_path / "thesis", card="", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").exists()


def test_failed_overwrite_keeps_the_old_model(saved, monkeypatch):
    prior, directory = saved
    rename, failures = os.replace, [OSError("disk full")]

    def failing(source, target):
        if str(target) == str(directory) and failures:
            raise failures.pop()
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        lc.save_model(prior, directory, card="new", overwrite=True)
    assert (directory / "README.md").read_text() == "# tiny\n"
    assert lc.load_prior(directory).metadata.name == "tiny"
    assert [p.name for p in directory.parent.iterdir()] == ["tiny"]


def test_unknown_name_lists_what_there_is():
    with pytest.raises(FileNotFoundError, match=r"got 'phantom-t9', expected a prior: .*'phantom-t1', 'phantom-t2'"):
        lc.load_prior("phantom-t9")
    with pytest.raises(FileNotFoundError, match="got 'phantom-t9', expected a model"):
        lc.load_model("phantom-t9")


def test_embedded_priors_are_small_calibrated_and_documented():
    from lesioncore.prior_names import EMBEDDED

    assert set(lc.embedded_priors()) >= {"phantom-t1", "phantom-t2"}
    for name in lc.embedded_priors():
        prior = lc.load_prior(name)
        assert prior.metadata.name == name
        assert prior.metadata.calibration.settings == lc.RestoreConfig().for_prior(prior).settings()
        assert "not a medical device" in (EMBEDDED / name / "README.md").read_text()
        assert sum(p.stat().st_size for p in (EMBEDDED / name).iterdir()) <= 4 * 2**20
