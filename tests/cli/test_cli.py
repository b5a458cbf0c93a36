"""The ``lesioncore`` command as a user meets it: output, files, exit codes, and what goes wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.command_line import AFFINE, BRAIN, brain, json_of, scan, write

import lesioncore as lc
from lesioncore.cli import installation, main
from lesioncore.cli.output import Output, UsageError
from lesioncore.cli.scans import select
from lesioncore.restoration.prior_choice import PRIORS

# ---- restore ---------------------------------------------------------------------------------------------------------


def test_restore_writes_what_the_library_gives(tmp_path, prior, capsys):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    assert main(["restore", str(path), "-o", str(out), "--prior", prior, "--json"]) == 0
    (facts,) = json_of(capsys)["scans"]
    expected = lc.restore(path, lc.load_prior(prior))
    assert {Path(file) for file in facts["files"].values()} == set(out.iterdir())
    assert np.array_equal(nib.load(facts["files"]["residual"]).get_fdata(), expected.residual.get_fdata())
    for fpr, key in ((0.01, "fpr01"), (0.05, "fpr05"), (0.1, "fpr10")):
        mask = nib.load(facts["files"][key]).get_fdata() > 0
        assert np.array_equal(mask, expected.mask(fpr).get_fdata() > 0)
        assert facts["detected_ml"][f"{fpr:g}"] == pytest.approx(mask.sum() * 4**3 / 1000)
    assert 0 < facts["detected_ml"]["0.1"] < facts["brain_ml"]
    assert facts["brain_ml"] == pytest.approx(BRAIN.sum() * 4**3 / 1000)
    assert facts["seconds"] > 0


def test_restore_speaks_to_people_on_stdout(tmp_path, prior, capsys):
    path = scan(tmp_path / "sub-01_T2w.nii.gz")
    assert main(["restore", str(path), "-o", str(tmp_path / "out"), "--prior", prior]) == 0
    captured = capsys.readouterr()
    for expected in (str(tmp_path / "out"), "ml at 1 %", "ml at 5 %", "ml at 10 %", "not a medical device"):
        assert expected in captured.out
    assert captured.err.splitlines() == ["preprocessing sub-01_T2w.nii.gz ...", "restoring sub-01_T2w.nii.gz ..."]


def test_restore_tells_what_was_detected_beside_what_the_limits_allow(tmp_path, prior, capsys):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    assert main(["restore", str(path), "-o", str(out), "--prior", prior]) == 0
    said = capsys.readouterr().out
    found = re.findall(r"([\d.]+) ml at (\d+) % \((\d+) ml\)", said)
    assert [limit for _, limit, _ in found] == ["1", "5", "10"]
    voxel_ml = 4**3 / 1000
    for detected, limit, allowed in found:
        (mask,) = out.glob(f"*fpr{int(limit):02d}*_mask.nii.gz")
        assert float(detected) == pytest.approx((nib.load(mask).get_fdata() > 0).sum() * voxel_ml, abs=0.051)
        assert float(allowed) == pytest.approx(BRAIN.sum() * voxel_ml * int(limit) / 100, abs=0.51)
    assert f"the brain has {BRAIN.sum() * voxel_ml:.0f} ml" in said


def test_restore_says_which_prior_it_chose(tmp_path, prior, capsys, monkeypatch):
    monkeypatch.setitem(PRIORS, "T2w", prior)
    path = scan(tmp_path / "sub-01_T2w.nii.gz")
    assert main(["restore", str(path), "-o", str(tmp_path / "out"), "--json"]) == 0
    captured = capsys.readouterr()
    assert f"prior {prior}: 1 taken for T2w by name" in captured.err
    assert json.loads(captured.out)["scans"][0]["prior"] == prior
    facts = json.loads((tmp_path / "out" / "sub-01_desc-restored_T2w.json").read_text())
    chosen = lc.restore(path)
    assert facts["Prior"] == chosen.sidecar()["Prior"]
    assert np.array_equal(chosen.residual.get_fdata(), lc.restore(path, prior).residual.get_fdata())


def test_options_reach_the_solver_and_masks_of_another_restoration_do_not_stay(tmp_path, prior, capsys):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    command = ["restore", str(path), "-o", str(out), "--prior", prior, "--json"]
    assert main(command) == 0
    options = "--solver paper --steps 4 --tv-weight 2.5 --tv isotropic --tv-dimensions 3 --latent sample --seed 7"
    capsys.readouterr()
    assert main([*command, "--overwrite", *options.split()]) == 0
    captured = capsys.readouterr()
    (facts,) = json.loads(captured.out)["scans"]
    assert facts["detected_ml"] is None
    assert {Path(file) for file in facts["files"].values()} == set(out.iterdir())
    assert not list(out.glob("*fpr*"))
    assert captured.err.startswith("the paper's solver takes 4 passes forward and backward for each slice; 500 are")
    (warning,) = [line for line in captured.err.splitlines() if line.startswith("warning: ")]
    assert "thresholds do not hold" in warning
    sidecar = json.loads(Path(facts["files"]["sidecar"]).read_text())
    assert sidecar["Settings"]["solver"]["name"] == "paper"
    assert sidecar["Settings"]["solver"]["steps"] == 4
    assert (sidecar["Settings"]["tv"], sidecar["Settings"]["tv_dimensions"]) == ("isotropic", 3)
    assert (sidecar["TVWeight"], sidecar["Settings"]["latent"], sidecar["Seed"]) == (2.5, "sample", 7)


def test_given_masks_are_used(tmp_path, prior, capsys):
    path = scan(tmp_path / "sub-01_T2w.nii.gz")
    half = BRAIN.copy()
    half[11:] = False
    mask = write(tmp_path / "sub-01_mask.nii.gz", half.astype(np.uint8))
    command = ["restore", str(path), "-o", str(tmp_path / "out"), "--prior", prior, "--json", "--mask", str(mask)]
    assert main(command) == 0
    (facts,) = json_of(capsys)["scans"]
    assert np.array_equal(nib.load(facts["files"]["brain"]).get_fdata() > 0, half)


def test_one_bad_file_does_not_stop_the_others(tmp_path, prior, capsys):
    good = [scan(tmp_path / f"sub-0{i}_T2w.nii.gz", i) for i in (1, 3)]
    junk = tmp_path / "sub-02_T2w.nii.gz"
    junk.write_text("no image")
    broken = tmp_path / "sub-09_T2w.nii.gz"
    broken.symlink_to("elsewhere")
    inputs = [str(path) for path in (good[0], junk, broken, good[1])]
    assert main(["restore", *inputs, "-o", str(tmp_path / "out"), "--prior", prior, "--json"]) == 3
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert [one["input"] for one in facts["scans"]] == [str(path) for path in good]
    assert [one["input"] for one in facts["failed"]] == [str(junk), str(broken)]
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert [str(junk) in errors[0], len(errors)] == [True, 2]
    assert errors[1] == f"error: {broken}: a link to elsewhere, which is not there"
    assert "Traceback" not in captured.err


def test_scans_in_work_at_the_same_time_give_what_they_give_alone(tmp_path, prior, capsys):
    paths = [scan(tmp_path / f"sub-0{i}_T2w.nii.gz", i) for i in range(5)]
    command = ["restore", *map(str, paths), "--prior", prior, "--tv-weight", "2.5", "-o"]  # no masks: a warning each
    found = []
    for workers in ("1", "3"):
        out = tmp_path / workers
        assert main([*command, str(out), "--workers", workers]) == 0
        captured = capsys.readouterr()
        assert [Path(line.split()[1]) for line in captured.out.splitlines() if line.startswith("[")] == paths
        assert "5 of 5 scans restored" in captured.out
        found.append({file.name: nib.load(file).get_fdata() for file in sorted(out.glob("*.nii.gz"))})
    alone, together = found
    assert list(alone) == list(together)
    assert len(alone) >= 15
    assert all(np.array_equal(together[name], values) for name, values in alone.items())


@pytest.mark.parametrize("workers", ["1", "4"])
def test_warnings_name_their_scan(tmp_path, prior, capsys, workers):
    paths = [scan(tmp_path / f"sub-0{i}_T2w.nii.gz", i) for i in range(3)]
    wide = nib.load(paths[1])
    nib.save(nib.Nifti1Image(wide.get_fdata(), 1.7 * AFFINE), paths[1])  # reaches beyond the prior's field of view
    command = ["restore", *map(str, paths), "-o", str(tmp_path / "out"), "--prior", prior, "--workers", workers]
    main(command)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert lines
    assert all(line.count(str(paths[1])) == 1 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("restore SCAN -o OUT --prior nonesuch", 1, "nonesuch"),
        ("restore SCAN -o OUT --prior EMPTY", 1, "config.json"),
        ("restore SCAN -o SCAN --prior PRIOR", 1, "no folder"),
        ("restore SCAN -o OUT --prior PRIOR --device tpu", 1, "tpu"),
        ("restore EMPTY -o OUT --prior PRIOR", 2, "no scan"),
        ("restore -o OUT --prior PRIOR", 2, "INPUT"),
        ("restore SCAN -o OUT --prior PRIOR --steps -1", 2, "-1"),
        ("restore SCAN -o OUT --prior PRIOR --seed -1", 2, "--seed"),
        ("restore SCAN -o OUT --prior PRIOR --workers -1", 2, "--workers"),
        ("restore SCAN -o OUT --prior PRIOR --tv-weight nan", 2, "tv_weight"),
        ("restore SCAN -o OUT --prior PRIOR --kl-weight -1", 2, "kl_weight"),
        ("restore SCAN -o OUT --prior PRIOR --solver magic", 2, "magic"),
        ("restore SCAN -o OUT --prior PRIOR --solver em --kl-weight 2", 2, "kl_weight"),
        ("restore SCAN -o OUT --prior PRIOR --mask SCAN SCAN", 2, "--mask"),
        ("restore EMPTY -o OUT --prior PRIOR --mask SCAN", 2, "folder"),
        ("restore SCAN SCAN -o OUT --prior PRIOR", 2, "different folders"),
        ("phantom OUT --subjects 0", 2, "--subjects"),
        ("phantom OUT --voxel-size 99", 2, "--voxel-size"),
        ("calibrate phantom:T2w:0 --prior phantom-t2 -o OUT --voxel-size 0", 2, "--voxel-size: got 0"),
        ("phantom SCAN --subjects 1", 1, "no folder"),
        ("demo OUT --prior nonesuch", 1, "nonesuch"),
        ("demo OUT --subject -1", 2, "--subject"),
        ("nonesuch", 2, "nonesuch"),
    ],
)
def test_failures_say_why_in_one_line(tmp_path, prior, capsys, arguments, code, says):
    (tmp_path / "empty").mkdir()
    places = {
        "SCAN": str(scan(tmp_path / "sub-01_T2w.nii.gz")),
        "OUT": str(tmp_path / "out"),
        "EMPTY": str(tmp_path / "empty"),
        "PRIOR": prior,
    }
    assert main([places.get(word, word) for word in arguments.split()]) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(tmp_path, prior, capsys, monkeypatch):
    monkeypatch.setenv("LESIONCORE_DEBUG", "1")
    assert main(["restore", str(tmp_path / "no.nii"), "-o", str(tmp_path / "out"), "--prior", prior]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_program_gets_failures_as_json(tmp_path, capsys):
    assert main(["restore", "x.nii", "-o", str(tmp_path), "--prior", "nonesuch", "--json"]) == 1
    assert "nonesuch" in json_of(capsys)["error"]


# ---- which scans -----------------------------------------------------------------------------------------------------


def test_a_folder_stands_for_its_scans(tmp_path, prior, capsys):
    """Not for masks, other contrasts, derivatives, hidden files, or what restoring this very folder wrote into it."""
    wanted = [scan(tmp_path / f"sub-0{i}" / "anat" / f"sub-0{i}_T2w.nii.gz") for i in (1, 2)]
    wanted.append(scan(tmp_path / "unnamed.nii"))
    brain(tmp_path / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz")
    brain(tmp_path / "mask.nii.gz")
    scan(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    scan(tmp_path / "derivatives" / "other" / "sub-01_T2w.nii.gz")
    scan(tmp_path / ".hidden.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\n")
    chosen = select([tmp_path], [], "T2w")
    assert {job.scan for job in chosen.jobs} == set(wanted)
    assert chosen.notes == [
        f"{tmp_path}: 2 left out: a mask or label map",
        f"{tmp_path}: 1 left out: T1w, not T2w",
        f"{tmp_path}: 1 taken for T2w though their names tell no contrast, as other names do: unnamed.nii",
    ]
    assert main(["restore", str(tmp_path), "-o", str(tmp_path), "--prior", prior]) == 0
    assert "left out" in capsys.readouterr().err
    assert {job.scan for job in select([tmp_path], [], "T2w").jobs} == set(wanted)
    again = scan(wanted[0].with_suffix("").with_suffix(".nii"))
    with pytest.raises(UsageError, match=rf"{wanted[0]}.*{again}"):
        select([tmp_path], [], None)  # both would write the same files


def test_masks_of_another_subject_are_refused(tmp_path):
    scans = [tmp_path / f"sub-{name}_T2w.nii.gz" for name in "ab"]
    masks = [tmp_path / f"sub-{name}_mask.nii.gz" for name in "ab"]
    assert [job.mask for job in select(scans, masks, "T2w").jobs] == masks
    with pytest.raises(UsageError, match=r"sub-b_mask.*sub-a_T2w"):
        select(scans, masks[::-1], "T2w")


# ---- phantom, info, the command itself -------------------------------------------------------------------------------


def test_phantom_writes_a_dataset_and_only_replaces_its_own(tmp_path, capsys):
    out = tmp_path / "phantoms"
    command = ["phantom", str(out), "--subjects", "2", "--voxel-size", "6", "--lesion", "glioma", "--json"]
    assert main(command) == 0
    facts = json_of(capsys)
    assert [Path(path).name for path in facts["scans"]] == ["sub-0001_T2w.nii.gz", "sub-0002_T2w.nii.gz"]
    assert all(Path(path).is_file() for path in facts["scans"])
    assert len(list(out.rglob("*_label-lesion_mask.nii.gz"))) == 2
    assert main(command) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--subjects", "1"]) == 0
    assert len(json_of(capsys)["scans"]) == 1
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    assert main(["phantom", str(foreign), "--subjects", "1", "--overwrite"]) == 1
    assert (foreign / "thesis.tex").read_text() == "years of work"


def test_info_for_people_and_programs(capsys):
    assert main(["info"]) == 0
    assert lc.__version__ in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert json_of(capsys) == json.loads(json.dumps(installation.info()))


def test_no_arguments_show_the_help_as_a_usage_error(capsys):
    assert main([]) == 2
    assert "restore" in capsys.readouterr().out
    assert main(["--help"]) == 0


@pytest.mark.parametrize(("argument", "said"), [("info", lc.__version__), ("--help", "usage")])
def test_python_m_and_a_reader_that_leaves(argument, said, tmp_path):
    """``| head`` closes the pipe early; that is a failure, but nothing to complain about."""
    command = [sys.executable, "-m", "lesioncore", argument]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (1, "")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lesioncore {lc.__version__}\n"


def test_an_output_that_cannot_be_written_is_found_first(tmp_path, prior, capsys):
    path = scan(tmp_path / "sub-01_T2w.nii.gz")
    assert main(["restore", str(path), "-o", str(path / "out"), "--prior", prior]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: --output: got {path / 'out'}, but {path} is no folder; choose another"


def test_names_do_nothing_to_a_terminal(capsys):
    output = Output(json=False)
    output.say("[1/1] a\x1b[2Jb\x07\x9b.nii.gz")
    output.warn("c\x1b]0;title\x07.nii.gz")
    said = capsys.readouterr()
    assert said.out == "[1/1] a\\x1b[2Jb\\x07\\x9b.nii.gz\n"
    assert said.err == "warning: c\\x1b]0;title\\x07.nii.gz\n"
