"""Temporary files: cleared up after processes that ended, and never those of living ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lesioncore.data.files import difference, manifest, replace_atomically, replace_directory, replace_together
from lesioncore.data.temporary import clear, temporary

_LEAVES = """
import os, sys
from pathlib import Path
from lesioncore.data.temporary import set_aside, temporary
target = Path(sys.argv[1])
with temporary(target.parent, ".nii.gz") as file, temporary(target.parent, directory=True) as folder:
    file.write_text("half")
    (folder / "a").write_text("half")
    with temporary(target.parent, set_aside(target)) as old:
        os.rename(target, old)
        print("ready", flush=True)
        sys.stdin.read()
        os._exit(9)
"""
"""Sets a folder aside to replace it, and ends without clearing up when its input is closed."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_an_ended_process_left_is_removed_and_what_it_set_aside_is_back(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", _LEAVES, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    left = names(tmp_path)
    assert len(left) == 3
    clear(tmp_path)
    assert names(tmp_path) == left  # it lives
    process.stdin.close()
    assert process.wait() == 9
    with replace_atomically(tmp_path / "other") as name:
        name.write_text("new")
    assert names(tmp_path) == ["model", "other"]
    assert (target / "weights").read_text() == "old"
    process.stdout.close()


def test_another_machines_files_stay_for_a_day(tmp_path):
    with temporary(tmp_path) as own:
        place = own.name.split("-")[1]
    foreign = tmp_path / own.name.replace(place, "0" * 8)
    foreign.mkdir()
    clear(tmp_path)
    assert foreign.exists()
    day_ago = time.time() - 25 * 3600
    (foreign / "part").write_text("fresh")
    os.utime(foreign, (day_ago, day_ago))
    clear(tmp_path)
    assert foreign.exists()  # something in it is fresh
    os.utime(foreign / "part", (day_ago, day_ago))
    clear(tmp_path)
    assert not foreign.exists()


def test_files_of_other_names_are_nobodys(tmp_path):
    for name in (".lesioncore-notes", ".hidden", ".lesioncore-0-1-2-3"):
        (tmp_path / name).write_text("mine")
    clear(tmp_path)
    assert len(names(tmp_path)) == 3


def test_files_take_their_places_together_and_the_last_one_vouches_for_them(tmp_path):
    folder, work = tmp_path / "out", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    for name in ("a", "old", "last"):
        (folder / name).write_text("earlier")
    with pytest.raises(KeyboardInterrupt), replace_together(folder, "last", earlier=[folder / "old"]):
        raise KeyboardInterrupt
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(("a", "old", "last"), "earlier")
    with replace_together(folder, "last", earlier=[folder / "old"], work=work) as made:
        assert made.parent == work
        for name in ("a", "b", "last"):
            (made / name).write_text("new")
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(("a", "b", "last"), "new")
    assert names(work) == []


def test_a_rename_that_fails_leaves_no_new_file_and_none_that_vouches(tmp_path, monkeypatch):
    (tmp_path / "last").write_text("earlier")
    real = os.replace

    def fails(source, target):
        if Path(target).name == "b":
            raise OSError("no space")
        real(source, target)

    def write():
        with replace_together(tmp_path, "last") as made:
            for name in ("a", "b", "last"):
                (made / name).write_text("new")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no space"):
        write()
    assert names(tmp_path) == []


def test_a_manifest_notices_every_change(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    listed = manifest(tmp_path.iterdir())
    assert difference(tmp_path, listed) is None
    (tmp_path / "b").write_text("c")
    assert difference(tmp_path, listed) == "b is not the file that was written"
    (tmp_path / "b").write_text("")
    assert difference(tmp_path, listed) == "b has 0 bytes, not 1"
    (tmp_path / "b").unlink()
    assert difference(tmp_path, listed) == "b is missing"


def test_a_folder_that_cannot_be_put_in_place_comes_back(tmp_path, monkeypatch):
    with replace_directory(tmp_path / "model") as folder:
        (folder / "weights").write_text("old")
    real = os.replace

    def fails(source, target):
        if Path(target) == tmp_path / "model" and "~" not in Path(source).name:
            raise OSError("no space")
        real(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no space"), replace_directory(tmp_path / "model") as folder:
        (folder / "weights").write_text("new")
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]
