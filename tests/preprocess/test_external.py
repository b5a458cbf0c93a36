"""Brain masks of other tools, by programs that take their arguments and cut at an intensity."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from support.heads import simulated_head
from support.models import tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.preprocess.external import TOOLS, is_tool, tool_mask
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.volumes import sources_of

# The arguments are those of HD-BET 2.0.1, mri_synthstrip and deepbet 1.0.2.
PROGRAM = """#!{python}
import argparse, sys
import nibabel as nib
import numpy as np
parser = argparse.ArgumentParser()
parser.add_argument("-i", required=True)
parser.add_argument("-o")
parser.add_argument("-m")
if {name!r} == "hd-bet":
    parser.add_argument("-device", default="cuda")
    for flag in ("--disable_tta", "--save_bet_mask", "--no_bet_image"):
        parser.add_argument(flag, action="store_true")
if {name!r} == "deepbet":
    parser.add_argument("--no_gpu", action="store_true")
given = parser.parse_args()
if {name!r} == "hd-bet":
    assert given.save_bet_mask and given.no_bet_image
    given.m = given.o.removesuffix(".nii.gz") + "_bet.nii.gz"
image = nib.load(given.i)
mask = (np.asanyarray(image.dataobj) > 50).astype(np.uint8)
{body}
nib.save(nib.Nifti1Image(mask, image.affine), given.m)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts a tool's program, with a body of its own, on the PATH, and nothing else."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def install(name: str, body: str = "", command: str | None = None) -> None:
        path = programs / (command or TOOLS[name].commands[0])
        path.write_text(PROGRAM.format(python=sys.executable, name=name, body=body))
        path.chmod(0o755)

    return install


@pytest.fixture
def scan(rng):
    affine = np.diag([-2.0, 2.0, 2.5, 1.0])
    affine[:3, 3] = [40, -50, 7]
    return (100 * rng.random((20, 18, 22))).astype(np.float32), affine


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", sorted(TOOLS))
@pytest.mark.parametrize("gpu", [False, True])
def test_a_tools_mask_is_read_as_it_wrote_it(name, gpu, installed, scan, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    installed(name)
    values, affine = scan
    mask = tool_mask(name, values, affine)
    assert mask.dtype == bool
    assert np.array_equal(mask, values > 50)


def test_a_container_will_do(installed, scan):
    installed("synthstrip", command="synthstrip-docker")
    assert np.array_equal(tool_mask("synthstrip", *scan), scan[0] > 50)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_missing_tool_is_said_with_the_way_to_it(name, installed, scan, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=rf"{name} is not installed .*{TOOLS[name].commands[0]}"):
        tool_mask(name, *scan)
    nib.save(nib.Nifti1Image(scan[0], scan[1]), tmp_path / "sub-01_T1w.nii.gz")
    assert main(["restore", str(tmp_path / "sub-01_T1w.nii.gz"), "-o", str(tmp_path / "out"), "--mask", name]) == 2
    assert f"--mask: {name} is not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('no weights found')", "made no mask.*1.*no weights found"),
        ("sys.exit(0)", "made no mask"),
        ("mask[:] = 0", "found no brain"),
        ("mask = mask[1:]", "another grid"),
        ("image.affine[0, 3] += 1", "another grid"),
    ],
)
def test_a_tool_that_fails_is_said(body, message, installed, scan):
    installed("synthstrip", body)
    with pytest.raises(RuntimeError, match=f"(?s)synthstrip.*{message}"):
        tool_mask("synthstrip", *scan)


def test_only_a_string_names_a_tool():
    assert is_tool("hd-bet")
    assert not is_tool(Path("hd-bet"))
    assert not is_tool("bet")
    assert not is_tool(np.ones(3))


def test_a_scan_is_prepared_with_a_tools_mask_as_with_the_file(installed, scan):
    installed("deepbet")
    values, affine = scan
    image, metadata = nib.Nifti1Image(values, affine), tiny_metadata()
    by_tool = prepare(image, metadata, mask="deepbet")
    by_file = prepare(image, metadata, mask=nib.Nifti1Image((values > 50).astype(np.uint8), affine))
    assert torch.equal(by_tool.slices, by_file.slices)
    assert by_tool.sources["Mask"] == "deepbet"
    assert sources_of(None, "deepbet")["MaskSHA256"] is None
    with_affine = prepare(values, metadata, mask="deepbet", affine=affine)
    assert torch.equal(with_affine.slices, by_tool.slices)


def test_a_list_of_scans_takes_one_tool(installed, scan):
    installed("deepbet")
    values, affine = scan
    images = [nib.Nifti1Image(values, affine), nib.Nifti1Image(values[::-1], affine)]
    prior = tiny_vae((24, 20), metadata=tiny_metadata())
    one, two = lc.restore(images, prior, mask="deepbet", config=lc.RestoreConfig(tv_weight=1.0))
    assert np.array_equal(np.asanyarray(one.brain_mask.dataobj), np.asanyarray(two.brain_mask.dataobj)[::-1])


def test_calibration_wants_a_tool_for_each_scan(installed, scan):
    installed("deepbet")
    image, prior = nib.Nifti1Image(*scan), tiny_vae((24, 20), metadata=tiny_metadata())
    with pytest.raises(ValueError, match=r"masks: got 'deepbet' alone.*\['deepbet'\] \*"):
        lc.calibrate(prior, [image] * 7, masks="deepbet")


def test_the_commands_take_a_tool_for_a_folder(installed, tmp_path):
    one = simulated_head("T1w")
    level = float(np.percentile(one.stripped[one.brain], 1))
    stripped = f"nib.load({str(tmp_path / 'brain.nii')!r})"
    installed("synthstrip", f"mask = (np.asanyarray({stripped}.dataobj) > {level}).astype(np.uint8)")
    nib.save(nib.Nifti1Image(one.stripped, one.affine), tmp_path / "brain.nii")
    study = tmp_path / "study"
    study.mkdir()
    nib.save(nib.Nifti1Image(one.head, one.affine), study / "sub-01_T1w.nii.gz")
    out = tmp_path / "out"
    assert main(["preprocess", str(study), "-o", str(out), "--mask", "synthstrip", "--steps", "extract"]) == 0
    facts = json.loads((out / "sub-01_desc-preproc_T1w.json").read_text())
    assert facts["Mask"] == "synthstrip"
    assert facts["Preprocessing"][0]["figures"]["input"] == "mask"
    brain = np.asanyarray(nib.load(out / "sub-01_desc-brainT1w_mask.nii.gz").dataobj) > 0
    assert not (brain & (one.stripped <= level)).any()  # within the tool's mask
