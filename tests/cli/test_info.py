"""What `lesioncore info` reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import torch

import lesioncore
from lesioncore.cli import installation
from lesioncore.ops import library


def test_all_of_it_is_json_and_complete():
    facts = json.loads(json.dumps(installation.info(full=True)))
    assert facts["versions"]["lesioncore"] == lesioncore.__version__
    assert facts["versions"]["torch"] == torch.__version__
    cpu, cuda = facts["backends"]["cpu"], facts["backends"]["cuda"]
    assert cpu["loaded"]
    assert cpu["instruction_set"] in cpu["instruction_sets_built"]
    assert cpu["threads"] == torch.get_num_threads()
    assert cuda["loaded"] == library.cuda_loaded
    assert cuda["loaded"] or cuda["reason"]
    assert bool(cuda["architectures"]) == cuda["built"]


def test_without_torch_the_entries_are_the_same_and_what_torch_says_is_null():
    quick, full = installation.info(), installation.info(full=True)
    asked = {"cpu": ("loaded", "torch_capability", "threads"), "cuda": ("loaded", "reason", "torch_cuda", "devices")}
    for backend, names in asked.items():
        assert quick["backends"][backend].keys() == full["backends"][backend].keys()
        assert all(not quick["backends"][backend][name] for name in names if name != "devices")
        for name in names:
            full["backends"][backend][name] = quick["backends"][backend][name]
    assert quick == {**full, "full": False}
    assert "info --full" in installation.format_info(quick)


def test_gpus_that_the_driver_lists(tmp_path, monkeypatch):
    monkeypatch.setattr(installation, "_DRIVER", tmp_path)
    assert "none listed" in installation.format_info(installation.info())
    for number, name in enumerate(("Some GPU", "Another GPU")):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
        (tmp_path / f"0000:0{number}:00.0" / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 33\n")
    facts = installation.info()
    assert [device["name"] for device in facts["backends"]["cuda"]["devices"]] == ["Some GPU", "Another GPU"]
    assert "GPU           Another GPU\n" in installation.format_info(facts)


def test_text_names_versions_backends_and_reasons():
    facts = installation.info(full=True)
    text = installation.format_info(facts)
    for expected in (lesioncore.__version__, torch.__version__, facts["backends"]["cpu"]["instruction_set"]):
        assert expected in text
    if not library.cuda_loaded:
        assert library.cuda_reason in text


def test_text_when_cuda_is_loaded_and_when_it_was_not_built():
    facts = installation.info(full=True)
    cuda = facts["backends"]["cuda"]
    device = {"name": "Some GPU", "memory_gib": 80.0, "capability": "90"}
    cuda.update(built=True, loaded=True, reason="", built_with="13.0", architectures=["80-real"], devices=[device])
    assert "built with CUDA 13.0 for 80-real; loaded" in installation.format_info(facts)
    assert "Some GPU, 80.0 GiB, sm_90" in installation.format_info(facts)
    cuda.update(loaded=False, reason="no driver", devices=[])
    assert "for 80-real; not loaded: no driver" in installation.format_info(facts)
    facts["full"] = False
    assert "for 80-real\n" in installation.format_info(facts)
    cuda.update(built=False, reason="")
    assert "CUDA          not built" in installation.format_info(facts)


def test_embedded_priors_are_those_that_load(capsys):
    assert installation.info()["embedded_priors"] == lesioncore.embedded_priors() != []


def test_instruction_set_can_be_lowered(tmp_path):
    code = "from lesioncore import _C; print(_C.cpu_level())"
    environment = {**os.environ, "LESIONCORE_CPU": "baseline"}
    # Away from the checkout, or its source folder would stand in for the installed package.
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "baseline"
