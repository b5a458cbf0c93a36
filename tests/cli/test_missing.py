"""What a command line lacks, and what it names that is not there or cannot be: told whole, and before any work."""

from __future__ import annotations

import numpy as np
import pytest
from support.command_line import BRAIN, SHAPE, brain, scan, write

from lesioncore.cli import COMMANDS, main


@pytest.fixture
def untouched(monkeypatch):
    """No prior may be loaded."""
    monkeypatch.setattr("lesioncore.models.io.read_model", lambda path: pytest.fail("too late"))


@pytest.mark.parametrize(
    ("arguments", "all_of"),
    [
        (
            "restore A_T2w.nii B_T2w.nii --mask C.nii D.nii --prior nonesuch -o /proc/x",
            ("INPUT: A_T2w.nii, B_T2w.nii: no such file", "--mask: C.nii, D.nii: no such", "'nonesuch'", "got /proc/x"),
        ),
        (
            "calibrate A.nii phantom:T2w:2 t.csv --prior nonesuch -o /proc/x",
            ("A.nii, t.csv: no", "nonesuch", "/proc/x"),
        ),
        (
            "evaluate A.nii --healthy B --calibration d/split.tsv:a --methods m=nonesuch:map --boxes c.tsv -o /proc/x",
            (
                "DATA: A.nii",
                "--healthy: B",
                "--calibration: d/split.tsv: no",
                "'nonesuch'",
                "--boxes: c.tsv",
                "/proc/x",
            ),
        ),
        ("train vae A B.txt --validation C -o /proc/x", ("DATA: A, B.txt: no", "--validation: C", "got /proc/x")),
        ("preprocess A.nii B.nii -o /proc/x", ("INPUT: A.nii, B.nii", "got /proc/x, but /proc takes no new files")),
        ("report A B --scans C --prior nonesuch", ("RESULTS: A, B: no such folder", "--scans: C", "nonesuch")),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_all_that_is_missing_is_named_at_once(arguments, all_of, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert [text for text in all_of if text not in line] == []
    assert "phantom:" not in line


def test_long_lists_end_with_how_many_more_there_are(tmp_path, capsys):
    assert main(["restore", *(f"{number}_T2w.nii" for number in range(30)), "-o", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "9_T2w.nii and 20 more: no such file" in said
    assert "10_T2w.nii" not in said


def test_a_table_names_all_of_its_files_that_are_missing(tmp_path, prior, capsys):
    scan(tmp_path / "a.nii")
    (tmp_path / "t.csv").write_text("image,mask\na.nii,b.nii\nc.nii,\n")
    assert main(["calibrate", str(tmp_path / "t.csv"), "--prior", prior, "-o", str(tmp_path / "new")]) == 1
    said = capsys.readouterr().err
    assert "line 2: " in said
    assert "b.nii: no such file" in said
    assert "line 3: " in said


NEEDED = {
    "restore": ("INPUT", "-o OUT"),
    "preprocess": ("INPUT", "-o OUT"),
    "train vae": ("DATA", "-o OUT"),
    "calibrate": ("DATA", "--prior PRIOR"),
    "evaluate": ("[DATA ...]", "-o OUT", "--methods METHOD"),
    "report": ("RESULTS",),
    "phantom": ("OUT",),
    "import": ("ixi", "SRC", "OUT"),
    "reproduce": ("OUT",),
    "push": ("MODEL", "REPOSITORY"),
}


@pytest.mark.parametrize("command", NEEDED)
def test_a_command_without_arguments_names_all_that_it_needs(command, capsys):
    assert command.split()[0] in COMMANDS
    assert main(command.split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert [text for text in NEEDED[command] if text not in last] == []


# ---- masks that are not of the brain ---------------------------------------------------------------------------------


@pytest.fixture
def lesion(tmp_path):
    values = np.zeros(SHAPE, np.uint8)
    values[10:13, 8:11, 4:7] = 1
    return lambda name: write(tmp_path / name, values)


@pytest.mark.parametrize("command", ["restore", "preprocess"])
@pytest.mark.usefixtures("untouched")
def test_a_lesion_mask_in_place_of_the_brains_is_refused_before_any_work(command, tmp_path, lesion, capsys):
    path, out = scan(tmp_path / "sub-01_T2w.nii.gz"), tmp_path / "out"
    for name, says in (
        ("sub-01_label-L_mask.nii.gz", "of lesions by the name"),
        ("sub-01_mask.nii.gz", "got 1.73 ml, 0.62 % of the scan, expected the whole brain"),
    ):
        assert main([command, str(path), "-o", str(out), "--mask", str(lesion(name))]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert name in said
        assert "--mask" in said
    assert not out.exists()


@pytest.mark.usefixtures("untouched")
def test_masks_on_other_grids_are_all_named_before_any_work(tmp_path, capsys):
    scans = [scan(tmp_path / f"sub-0{number}_T2w.nii.gz") for number in (1, 2, 3)]
    masks = [write(tmp_path / f"sub-0{number}_mask.nii.gz", BRAIN[:-number].astype(np.uint8)) for number in (1, 2)]
    masks.append(brain(tmp_path / "sub-03_mask.nii.gz"))
    assert main(["restore", *map(str, scans), "-o", str(tmp_path / "out"), "--mask", *map(str, masks)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert [str(mask) in line for mask in masks] == [True, True, False]
    assert line.count("expected that of the volume") == 2


def test_a_lesion_mask_as_a_tables_brain_mask_is_refused(tmp_path, prior, lesion, capsys):
    scan(tmp_path / "sub-01_T2w.nii.gz")
    command = ["calibrate", str(tmp_path / "t.csv"), "--prior", prior, "-o", str(tmp_path / "new")]
    for name, says in (("sub-01_lesion.nii.gz", "of lesions by its name"), ("m.nii.gz", "expected the whole brain")):
        lesion(name)
        (tmp_path / "t.csv").write_text(f"image,mask\nsub-01_T2w.nii.gz,{name}\n")
        assert main(command) == 1
        assert says in capsys.readouterr().err
