"""Folders of several contrasts, where each scan is restored by the prior of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.command_line import scan, write
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.restoration import prior_choice
from lesioncore.restoration.prior_choice import PRIORS


@pytest.fixture
def priors(tmp_path_factory, monkeypatch) -> dict[str, str]:
    """Tiny priors in the places of the embedded ones; the largest intensity of an unnamed scan tells its contrast."""
    folder = tmp_path_factory.mktemp("priors")
    for number, contrast in enumerate(PRIORS):
        metadata = replace(tiny_metadata(tiny_calibration()), name=f"tiny-{contrast}", modality=contrast)
        place = lc.save_model(tiny_vae(seed=number, metadata=metadata), folder / contrast, card="For tests.\n")
        monkeypatch.setitem(PRIORS, contrast, str(place))

    def fits(one):
        contrast = ("T1w", "T2w", "FLAIR")[int(one.ras_observed.max() > 5000) + int(one.ras_observed.max() > 50000)]
        return {name: float(name == contrast) for name in PRIORS}

    monkeypatch.setattr(prior_choice, "likelihoods", fits)
    return dict(PRIORS)


def scaled(path: Path, factor: float) -> Path:
    image = nib.load(scan(path))
    return write(path, image.get_fdata(dtype=np.float32) * np.float32(factor / image.get_fdata().max()))


def test_each_scan_of_a_folder_has_the_prior_of_its_contrast(priors, tmp_path, capsys):
    folder, out = tmp_path / "ms07", tmp_path / "out"
    for name in ("t1", "t2", "flair", "t1ce"):
        scan(folder / f"{name}.nii.gz")
    scaled(folder / "x.nii.gz", 100_000)
    scaled(folder / "y.nii.gz", 10_000)
    command = ["restore", str(folder), "-o", str(out), "--json", "--no-report"]
    assert main(command) == 0
    captured = capsys.readouterr()
    given = {Path(one["input"]).name[:-7]: one["prior"] for one in json.loads(captured.out)["scans"]}
    wanted = {"t1": "T1w", "t2": "T2w", "flair": "FLAIR", "x": "FLAIR", "y": "T2w"}
    assert given == {name: priors[contrast] for name, contrast in wanted.items()}
    assert "1 left out: no embedded prior is for T1ce" in captured.err
    assert f"names that tell no contrast, each with the prior that its intensities fit: {folder}/x.nii" in captured.err
    expected = lc.restore(folder / "x.nii.gz", priors["FLAIR"])
    residual = nib.load(out / "x_desc-residual_image.nii.gz").get_fdata()
    assert np.array_equal(residual, expected.residual.get_fdata())
    assert main([*command, "--resume"]) == 0
    kept = json.loads(capsys.readouterr().out)["scans"]
    assert all("kept" in one for one in kept)
    assert {Path(one["input"]).name[:-7]: one["prior"] for one in kept} == given


def test_a_scan_that_fits_another_contrast_than_the_named_prior_fails_alone(priors, tmp_path, capsys):
    folder = tmp_path / "study"
    scan(folder / "a_T2w.nii.gz")
    wrong = scaled(folder / "x.nii.gz", 100_000)
    scaled(folder / "y.nii.gz", 10_000)
    assert main(["restore", str(folder), "-o", str(tmp_path / "out"), "--prior", priors["T2w"], "--no-report"]) == 3
    error = capsys.readouterr().err
    assert f"error: {wrong}: its intensities fit FLAIR better than T2w" in error
    assert "2 taken for T2w though their names tell no contrast, as other names do: x.nii.gz, y.nii.gz" in error
    words = ["restore", str(wrong), "-o", str(tmp_path / "named"), "--prior", priors["T2w"], "--no-report"]
    assert main(words) == 0  # whoever names the file and the prior decides


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("scan.dcm", b"\0" * 128 + b"DICM" + b"\0" * 400, "got a DICOM file, expected NIfTI; convert it with dcm2niix"),
        ("sub-1_bold.nii.gz", b"", "--prior: no embedded prior is for bold"),
    ],
)
@pytest.mark.usefixtures("priors")
def test_errors_are_blamed_on_the_scan(name, content, says, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["restore", str(path), "-o", str(tmp_path / "out")]) == 1
    assert f"error: {path}: {says}" in capsys.readouterr().err
