"""Folders with the results of thousands of scans: their names are not all read for each scan."""

from __future__ import annotations

import os
import time

from lesioncore.data import listing, names, temporary
from lesioncore.data.bids import results_of
from lesioncore.data.listing import names_with
from lesioncore.data.names import contrast_of


def counted(monkeypatch, module, name):
    """Count the calls of a function of a module."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arguments, **options: calls.append(1) or function(*arguments, **options))
    return calls


def settle(folder):
    """Let a folder's last change be long ago."""
    ago = time.time() - 60
    os.utime(folder, (ago, ago))


def test_names_are_those_that_begin_so_and_there_are_none_without_a_folder(tmp_path):
    for name in ("a_1", "a_2", "ab_1", "b_1"):
        (tmp_path / name).touch()
    assert names_with(tmp_path, "a_") == ["a_1", "a_2"]
    settle(tmp_path)
    assert names_with(tmp_path, "a_") == ["a_1", "a_2"]
    assert names_with(tmp_path, "c") == names_with(tmp_path / "none", "a") == names_with(tmp_path / "a_1", "a") == []


def test_a_folder_is_listed_again_after_a_change_alone(tmp_path, monkeypatch):
    calls = counted(monkeypatch, listing.os, "listdir")
    for number in range(3):
        (tmp_path / f"sub-{number}_desc-score_T2w.nii.gz").touch()
    settle(tmp_path)
    for number in range(3):
        assert [path.name for path in results_of(tmp_path, f"sub-{number}", "T2w")] == [
            f"sub-{number}_desc-score_T2w.nii.gz"
        ]
    assert len(calls) == 1
    (tmp_path / "sub-0_desc-restored_T2w.json").touch()  # just now, so that a later change might have the same time
    assert len(results_of(tmp_path, "sub-0", "T2w")) == 2
    (tmp_path / "sub-0_desc-residual_T2w.nii.gz").touch()
    assert len(results_of(tmp_path, "sub-0", "T2w")) == 3


def test_a_large_folder_is_not_looked_through_for_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary, "_LARGE", 10)
    calls = counted(monkeypatch, temporary.os, "listdir")
    for few in (True, False):
        folder = tmp_path / str(few)
        folder.mkdir()
        for number in range(5 if few else 20):
            (folder / f"{number}").touch()
        calls.clear()
        for _ in range(4):
            temporary.clear(folder)
        assert len(calls) == (4 if few else 1)


def test_nnunets_table_is_read_once_until_it_changes(tmp_path, monkeypatch):
    calls = counted(monkeypatch, names, "read_object")
    table = tmp_path / "dataset.json"
    table.write_text('{"channel_names": {"0": "T2"}}')
    assert {contrast_of(tmp_path / f"case_{number:03d}_0000.nii.gz") for number in range(5)} == {"T2w"}
    assert len(calls) == 1
    table.write_text('{"channel_names": {"0": "FLAIR"}, "numTraining": 5}')
    assert contrast_of(tmp_path / "case_001_0000.nii.gz") == "FLAIR"
