"""``lesioncore preprocess``: files in the field's names, a transform that others read."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from support.heads import dice, simulated_head

from lesioncore.cli import main
from lesioncore.cli.preprocess import itk_transform
from lesioncore.preprocess.template import brain_template


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    one = simulated_head("T1w")
    nib.save(nib.Nifti1Image(one.head, one.affine), root / "sub-01_T1w.nii.gz")
    return root


def test_a_head_is_written_in_its_own_and_in_the_templates_space(folder, tmp_path, capsys):
    command = ["preprocess", str(folder / "sub-01_T1w.nii.gz"), "-o", str(tmp_path), "--json"]
    assert main([*command, "--voxel-size", "2"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["scans"]
    assert [step["name"] for step in facts["steps"]] == ["extract", "register", "bias"]
    files = facts["files"]
    brain = nib.load(files["brain"])
    one = simulated_head("T1w")
    inside = np.asarray(brain.dataobj) > 0
    assert dice(inside, one.brain) > 0.9
    assert np.array_equal(np.asarray(nib.load(files["preprocessed"]).dataobj) != 0, inside)
    moved = nib.load(files["template"])
    assert "space-MNI152NLin2009aSym" in files["template"]
    template = brain_template()
    places = nib.affines.apply_affine(np.linalg.inv(moved.affine) @ template.affine, np.argwhere(template.brain))
    values = np.asarray(moved.dataobj)[tuple(np.rint(places).astype(int).T)]
    assert (values > 0).mean() > 0.85  # the template's brain is where the scan's is
    assert json.loads((tmp_path / "sub-01_desc-preproc_T1w.json").read_text())["SkullStripped"] is True
    assert main(command) == 1
    assert "results exist already" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--steps", "extract"]) == 0


def test_the_transform_is_what_itk_applies(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(0)
    matrix = np.eye(4)
    matrix[:3] += 0.1 * rng.standard_normal((3, 4)) * [1, 1, 1, 100]
    (tmp_path / "x.txt").write_text(itk_transform(matrix))
    transform = sitk.ReadTransform(str(tmp_path / "x.txt"))
    flip = np.array([-1.0, -1.0, 1.0])
    for point in rng.uniform(-80, 80, (5, 3)):  # of the template, RAS+
        found = flip * np.array(transform.TransformPoint((flip * point).tolist()))
        assert np.allclose(found, (np.linalg.inv(matrix) @ [*point, 1.0])[:3], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--steps", "strip"], "--steps: got ['strip']"),
        (["--steps", "none"], "--steps: got 'none'"),
        (["--voxel-size", "0"], "--voxel-size: got 0"),
    ],
)
def test_wrong_usage(folder, tmp_path, options, says, capsys):
    assert main(["preprocess", str(folder), "-o", str(tmp_path / "never"), *options]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_deidentify_refuses_what_tells_who_it_is_of_and_checks_what_is_written(tmp_path, capsys):
    one = simulated_head("T1w")
    scan = nib.Nifti1Image(np.where(one.brain, one.head, 0), one.affine)
    scan.header["descrip"] = b"Smith^John"
    scans = [str(tmp_path / name) for name in ("sub-01_T1w.nii.gz", "Smith_T1w.nii.gz")]
    for path in scans:
        nib.save(scan, path)
    mask = str(tmp_path / "sub-01_desc-brain_mask.nii.gz")
    nib.save(nib.Nifti1Image(one.brain.astype(np.uint8), one.affine), mask)
    command = ["preprocess", *scans, "-o", str(tmp_path / "out"), "--steps", "bias", "--deidentify"]
    assert main(command) == 2
    assert "--deidentify: needs the step extract, or --mask" in capsys.readouterr().err
    assert main([*command, "--mask", mask, mask]) == 3
    assert "Smith_T1w.nii.gz: results would have the name Smith_T1w.nii.gz" in capsys.readouterr().err
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [
        f"sub-01_desc-{what}" for what in ("brainT1w_mask.nii.gz", "preproc_T1w.json", "preproc_T1w.nii.gz")
    ]
    assert nib.load(tmp_path / "out" / written[2]).header["descrip"] == b""
