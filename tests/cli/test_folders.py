"""Folders as people have them: contrasts told apart, formats, missing contents, and results that mirror them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.command_line import AFFINE, BRAIN, brain, json_of, scan, write
from support.models import head, scan_values, tiny_metadata, tiny_vae
from support.patients import write_patients

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.preprocess.pipeline import PreprocessedScan
from lesioncore.training.job import Job
from lesioncore.training.recipes import VAERecipe
from lesioncore.training.train import _subjects

pytestmark = pytest.mark.filterwarnings("ignore:tv_weights. the best:UserWarning")

SHAPE = BRAIN.shape
QUICK = ["--tv-weight", "1.5", "--smoothing", "3", "--steps", "2", "--device", "cpu", "--json"]
LEFT_OUT = ("2 left out: FLAIR, not T2w", "2 left out: T1ce, not T2w", "2 left out: T1w, not T2w")


@pytest.fixture
def brats(tmp_path) -> Path:
    """Two people with the names of BraTS 2023: four contrasts and a label map each."""
    folder = tmp_path / "brats"
    for person in range(2):
        name = f"BraTS-GLI-0000{person}-000"
        for number, contrast in enumerate(("t1c", "t1n", "t2f", "t2w")):
            scan(folder / name / f"{name}-{contrast}.nii.gz", 10 * number + person)
        brain(folder / name / f"{name}-seg.nii.gz")
    return folder


@pytest.fixture(scope="module")
def undecided(tmp_path_factory) -> str:
    """Directory of a prior that does not say what contrast it is for."""
    metadata = tiny_metadata()
    metadata = lc.PriorMetadata("any", None, metadata.grid, metadata.intensity)
    return str(lc.save_model(tiny_vae(metadata=metadata), tmp_path_factory.mktemp("priors") / "any", card="of a test"))


def calibrated(capsys, *words: object) -> dict:
    assert main(["calibrate", *map(str, words), *QUICK]) == 0
    return json_of(capsys)


def test_one_contrast_of_a_folder_is_calibrated(brats, prior, tmp_path, capsys):
    alone = tmp_path / "alone"
    for path in brats.rglob("*-t2w.nii.gz"):
        scan(alone / path.name.replace("-t2w", "_T2w"), 30 + int(path.name[14]))
    expected = calibrated(capsys, alone, "--prior", prior, "-o", tmp_path / "a")
    words = ["calibrate", str(brats), "--prior", prior, "-o", str(tmp_path / "b"), *QUICK]
    assert main(words) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["subjects"] == 2
    assert found["thresholds"] == expected["thresholds"]
    for line in (*LEFT_OUT, "2 left out: a mask or label map"):
        assert f"{brats}: {line}\n" in captured.err


def test_one_contrast_of_a_folder_is_restored(brats, prior, tmp_path, capsys):
    scan(brats / "x.nii.gz")
    assert main(["restore", str(brats), "-o", str(tmp_path / "out"), "--prior", prior, "--json"]) == 0
    captured = capsys.readouterr()
    assert [Path(one["input"]).name[-10:] for one in json.loads(captured.out)["scans"]] == [
        *["t2w.nii.gz"] * 2,
        "x.nii.gz",
    ]
    for line in (*LEFT_OUT, "1 taken for T2w though their names tell no contrast"):
        assert f"{brats}: {line}" in captured.err


def test_one_contrast_of_a_folder_is_evaluated(prior, tmp_path, capsys):
    patients = write_patients(tmp_path / "patients", 2)
    for path in list(patients.rglob("*_T2w.nii")):
        path.with_name(path.name.replace("T2w", "FLAIR")).write_bytes(path.read_bytes())
    words = ["evaluate", str(patients), "--methods", f"{prior}:intensity", "--no-figures", "-o"]
    assert main([*words, str(tmp_path / "out"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["subjects"] == 2
    assert f"{patients}: 2 left out: FLAIR, not T2w" in captured.err
    assert main([*words, str(tmp_path / "flair"), "--modality", "FLAIR"]) == 0
    captured = capsys.readouterr()
    assert f"{patients}: 2 left out: T2w, not FLAIR" in captured.err
    assert "is for T2w images, but some scans are FLAIR" in captured.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("restore BRATS -o OUT --prior ANY --tv-weight 1", 2),
        ("calibrate BRATS -o OUT --prior ANY", 1),
        ("train vae BRATS -o OUT", 1),
        ("evaluate BRATS -o OUT --no-figures --methods ANY:intensity", 1),
    ],
)
def test_mixed_contrasts_are_refused_where_nothing_says_which(words, code, brats, undecided, tmp_path, capsys):
    places = {"BRATS": str(brats), "OUT": str(tmp_path / "out"), "ANY": undecided}
    for name, place in places.items():
        words = words.replace(name, place)
    assert main(words.split()) == code
    error = capsys.readouterr().err
    assert "FLAIR (2), T1ce (2), T1w (2), T2w (2)" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_validation_scans_are_of_the_contrast_that_is_trained_on(brats, tmp_path):
    own = [scan(tmp_path / "own" / f"x{number}_T1w.nii.gz", number) for number in range(2)]
    said: list[str] = []
    job = Job((str(tmp_path / "own"),), tmp_path / "out", VAERecipe(), validation=(str(brats),))
    trained, held_out = _subjects(job, said.append)
    assert [subject.scan for subject in trained] == own
    assert {subject.modality for subject in held_out} == {"T1w"}
    assert f"{brats}: 2 left out: T2w, not T1w" in said


def test_preprocessing_takes_every_contrast_by_itself_or_the_one_asked_for(brats, tmp_path, capsys, monkeypatch):
    def found(values, affine, **options):
        return PreprocessedScan(values, values > 0, None)

    monkeypatch.setattr("lesioncore.preprocess.pipeline.preprocess", found)
    words = ["preprocess", str(brats), "-o", str(tmp_path / "out"), "--steps", "extract", "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["scans"]) == 8
    assert f"{brats}: 2 left out: a mask or label map" in captured.err
    assert len(list((tmp_path / "out" / "BraTS-GLI-00001-000").glob("*_desc-preproc_*.nii.gz"))) == 4
    assert main([*words, "--modality", "T1w", "--overwrite"]) == 0
    captured = capsys.readouterr()
    assert [Path(one["input"]).name[-10:] for one in json.loads(captured.out)["scans"]] == ["t1n.nii.gz"] * 2
    assert "2 left out: T1ce, not T1w" in captured.err


def test_results_lie_as_the_scans_do(prior, tmp_path, capsys):
    study, out = tmp_path / "study", tmp_path / "out"
    for seed, name in enumerate(("a/T2.nii.gz", "b/T2.nii.gz", "T2.nii.gz")):
        scan(study / name, seed)
    words = ["restore", str(study), "-o", str(out), "--prior", prior, "--json"]
    assert main(words) == 0
    facts = json_of(capsys)["scans"]
    assert {Path(one["input"]): Path(one["folder"]) for one in facts} == {
        study / "a/T2.nii.gz": out / "a",
        study / "b/T2.nii.gz": out / "b",
        study / "T2.nii.gz": out,
    }
    written = [folder / "T2_desc-residual_T2w.nii.gz" for folder in (out, out / "a", out / "b")]
    first, *others = (nib.load(path).get_fdata() for path in written)
    assert not any(np.array_equal(first, other) for other in others)
    assert main(words) == 1
    assert all("results exist already" in one["error"] for one in json_of(capsys)["failed"])
    (out / "a" / "T2_desc-restored_T2w.json").unlink()
    assert main([*words, "--resume"]) == 0
    assert ["kept" in one for one in json_of(capsys)["scans"]] == [True, False, True]
    assert main([*words, "--overwrite"]) == 0
    capsys.readouterr()
    scan(tmp_path / "other" / "a" / "T2.nii.gz", 7)
    assert main(["restore", str(study), str(tmp_path / "other"), "-o", str(out), "--prior", prior, "--resume"]) == 2
    assert "restore them into different folders" in capsys.readouterr().err


def test_other_formats_are_restored_to_nifti(prior, tmp_path, capsys):
    folder, values = tmp_path / "scans", scan_values(head(SHAPE)).numpy()
    folder.mkdir()
    turned = AFFINE[:, [1, 0, 2, 3]]  # first from back to front
    nib.save(nib.MGHImage(np.ascontiguousarray(values.swapaxes(0, 1)), turned), folder / "x_T2.mgz")
    pair = nib.AnalyzeImage(np.ascontiguousarray(values[::-1]), None)
    pair.header.set_zooms((4, 4, 4))
    nib.save(pair, folder / "y_T2.img")
    (folder / "z").mkdir()
    nib.save(nib.Nifti1Image(values, AFFINE), folder / "z" / "T2.nii.gz")
    (folder / "z" / "T2.nii.gz").rename(folder / "z" / "T2.NII.GZ")
    assert main(["restore", str(folder), "-o", str(tmp_path / "out"), "--prior", prior, "--json"]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)["scans"]
    assert [Path(one["input"]).name for one in facts] == ["x_T2.mgz", "y_T2.img", "T2.NII.GZ"]
    for one in facts:
        residual = nib.load(one["files"]["residual"])
        assert isinstance(residual, nib.Nifti1Image)
        np.testing.assert_allclose(residual.affine, nib.load(one["input"]).affine, atol=1e-5)
    assert captured.err.count("y_T2.img is an Analyze file without orientation") == 1
    nib.save(nib.Nifti1Image(values, AFFINE), folder / "x_T2.nii.gz")
    assert main(["restore", str(folder), "-o", str(tmp_path / "new"), "--prior", prior]) == 2
    assert "x_T2.nii.gz: its results would have the names of those of" in capsys.readouterr().err
    for name in ("x_T2.mgz", "y_T2.img"):
        calibrated(capsys, folder / name, "--prior", prior, "-o", tmp_path / f"of-{name}")


def test_contents_that_are_elsewhere_do_not_end_the_run(prior, tmp_path, capsys):
    folder = tmp_path / "study"
    scan(folder / "a_T2w.nii.gz")
    (folder / "b_T2w.nii.gz").symlink_to("../.git/annex/objects/x/MD5E-s9--0.nii.gz")
    (folder / "c_T2w.nii.gz").write_text("/annex/objects/MD5E-s9--0.nii.gz\n")
    out = tmp_path / "out"
    assert main(["restore", str(folder), "-o", str(out), "--prior", prior]) == 0
    assert f"{folder}: 2 left out: content is not here: datalad get FILE\n" in capsys.readouterr().err
    named = [str(folder / f"{name}_T2w.nii.gz") for name in "abc"]
    assert main(["restore", *named, "-o", str(out), "--prior", prior, "--overwrite", "--json"]) == 3
    facts = json_of(capsys)
    assert [one["input"] for one in facts["scans"]] == named[:1]
    assert [one["error"] for one in facts["failed"]] == [
        f"{name}: content is not here: datalad get {name}" for name in named[1:]
    ]
    assert main(["calibrate", named[2], "--prior", prior, "-o", str(out / "prior"), *QUICK]) == 1
    assert "content is not here: datalad get" in capsys.readouterr().err


def test_nan_around_the_brain_is_background(prior, tmp_path, capsys):
    values = np.where(BRAIN, scan_values(head(SHAPE)).numpy(), np.float32(np.nan))
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "spm_T2w.nii")
    note = f"warning: {tmp_path / 'spm_T2w.nii'}: {int((~BRAIN).sum())} voxels are NaN and count as background\n"
    words = [str(tmp_path / "spm_T2w.nii"), "--prior", prior]
    assert main(["restore", *words, "-o", str(tmp_path / "out")]) == 0
    assert note in capsys.readouterr().err
    assert main(["calibrate", *words, "-o", str(tmp_path / "new"), *QUICK]) == 0
    assert note in capsys.readouterr().err
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[10:13, 8:11, 4:7] = 1
    write(tmp_path / "spm_label-lesion_mask.nii", lesion)
    method = f"{prior}:intensity"
    assert main(["evaluate", words[0], "-o", str(tmp_path / "scores"), "--methods", method, "--no-figures"]) == 0
    assert note in capsys.readouterr().err
