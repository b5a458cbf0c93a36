"""Priors on the hub: what is fetched, from where, and what is said where that fails. No test uses a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import hub as stand_in
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.cli.evaluate import open_detector
from lesioncore.detectors import load_detector
from lesioncore.models import hub as hub_module
from lesioncore.models.hub import HubError, HubName, fetch

PRIOR = "hf://lab/prior"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Directory of a calibrated prior."""
    prior = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    return lc.save_model(prior, tmp_path_factory.mktemp("hub") / "tiny", card="# tiny\n")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> stand_in.Hub:
    """The hub, with nothing on it."""
    return stand_in.install(monkeypatch, tmp_path / "cache")


def files_of(directory: Path, folder: str = "") -> dict[str, bytes]:
    return {f"{folder}{path.name}": path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf://lab/prior", ("lab/prior", None, "")),
        ("hf://lab/prior@v1.0", ("lab/prior", "v1.0", "")),
        ("hf://lab/prior@refs/pr/3", ("lab/prior", "refs/pr/3", "")),
        ("hf://lab/prior@refs/pr/3/t2/small", ("lab/prior", "refs/pr/3", "t2/small")),
        ("hf://lab/prior/t2", ("lab/prior", None, "t2")),
    ],
)
def test_a_name_says_repository_revision_and_folder(name, parts):
    assert HubName.of(name) == HubName(*parts)
    assert str(HubName.of(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "hf://",
        "hf://prior",
        "hf://lab/",
        "hf://lab/prior@",
        "hf://lab/prior/../x",
        "hf://lab/prior/t2@v1",
        "hf://lab/p*",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"name: got 'hf://.*expected hf://owner/name"):
        lc.load_prior(name)


def test_a_commit_is_fetched_once_and_is_the_same_prior(hub, saved, recwarn):
    others = {"weights.pkl": b"pickle", "code.py": b"import os", "old/config.json": b"{}"}
    commit = hub.put("lab/prior", {**files_of(saved), **others})
    prior = lc.load_prior(f"{PRIOR}@{commit}")
    local = lc.load_prior(saved)
    assert prior.metadata == local.metadata
    assert hub.requests == ["info", "download"]
    assert {path.name for path in hub.cache.rglob("*.*")} == {path.name for path in saved.iterdir()}
    hub.reached = False
    assert lc.load_prior(f"{PRIOR}@{commit}").metadata.fingerprint == local.metadata.fingerprint
    assert hub.requests == ["info", "download"]
    assert not recwarn.list


def test_a_branch_is_looked_up_and_its_commit_named(hub, saved):
    first = hub.put("lab/prior", files_of(saved))
    with pytest.warns(UserWarning, match=f"takes what main is now, commit {first}; {PRIOR}@{first} is always the same"):
        fetch(PRIOR)
    second = hub.put("lab/prior", files_of(saved))
    with pytest.warns(UserWarning, match=second):
        assert fetch(PRIOR).name == second
    hub.put("lab/prior", files_of(saved))
    hub.reached = False
    with pytest.warns(
        UserWarning, match=rf"not reached \(RuntimeError: ConnectError: no network\); .* commit {second}; "
    ):
        assert fetch(PRIOR).name == second


def test_a_folder_of_a_repository(hub, saved):
    commit = hub.put("lab/prior", {**files_of(saved, "priors/t2/"), "README.md": b"of all"})
    with pytest.warns(UserWarning, match=f"hf://lab/prior@{commit}/priors/t2 is always"):
        directory = fetch(f"{PRIOR}/priors/t2")
    assert {path.name for path in directory.iterdir()} == {path.name for path in saved.iterdir()}
    hub.reached = False
    with pytest.warns(UserWarning, match=f"hf://lab/prior@{commit}/priors/t2 is always"):
        assert fetch(f"{PRIOR}/priors/t2") == directory
    assert fetch(f"{PRIOR}@{commit}/priors/t2") == directory


def test_a_prior_without_calibration_and_a_part_of_one(hub, saved):
    files = files_of(saved)
    del files["calibration.json"]
    commit = hub.put("lab/prior", files)
    assert lc.load_prior(f"{PRIOR}@{commit}").metadata.calibration is None
    lc.load_prior(f"{PRIOR}@{commit}")
    assert hub.requests == ["info", "download"] * 2  # whether the hub has one is asked again
    hub.reached = False
    assert lc.load_prior(f"{PRIOR}@{commit}").metadata.calibration is None


def test_unknown_repository_revision_and_file(hub, saved):
    with pytest.raises(
        HubError, match="shows no model repository lab/prior; check its name, and if it is private, log in"
    ):
        lc.load_prior(PRIOR)
    files = files_of(saved)
    hub.put("lab/prior", files)
    with pytest.raises(HubError, match="no branch, tag or commit v9; look on"):
        lc.load_prior(f"{PRIOR}@v9")
    with pytest.raises(HubError, match=r"has no t1/model\.safetensors, expected a model's directory"):
        lc.load_prior(f"{PRIOR}/t1")
    del files["README.md"]
    hub.put("lab/prior", files)
    with pytest.raises(HubError, match=r"has no README\.md"):
        lc.load_prior(PRIOR)
    assert "download" not in hub.requests


def test_gated_repository(hub, saved):
    hub.put("lab/prior", files_of(saved))
    hub.gated = True
    with pytest.raises(
        HubError, match=r"ask for it on https://huggingface\.co/lab/prior, then log in with `hf auth login`"
    ):
        lc.load_prior(PRIOR)


def test_no_network(hub, saved):
    hub.put("lab/prior", files_of(saved))
    hub.reached = False
    with pytest.raises(
        HubError, match=r"the hub was not reached .*the cache does not have it; check the network"
    ) as caught:
        load_detector(PRIOR)
    assert "\n" not in str(caught.value)
    assert hub.requests == ["info"]  # asked once, and not for each way to read the name


def test_files_that_are_too_large_are_not_fetched(hub, saved, monkeypatch):
    hub.put("lab/prior", files_of(saved))
    monkeypatch.setitem(hub_module.LARGEST, "config.json", 10)
    with pytest.raises(HubError, match=r"whose config\.json has \d+ bytes, expected at most 10"):
        lc.load_prior(PRIOR)
    assert hub.requests == ["info"]


def test_a_change_and_an_interruption_between_look_and_fetch(hub, saved, monkeypatch):
    hub.put("lab/prior", files_of(saved))
    info = hub.model_info("lab/prior", files_metadata=True)
    monkeypatch.setattr(hub, "model_info", lambda *_, **__: info)
    hub.put("lab/prior", files_of(saved))
    with pytest.raises(HubError, match="changed while it was fetched; try again"):
        lc.load_prior(PRIOR)
    hub.cache = hub.cache / "empty"
    hub.reached = False
    with pytest.raises(HubError, match=r"was not fetched whole .*; try again"):
        lc.load_prior(PRIOR)


def test_damage_is_found_as_in_any_directory(hub, saved):
    commit = hub.put("lab/prior", {**files_of(saved), "model.safetensors": b"damaged"})
    with pytest.raises(ValueError, match=r"model\.safetensors: .*copy the directory again"):
        lc.load_prior(f"{PRIOR}@{commit}")


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="install lesioncore with its extra hub"):
        lc.load_prior(PRIOR)


