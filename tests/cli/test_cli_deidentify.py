"""``restore --deidentify``: names, headers and the image outside the brain."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from support.command_line import brain, scan

from lesioncore.cli import main


def test_restored_images_have_the_brain_alone_and_nothing_of_the_header(tmp_path, prior, capsys):
    path, mask = scan(tmp_path / "sub-01_T2w.nii.gz"), brain(tmp_path / "sub-01_desc-brain_mask.nii.gz")
    image = nib.load(path)
    head = nib.Nifti1Image(np.where(image.get_fdata() == 0, 50, image.get_fdata()), image.affine)
    head.header["descrip"] = b"Smith^John"
    nib.save(head, path)
    outside = ~np.asarray(nib.load(mask).dataobj, dtype=bool)
    words = ["restore", str(path), "-o", str(tmp_path / "out"), "--prior", prior, "--mask", str(mask)]
    restored, sidecar = (tmp_path / "out" / f"sub-01_desc-restored_T2w{ending}" for ending in (".nii.gz", ".json"))
    assert main(words) == 0
    assert np.all(nib.load(restored).get_fdata()[outside] == 50)
    assert main([*words, "--resume", "--deidentify"]) == 1
    assert "made otherwise: BrainOnly" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--deidentify"]) == 0
    assert np.all(nib.load(restored).get_fdata()[outside] == 0)
    assert np.any(nib.load(restored).get_fdata()[~outside] > 50)
    assert nib.load(restored).header["descrip"] == b""
    assert json.loads(sidecar.read_text())["BrainOnly"] is True
    assert main([*words, "--resume", "--deidentify"]) == 0
    assert "finished before" in capsys.readouterr().out


@pytest.mark.reports
def test_names_and_pictures_that_tell_who_it_is_are_refused_or_left_out(tmp_path, prior, capsys):
    paths = [scan(tmp_path / name) for name in ("sub-01_T2w.nii.gz", "Smith_T2w.nii.gz", "sub-20190312_T2w.nii.gz")]
    words = ["restore", *map(str, paths), "-o", str(tmp_path / "out"), "--prior", prior, "--deidentify"]
    assert main([*words, "--figure"]) == 2
    assert "--figure: shows the scan" in capsys.readouterr().err
    assert main(words) == 3
    errors = capsys.readouterr().err
    assert "Smith_T2w.nii.gz: results would have the name Smith_T2w.nii.gz" in errors
    assert "sub-20190312_T2w.nii.gz: results would have the name" in errors
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert "sub-01_desc-restored_T2w.nii.gz" in written
    assert not [name for name in written if name.endswith((".html", ".png")) or "Smith" in name]
