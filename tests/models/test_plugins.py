"""Priors of other packages: installed as a package manager would, found by name, and blamed by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from support.models import head, scan_values, tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.cli import main

FLOW = """
class Flow:
    def __init__(self, name="default"):
        self.name = name

    def elbo(self, x):
        return -x.square().flatten(1).sum(1)

def needs_name(name):
    return Flow(name)

def optional_name(name="default"):
    return Flow(name)

def no_elbo():
    return object()

def wrong_metadata():
    flow = Flow()
    flow.metadata = {"name": "flow"}
    return flow

def fails():
    raise OSError("weights not downloaded")

number = 3
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with entry points on the path."""
    modules = []

    def put(distribution: str, entries: dict[str, str], code: str = FLOW) -> None:
        folder = tmp_path / distribution
        module = distribution.replace("-", "_")
        info = folder / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = [f"{name} = {module}{target}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[lesioncore.priors]", *lines, ""]))
        monkeypatch.syspath_prepend(folder)
        modules.append(module)

    yield put
    for module in modules:
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("target", "name"), [(":Flow", "default"), (":needs_name", "flow-t1"), (":optional_name", "default")]
)
def test_prior_is_found_and_restores(target, name, install):
    install("lesion-flows", {"flow-t1": target})
    assert lc.available_priors()["flow-t1"] == "lesion-flows 1.2"
    prior = lc.load_prior("flow-t1")
    assert prior.name == name
    result = lc.restore(torch.ones(1, 1, 6, 5), prior, config=lc.RestoreConfig(tv_weight=0.0))
    assert result.restored.abs().max() < 1e-2


def test_looking_for_names_imports_nothing(install):
    install("lesion-flows", {"flow-t1": ":Flow"}, code="raise RuntimeError('imported')")
    assert set(lc.available_priors()) == {"flow-t1", *lc.embedded_priors()}
    assert lc.load_prior("phantom-t1").metadata.name == "phantom-t1"


def test_embedded_priors_and_directories_come_first(install, tmp_path, monkeypatch):
    install("lesion-flows", {"phantom-t2": ":Flow", "mine": ":Flow"})
    assert isinstance(lc.load_prior("phantom-t2"), lc.VAE)
    assert lc.available_priors()["phantom-t2"] == "lesioncore"
    assert not isinstance(lc.load_prior("mine"), lc.VAE)
    monkeypatch.chdir(tmp_path)
    lc.save_model(tiny_vae(metadata=tiny_metadata()), "mine", card="")
    assert isinstance(lc.load_prior("mine"), lc.VAE)


def test_unknown_name_lists_all(install):
    install("lesion-flows", {"flow-t1": ":Flow"})
    with pytest.raises(FileNotFoundError, match="'flow-t1', 'phantom-t1', 'phantom-t2'"):
        lc.load_prior("flow-t2")
    with pytest.raises(FileNotFoundError, match="got 'flow-t1', expected a prior"):
        lc.load_prior(Path("flow-t1"))  # a path is never a name


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (":missing", ImportError, "AttributeError"),
        ("_gone:load", ImportError, "ModuleNotFoundError"),
        (":number", TypeError, "got int, expected a callable"),
        (":no_elbo", TypeError, r"returned no prior: .*got object, expected an object with an elbo\(x\) method"),
        (":wrong_metadata", TypeError, "returned no prior: .*got dict, expected lesioncore.PriorMetadata"),
        (":fails", RuntimeError, "OSError: weights not downloaded"),
    ],
)
def test_failure_names_the_distribution(target, error, message, install):
    install("lesion-flows", {"flow-t1": target})
    with pytest.raises(error, match=rf"(?s)prior 'flow-t1' of lesion-flows 1\.2 \(lesion_flows{target}\).*{message}"):
        lc.load_prior("flow-t1")


def test_package_that_fails_to_import_is_named(install):
    install("lesion-flows", {"flow-t1": ":Flow"}, code="import no_such_library")
    with pytest.raises(ImportError, match=r"lesion-flows 1\.2 .*No module named 'no_such_library'"):
        lc.load_prior("flow-t1")


def test_name_of_two_packages_is_ambiguous(install):
    install("lesion-flows", {"flow-t1": ":Flow"})
    install("more-flows", {"flow-t1": ":Flow"})
    with pytest.raises(ValueError, match=r"lesion-flows 1\.2.*uninstall all but one") as caught:
        lc.load_prior("flow-t1")
    assert "more-flows 1.2" in str(caught.value)


def test_commands_know_them(install, tmp_path, capsys):
    directory = lc.save_model(tiny_vae(metadata=tiny_metadata(tiny_calibration())), tmp_path / "tiny", card="")
    code = f"import lesioncore\ndef load():\n    return lesioncore.load_prior({str(directory)!r})\n"
    install("lesion-flows", {"flow-t1": ":load", "broken": ":gone"}, code)
    scan = tmp_path / "sub-01_T2w.nii.gz"
    nib.save(nib.Nifti1Image(scan_values(head((22, 18, 11))).numpy(), np.diag([4.0, 4, 4, 1])), scan)
    assert main(["restore", str(scan), "-o", str(tmp_path / "out"), "--prior", "flow-t1", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["scans"]
    assert facts["detected_ml"]
    assert main(["restore", str(scan), "-o", str(tmp_path / "other"), "--prior", "broken"]) == 1
    assert "error: --prior: prior 'broken' of lesion-flows 1.2" in capsys.readouterr().err
    assert main(["info"]) == 0
    assert "flow-t1, from lesion-flows 1.2" in capsys.readouterr().out
