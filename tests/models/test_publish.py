"""Models onto the hub: the card, the licence, and what of a repository is changed. No test uses a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import hub as stand_in
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.models.hub import HubError
from lesioncore.models.publish import prepare_upload, upload

NAME = "hf://lab/tiny"
CARD = "# tiny\n\nOf nobody.\n\n- **Licence**: CC BY 4.0, as agreed.\n"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> stand_in.Hub:
    """The hub, with nothing on it."""
    return stand_in.install(monkeypatch, tmp_path / "cache")


def saved(folder: Path, card: str = CARD, training: dict | None = None, calibrated: bool = True) -> Path:
    metadata = tiny_metadata(tiny_calibration() if calibrated else None)
    return lc.save_model(tiny_vae(metadata=metadata), folder / "tiny", card=card, training=training, overwrite=True)


def front_of(card: str) -> str:
    return card.split("---\n")[1]


def card_of(prepared) -> str:
    return prepared.files["README.md"].decode()


def test_what_was_pushed_is_what_is_loaded(hub, tmp_path):
    directory = saved(tmp_path)
    name = upload(prepare_upload(directory, NAME), create=True, private=True)
    commit = hub.branches["lab/tiny"]["main"]
    assert name == f"{NAME}@{commit}"
    assert hub.private == {"lab/tiny": True}
    assert hub.files("lab/tiny").keys() == {
        *(".gitattributes", "README.md", "config.json", "model.safetensors", "calibration.json")
    }
    assert lc.load_prior(name).metadata == lc.load_prior(directory).metadata


def test_the_card_has_the_hubs_front_matter_and_what_the_files_say(tmp_path):
    directory = saved(tmp_path)
    yaml = pytest.importorskip("yaml")
    card = card_of(prepare_upload(directory, NAME, datasets=("lab/scans",)))
    assert yaml.safe_load(front_of(card)) == {
        "license": "cc-by-4.0",
        "library_name": "lesioncore",
        "pipeline_tag": "image-segmentation",
        "tags": ["lesion-detection", "anomaly-detection", "brain", "mri", "vae", "T2w"],
        "datasets": ["lab/scans"],
    }
    metadata = lc.load_prior(directory).metadata
    threshold = f"{metadata.calibration.threshold(0.05):.3g} at 5 %"
    assert CARD.strip() in card
    for expected in (
        "not a medical device",
        "IntensityScale",
        "24 x 20",
        metadata.fingerprint,
        threshold,
        f"{NAME}@COMMIT",
    ):
        assert expected in card
    assert (directory / "README.md").read_text() == CARD  # the directory stays


def test_a_pushed_card_is_made_anew_and_what_was_added_stays(tmp_path):
    directory = saved(tmp_path)
    first = card_of(prepare_upload(directory, NAME))
    (directory / "README.md").write_text(first)
    copy = lc.save_calibration(directory, tiny_calibration(), tmp_path / "copy")
    second = card_of(prepare_upload(copy, NAME))
    assert front_of(first) == front_of(second)
    assert second.count("## Use") == second.count("# tiny") == 1
    assert "## Calibrated anew" in second
    (copy / "README.md").write_text(second)
    assert card_of(prepare_upload(copy, NAME)) == second


@pytest.mark.parametrize(
    ("card", "given", "license"),
    [
        (CARD, None, "cc-by-4.0"),
        (CARD, "cc-by-4.0", "cc-by-4.0"),
        ("# tiny\n", "mit", "mit"),
        ("---\nlicense: cc-by-nc-sa-4.0\n---\n\n# tiny\n", None, "cc-by-nc-sa-4.0"),
        ("# tiny\n\nLicense: the hospital's own terms.\n", "other", "other"),
    ],
)
def test_licence(card, given, license, tmp_path):
    prepared = prepare_upload(saved(tmp_path, card), NAME, license=given)
    assert prepared.license == license
    assert f"license: {license}\n" in front_of(card_of(prepared))


@pytest.mark.parametrize(
    ("card", "given", "said"),
    [
        ("# tiny\n\nSay here under which licence.\n", None, "got none, and .* states none, .*; give one of apache-2.0"),
        ("# tiny\n", "GPL", "got 'GPL', expected one of apache-2.0"),
        ("# tiny\n", "other", "got 'other', but the card has none"),
        (CARD, "mit", "got 'mit', but the card says cc-by-4.0, which holds for copies, too"),
    ],
)
def test_licences_that_are_refused(card, given, said, tmp_path):
    with pytest.raises(ValueError, match=f"license: {said}"):
        prepare_upload(saved(tmp_path, card), NAME, license=given)


@pytest.mark.parametrize("job", [{"data": ["/data/IXI/T1"]}, {"data": ["a"], "start_from": "real-t2"}])
def test_what_is_made_of_ixi_keeps_its_licence(job, tmp_path):
    directory = saved(tmp_path, "# tiny\n", training={"job": job})
    with pytest.raises(ValueError, match=r"got 'mit' for a model of the IXI data set, expected cc-by-sa-3\.0"):
        prepare_upload(directory, NAME, license="mit")
    assert prepare_upload(directory, NAME, license="cc-by-sa-3.0").license == "cc-by-sa-3.0"


@pytest.mark.parametrize("name", lc.embedded_priors())
def test_embedded_priors_state_their_licence(name):
    assert prepare_upload(name, NAME).license == ("cc-by-sa-3.0" if name.startswith("real") else "apache-2.0")


def test_paths_of_the_machine_are_told(tmp_path):
    directory = saved(tmp_path, training={"job": {"data": ["phantom:T2w:3", "/home/me/scans"], "output": "runs/a"}})
    assert prepare_upload(directory, NAME).local_paths == ["/home/me/scans"]


def test_other_names_and_models(tmp_path):
    for name in (f"{NAME}@main", f"{NAME}/folder"):
        with pytest.raises(
            ValueError, match="expected hf://owner/name; a model is uploaded to a repository of its own"
        ):
            prepare_upload("phantom-t2", name)
    with pytest.raises(ValueError, match="model: got 'hf://lab/a', expected an embedded prior's name or a directory"):
        prepare_upload("hf://lab/a", NAME)
    with pytest.raises(FileNotFoundError, match="expected a model"):
        prepare_upload(tmp_path / "none", NAME)


def test_repositories_and_branches_are_made_on_request_alone(hub, tmp_path):
    prepared = prepare_upload(saved(tmp_path), NAME)
    with pytest.raises(HubError, match="shows no model repository"):
        upload(prepared)
    upload(prepared, create=True)
    assert hub.private == {"lab/tiny": None}  # as the owner's account has it
    with pytest.raises(HubError, match="no branch, tag or commit next"):
        upload(prepared, branch="next")
    assert "create" in hub.requests
    assert "branch" not in hub.requests
    before = hub.branches["lab/tiny"]["main"]
    upload(prepared, branch="next", create=True, overwrite=True)
    assert hub.branches["lab/tiny"].keys() == {"main", "next"}
    assert hub.branches["lab/tiny"]["main"] == before


def test_files_are_replaced_on_request_alone_and_others_stay(hub, tmp_path):
    others = {"weights.bin": b"1", "config.json": b"{}", "calibration.json": b"{}"}
    hub.put("lab/tiny", others)
    prepared = prepare_upload(saved(tmp_path, calibrated=False), NAME)
    with pytest.raises(HubError, match=r"has calibration\.json, config\.json already; give --overwrite"):
        upload(prepared)
    assert hub.files("lab/tiny") == others
    upload(prepared, overwrite=True)
    files = hub.files("lab/tiny")
    assert files["weights.bin"] == b"1"
    assert json.loads(files["config.json"])["kind"] == "vae"
    assert "calibration.json" not in files  # it would be that of other weights


def test_no_network_and_no_right(hub, tmp_path, monkeypatch):
    prepared = prepare_upload(saved(tmp_path), NAME)
    hub.put("lab/tiny", {})
    monkeypatch.setattr(hub, "create_commit", lambda *_, **__: (_ for _ in ()).throw(stand_in.HfHubHTTPError("403 No")))
    with pytest.raises(
        HubError, match=r"was not written \(HfHubHTTPError: 403 No\); check the network, and that the token"
    ):
        upload(prepared)
    hub.reached = False
    with pytest.raises(HubError, match="ConnectError: no network"):
        upload(prepared)
