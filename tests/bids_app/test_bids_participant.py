"""The participant level: what is written, resumed, and left where a scan fails."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from support.bids import write_bids

from lesioncore.bids_app import main
from lesioncore.preprocess.template import brain_template

TEMPLATE = "space-MNI152NLin2009aSym_res-2_"
IMAGES = (
    *("desc-restored_{}", "desc-residual_{}", "desc-score_{}", "desc-brain{}_mask", "label-L_desc-rank{}_probseg"),
    *(f"label-L_desc-{limit}{{}}_mask" for limit in ("fpr01", "fpr05", "fpr10")),
)
IN_TEMPLATE = tuple(TEMPLATE + name for name in (IMAGES[2], *IMAGES[5:]))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.reports
def test_contrasts_and_sessions_share_a_tree(tmp_path, priors, capsys):
    dataset = write_bids(tmp_path / "raw", "sub-01_T1w", "sub-01_T2w", "sub-02_ses-a_FLAIR")
    out, work = dataset / "derivatives" / "lesioncore", tmp_path / "work"
    command = [str(dataset), str(out), "participant", "--skip-bids-validation", "-w", str(work)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "[3/3] sub-02/ses-a/anat/sub-02_ses-a_FLAIR.nii.gz" in said
    assert "3 of 3 scans are done" in said
    expected = {"dataset_description.json", "README.md", ".bidsignore"}
    for start, contrasts in (("sub-01/anat/sub-01_", ("T1w", "T2w")), ("sub-02/ses-a/anat/sub-02_ses-a_", ("FLAIR",))):
        for name in IMAGES:
            expected |= {start + name.format(suffix) + end for suffix in contrasts for end in (".json", ".nii.gz")}
        expected |= {f"{start}desc-report_{suffix}.html" for suffix in contrasts}
    expected |= {"sub-01.html", "sub-02.html"}
    (log,) = (out / "logs").iterdir()
    assert set(files(out)) == expected | {f"logs/{log.name}"}
    assert not list(work.iterdir())
    person = (out / "sub-01.html").read_text()
    for suffix in ("T1w", "T2w"):
        assert f'href="sub-01/anat/sub-01_desc-report_{suffix}.html"' in person
    assert "sub-02" not in person
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["SourceDatasets"] == [{"URL": "../..", "DOI": "doi:10.0000/noise"}]
    assert description["DatasetLinks"] == {"raw": "../.."}
    text = log.read_text()
    assert "analysis_level: participant" in text
    assert "3 of 3 scans are done" in text
    for suffix in ("T1w", "T2w"):
        facts = json.loads((out / f"sub-01/anat/sub-01_label-L_desc-fpr05{suffix}_mask.json").read_text())
        assert facts["Sources"] == [f"bids:raw:sub-01/anat/sub-01_{suffix}.nii.gz"]
        assert facts["Prior"] == f"tiny-{suffix}"
        assert (facts["Type"], facts["FalsePositiveLimit"], facts["Remarks"]) == ("Lesion", 0.05, [])


def test_registered_scans_are_written_in_the_template_too(tmp_path, registering):
    dataset, out = write_bids(tmp_path / "raw", "sub-01_T1w"), tmp_path / "out"
    assert main([str(dataset), str(out), "participant", "--prior", registering, "--skip-bids-validation"]) == 0
    folder = out / "sub-01" / "anat"
    names = {f"sub-01_{name}.nii.gz".format("T1w") for name in (*IMAGES, *IN_TEMPLATE)}
    assert {path.name for path in folder.glob("*.nii.gz")} == names
    for name in IN_TEMPLATE:
        moved = nib.load(folder / f"sub-01_{name}.nii.gz".format("T1w"))
        native = nib.load(folder / f"sub-01_{name.removeprefix(TEMPLATE)}.nii.gz".format("T1w"))
        steps = (moved.affine[:3, 3] - brain_template().affine[:3, 3]) / 2
        assert np.array_equal(moved.affine[:3, :3], 2 * np.eye(3))
        assert np.array_equal(steps, np.rint(steps))  # voxels of the packaged template
        # The scan's world is the template's here: voxels in the middle of the scan's keep their values.
        places = nib.affines.apply_affine(np.linalg.inv(moved.affine) @ native.affine, list(np.ndindex(native.shape)))
        assert np.abs(places - np.rint(places)).max() < 1e-6
        there, here = (
            np.asarray(moved.dataobj)[tuple(np.rint(places).astype(int).T)],
            np.asarray(native.dataobj).ravel(),
        )
        assert there[here > 0].size > 10
        assert np.allclose(there, here, atol=1e-5)
        facts = json.loads((folder / f"sub-01_{name}.json".format("T1w")).read_text())
        assert facts["Resolution"] == "2 mm isotropic"
        assert "ICBM152" in facts["SpatialReference"]


def test_a_second_run_does_what_is_missing(tmp_path, priors, capsys):
    dataset, out = write_bids(tmp_path / "raw", "sub-01_T1w", "sub-01_T2w", "sub-02_T1w"), tmp_path / "out"
    command = [str(dataset), str(out), "participant", "--skip-bids-validation"]
    assert main([*command, "--participant-label", "01"]) == 0
    whole = files(out / "sub-01")
    gone = out / "sub-01" / "anat" / "sub-01_label-L_desc-fpr05T2w_mask.json"
    gone.unlink()
    kept = {path: path.stat().st_mtime_ns for path in (out / "sub-01").rglob("*T1w*")}
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.count("finished before") == 1
    assert set(files(out / "sub-01")) == set(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (out / "sub-02" / "anat" / "sub-02_desc-restored_T1w.json").exists()


def test_results_of_other_settings_are_replaced_and_leave_nothing(tmp_path, priors, registering):
    dataset, out = write_bids(tmp_path / "raw", "sub-01_T1w"), tmp_path / "out"
    command = [str(dataset), str(out), "participant", "--skip-bids-validation"]
    assert main([*command, "--prior", registering]) == 0
    assert list(out.rglob(f"*{TEMPLATE}*"))
    assert main(command) == 0
    assert not list(out.rglob(f"*{TEMPLATE}*"))
    assert json.loads((out / "sub-01" / "anat" / "sub-01_desc-restored_T1w.json").read_text())["Prior"] == "tiny-T1w"


def test_one_failure_leaves_the_others(tmp_path, priors, capsys):
    dataset, out = write_bids(tmp_path / "raw", "sub-01_T1w", "sub-02_T1w", "sub-03_T1w"), tmp_path / "out"
    (dataset / "sub-02" / "anat" / "sub-02_T1w.nii.gz").write_text("no image")
    command = [str(dataset), str(out), "participant", "--skip-bids-validation"]
    assert main(command) == 3
    captured = capsys.readouterr()
    assert "error: " in captured.err
    assert "2 of 3 scans are done" in captured.out
    assert "1 failed:\n  " in captured.out
    assert "sub-02_T1w.nii.gz" in captured.out.split("failed:")[1]
    assert not list(out.rglob("sub-02_*"))
    assert len(list(out.rglob("*_desc-restored_T1w.json"))) == 2
    assert not [path for path in out.rglob(".*") if path.name != ".bidsignore"]
    write_bids(dataset, "sub-02_T1w")
    assert main(command) == 0
    assert capsys.readouterr().out.count("finished before") == 2


def test_processes_are_shared_among_scans(tmp_path, priors, keep_threads):
    dataset = write_bids(tmp_path / "raw", "sub-01_T1w", "sub-02_T1w")
    command = [str(dataset), str(tmp_path / "out"), "participant", "--skip-bids-validation", "--n-procs"]
    assert main([*command, "6"]) == 0
    assert torch.get_num_threads() == 3
    assert main([*command, "1"]) == 0
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("NONE OUT participant", 2, "bids_dir: got"),
        ("RAW RAW participant", 2, "output_dir: got the dataset's own folder"),
        ("RAW FOREIGN participant", 1, "holds a dataset that lesioncore did not make"),
        ("RAW FILE participant", 1, "is no folder"),
        ("RAW OUT participant -w FILE", 1, "--work-dir: got"),
        ("RAW OUT participant --n-procs -1", 2, "--n-procs: got -1"),
        ("RAW OUT participant --prior nonesuch", 1, "nonesuch"),
        ("RAW OUT participant --device tpu", 1, "tpu"),
        ("RAW OUT participant --preprocess strip", 2, "strip"),
        ("RAW OUT participant --modalities PDw", 2, "PDw"),
        ("RAW OUT everyone", 2, "everyone"),
        ("RAW OUT group", 1, "run it first"),
    ],
)
def test_failures_say_why_and_write_nothing(tmp_path, priors, capsys, arguments, code, says):
    raw, foreign = write_bids(tmp_path / "raw", "sub-01_T1w"), write_bids(tmp_path / "foreign")
    (tmp_path / "file").touch()
    places = {
        "RAW": raw,
        "OUT": tmp_path / "out",
        "FOREIGN": foreign,
        "FILE": tmp_path / "file",
        "NONE": tmp_path / "x",
    }
    before = files(tmp_path)
    assert main([str(places.get(word, word)) for word in arguments.split()]) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()
