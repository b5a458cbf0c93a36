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


def test_info_is_json_and_complete():
    facts = json.loads(json.dumps(installation.info()))
    assert facts["versions"]["lesioncore"] == lesioncore.__version__
    assert facts["versions"]["torch"] == torch.__version__
    cpu, cuda = facts["backends"]["cpu"], facts["backends"]["cuda"]
    assert cpu["loaded"]
    assert cpu["instruction_set"] in cpu["instruction_sets_built"]
    assert cpu["threads"] == torch.get_num_threads()
    assert cuda["loaded"] == library.cuda_loaded
    assert cuda["loaded"] or cuda["reason"]
    assert bool(cuda["architectures"]) == cuda["built"]


def test_text_names_versions_backends_and_reasons():
    facts = installation.info()
    text = installation.format_info(facts)
    for expected in (lesioncore.__version__, torch.__version__, facts["backends"]["cpu"]["instruction_set"]):
        assert expected in text
    if not library.cuda_loaded:
        assert library.cuda_reason in text


def test_text_when_cuda_is_loaded_and_when_it_was_not_built():
    facts = installation.info()
    cuda = facts["backends"]["cuda"]
    device = {"name": "Some GPU", "memory_gib": 80.0, "capability": "90"}
    cuda.update(built=True, loaded=True, reason="", built_with="13.0", architectures=["80-real"], devices=[device])
    assert "built with CUDA 13.0 for 80-real; loaded" in installation.format_info(facts)
    assert "Some GPU, 80.0 GiB, sm_90" in installation.format_info(facts)
    cuda.update(built=False, loaded=False, reason="not built", devices=[])
    assert "not built" in installation.format_info(facts)


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