def test_nothing_is_asked_for_other_names(hub, saved):
    lc.load_prior("phantom-t2")
    lc.load_prior(saved)
    with pytest.raises(FileNotFoundError, match="or hf://owner/name"):
        lc.load_prior("lab/prior")
    assert hub.requests == []


def test_a_calibration_goes_to_a_copy(hub, saved, tmp_path):
    commit = hub.put("lab/prior", files_of(saved))
    name = f"{PRIOR}@{commit}"
    with pytest.raises(ValueError, match="is on the hub and stays; name a folder for a copy"):
        lc.save_calibration(name, tiny_calibration())
    assert hub.requests == []
    copy = lc.save_calibration(name, tiny_calibration(), tmp_path / "copy")
    assert lc.load_prior(copy).metadata.fingerprint == lc.load_prior(saved).metadata.fingerprint


@pytest.mark.parametrize("method", ["", ":map", ":map:tv_weight=2", ":projection:smoothing=2"])
@pytest.mark.parametrize("label", ["", "mine="])
def test_methods_of_an_evaluation(label, method, hub, saved):
    commit = hub.put("lab/prior", files_of(saved))
    name, detector = open_detector(f"{label}{PRIOR}@{commit}{method}")
    assert name == ("mine" if label else f"{PRIOR}@{commit}{method}")
    assert detector.metadata.fingerprint == lc.load_prior(saved).metadata.fingerprint


def test_the_real_library_finds_a_commit_offline(saved, tmp_path):
    """The layout is the documented one of the library's cache: refs and snapshots."""
    pytest.importorskip("huggingface_hub")
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--lab--prior"
    shutil.copytree(saved, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    code = """
import sys
import lesioncore as lc
for name in sys.argv[1:]:
    try:
        print(lc.load_prior(name).metadata.fingerprint)
    except RuntimeError as error:
        print(error)
"""
    names = [f"{PRIOR}@{commit}", PRIOR, "hf://lab/other"]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    # Away from the checkout, whose source folder would stand in for the installed package.
    done = subprocess.run(
        [sys.executable, "-c", code, *names], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    pinned, branch, other = done.stdout.splitlines()
    assert pinned == branch == lc.load_prior(saved).metadata.fingerprint
    assert "the hub was not reached (OfflineModeIsEnabled: " in other
    assert "the cache does not have it" in other
    assert done.stderr.count("UserWarning") == 1
    assert f"takes from the cache commit {commit}; {PRIOR}@{commit} is always the same" in done.stderr
