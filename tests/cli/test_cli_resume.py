"""Results that exist already: kept, replaced, resumed, and beside those of another contrast."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from support.bad_input import REFUSED, TAKEN, listed
from support.command_line import json_of, scan
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.cli import main


@listed(
    "Earlier results and disturbed runs",
    "results that are there already, without --resume or --overwrite",
    REFUSED,
    "results exist already",
)
def test_existing_results_are_kept_unless_overwriting(tmp_path, prior, capsys):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    command = ["restore", str(path), "-o", str(out), "--prior", prior]
    assert main(command) == 0
    before = {file: file.read_bytes() for file in out.iterdir()}
    scan(path, seed=5)
    assert main(command) == 1
    assert "give --resume, --overwrite or another --output" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in out.iterdir()} == before
    other = scan(tmp_path / "sub-010_T2w.nii.gz")  # a name that begins the same
    assert main(["restore", str(other), "-o", str(out), "--prior", prior]) == 0
    assert main([*command, "--overwrite"]) == 0
    residual = out / "sub-01_desc-residual_T2w.nii.gz"
    assert residual.read_bytes() != before[residual]


@listed(
    "Earlier results and disturbed runs",
    "--resume after a run that stopped before its last file",
    TAKEN,
    "what is missing is restored",
)
@listed("Earlier results and disturbed runs", "--resume with other settings", REFUSED, "they were made otherwise")
@listed(
    "Earlier results and disturbed runs", "--resume with another scan of the name", REFUSED, "they are of another scan"
)
def test_resuming_restores_what_is_not_finished(tmp_path, prior, capsys):
    paths, out = [scan(tmp_path / f"sub-0{i}_T2w.nii.gz", i) for i in range(3)], tmp_path / "out"
    command = ["restore", *map(str, paths), "-o", str(out), "--prior", prior, "--resume", "--json"]
    assert main(["restore", *map(str, paths[:2]), "-o", str(out), "--prior", prior]) == 0
    (out / "sub-01_desc-restored_T2w.json").unlink()  # as if it had been stopped before its last file
    before = {file: file.stat().st_mtime_ns for file in out.glob("sub-00*")}
    capsys.readouterr()
    assert main(command) == 0
    assert ["kept" in one for one in json_of(capsys)["scans"]] == [True, False, False]
    assert {file: file.stat().st_mtime_ns for file in out.glob("sub-00*")} == before
    assert main(command) == 0
    assert all("kept" in one for one in json_of(capsys)["scans"])
    assert main([*command, "--smoothing", "9"]) == 1  # finished with other settings
    failed = json_of(capsys)["failed"]
    assert len(failed) == 3
    assert (
        "they were made otherwise: Smoothing, Thresholds differ in sub-00_desc-restored_T2w.json" in failed[0]["error"]
    )
    scan(paths[2], 7)  # another scan of that name
    assert main(command) == 3
    (failure,) = json_of(capsys)["failed"]
    assert Path(failure["input"]).name == "sub-02_T2w.nii.gz"
    assert "they are of another scan" in failure["error"]
    assert main([*command, "--overwrite"]) == 0  # what is missing or another, and nothing else
    assert ["kept" in one for one in json_of(capsys)["scans"]] == [True, True, False]


@listed("Earlier results and disturbed runs", "--resume with another mask", REFUSED, "they are of another mask")
@listed(
    "Earlier results and disturbed runs",
    "a result that is missing, empty, cut off, changed or another's, or a damaged JSON file",
    TAKEN,
    "done again",
    kinds=7,
)
def test_resuming_asks_for_the_same_mask_and_all_files(tmp_path, prior, capsys):
    path, out, mask = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out", tmp_path / "mask.nii.gz"
    image = nib.load(path)
    brain = np.asanyarray(image.dataobj) != 0
    brain[: len(brain) // 2] = False
    nib.save(nib.Nifti1Image(brain.astype(np.uint8), image.affine), mask)
    command = ["restore", str(path), "-o", str(out), "--prior", prior, "--resume"]
    assert main([*command, "--mask", str(mask)]) == 0
    assert main(command) == 1
    assert "they are of another mask" in capsys.readouterr().err
    assert main([*command, "--mask", str(mask)]) == 0
    assert "finished before" in capsys.readouterr().out
    copy = tmp_path / "elsewhere" / path.name  # the same bytes under the same name, and then others
    copy.parent.mkdir()
    shutil.copy2(path, copy)
    other = ["restore", str(copy), *command[2:], "--mask", str(mask)]
    assert main(other) == 0
    assert "finished before" in capsys.readouterr().out
    scan(copy, 5)
    assert main(other) == 1
    assert "they are of another scan" in capsys.readouterr().err

    command += ["--mask", str(mask)]
    residual = out / "sub-01_desc-residual_T2w.nii.gz"
    sidecar = out / "sub-01_desc-restored_T2w.json"
    whole = residual.read_bytes()
    score = out / "sub-01_desc-score_T2w.nii.gz"
    for spoil, why in (
        (residual.unlink, "sub-01_desc-residual_T2w.nii.gz is missing"),
        (lambda: residual.write_bytes(b""), f"has 0 bytes, not {len(whole)}"),
        (lambda: residual.write_bytes(whole[: len(whole) // 2]), f"bytes, not {len(whole)}"),
        (lambda: residual.write_bytes(whole[:-1] + b"x"), "is not the file that was written"),
        (lambda: shutil.copy(score, residual), "residual_T2w.nii.gz"),
        (lambda: sidecar.write_text("{"), "is damaged"),
        (lambda: sidecar.write_text("[]"), "is damaged"),
    ):
        spoil()
        assert main(command) == 0
        said = capsys.readouterr().out
        assert "written to" in said
        assert re.search(f"done again: .*{re.escape(why)}", said)
        assert residual.read_bytes() == whole
        assert json.loads(sidecar.read_text())["MaskSHA256"]


@listed(
    "Earlier results and disturbed runs", "--resume with --normalized", REFUSED, "made otherwise: Normalized differ"
)
@listed(
    "Earlier results and disturbed runs",
    "--resume with another calibration",
    REFUSED,
    "made otherwise: CalibrationFingerprint differ",
)
def test_resuming_asks_for_the_same_values_and_calibration(tmp_path, capsys):
    prior = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    directory, path = str(lc.save_model(prior, tmp_path / "tiny", card="For tests.\n")), scan(tmp_path / "a_T2w.nii.gz")
    command = ["restore", str(path), "-o", str(tmp_path / "out"), "--prior", directory, "--resume"]
    assert main(command) == 0
    assert main([*command, "--normalized"]) == 1
    assert "made otherwise: Normalized differ" in capsys.readouterr().err
    calibration = tiny_calibration()
    people = calibration.healthy.subjects
    taller = replace(calibration.healthy, subjects=tuple(replace(person, extent=(9.0, 9.0, 9.0)) for person in people))
    for other, code in ((replace(calibration, healthy=taller), 1), (replace(calibration, notes={"a": "remark"}), 0)):
        lc.models.save_calibration(directory, other)
        assert main(command) == code
    assert "made otherwise: CalibrationFingerprint differ" in capsys.readouterr().err


@listed(
    "Earlier results and disturbed runs",
    "--resume over results of 0.1.0, without hashes",
    REFUSED,
    "an earlier version of lesioncore wrote them",
)
def test_results_without_hashes_are_refused_with_the_reason(tmp_path, prior, capsys):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    command = ["restore", str(path), "-o", str(out), "--prior", prior, "--resume"]
    assert main(command) == 0
    sidecar = out / "sub-01_desc-restored_T2w.json"
    facts = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**facts, "Files": list(facts["Files"])}))
    assert main(command) == 1
    assert "an earlier version of lesioncore wrote them" in capsys.readouterr().err
    assert main(["report", str(out), "--scans", str(path)]) == 1
    assert "restore the scan again, with --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_contrasts_of_a_person_share_a_folder(tmp_path, prior, capsys):
    out = tmp_path / "out"
    first, second = (scan(tmp_path / f"sub-01_{contrast}.nii.gz") for contrast in ("T2w", "FLAIR"))
    assert main(["restore", str(first), "-o", str(out), "--prior", prior]) == 0
    before = {file: file.read_bytes() for file in out.iterdir()}
    assert main(["restore", str(second), "-o", str(out), "--prior", prior]) == 0
    assert "is a FLAIR image" in capsys.readouterr().err
    assert main(["restore", str(second), "-o", str(out), "--prior", prior, "--overwrite", "--steps", "1"]) == 0
    assert {file: file.read_bytes() for file in out.glob("*T2w*")} == before
    assert not list(out.glob("*fpr05FLAIR*"))  # steps of its own have no thresholds
