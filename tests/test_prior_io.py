"""Prior directories: what is written is what is read, and damage is named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc


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


def test_unknown_name_lists_what_there_is():
    with pytest.raises(FileNotFoundError, match="no prior 'phantom-t9'"):
        lc.load_prior("phantom-t9")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "model.safetensors").unlink(), "missing"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\x00" * 50), "does not fit"),
        (lambda d: (d / "config.json").unlink(), "missing"),
        (lambda d: (d / "config.json").write_text("{"), "no valid JSON"),
        (lambda d: _edit(d, format=99), "newer lesioncore"),
        (lambda d: _edit(d, architecture={"channels": [4, 6]}), "does not fit|shape"),
        (lambda d: _edit(d, intensity={"mean": 1}), "intensity"),
        (lambda d: (d / "calibration.json").write_text("{}"), "incomplete or damaged"),
    ],
)
def test_damage_is_named(saved, damage, message):
    directory = saved[1]
    damage(directory)
    with pytest.raises(ValueError, match=message):
        lc.load_prior(directory)


def _edit(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_embedded_priors_are_small_calibrated_and_documented():
    from lesioncore.priors.io import EMBEDDED

    assert set(lc.embedded_priors()) >= {"phantom-t1", "phantom-t2"}
    for name in lc.embedded_priors():
        prior = lc.load_prior(name)
        assert prior.metadata.name == name
        assert prior.metadata.calibration.settings == lc.RestoreConfig().settings()
        assert "not a medical device" in (EMBEDDED / name / "README.md").read_text()
        assert sum(p.stat().st_size for p in (EMBEDDED / name).iterdir()) <= 4 * 2**20
