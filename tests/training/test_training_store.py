"""The files of the slice cache: interruptions, damage, and several processes at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.subjects import brain_slices, build, everything, four_subjects, same, write_scan, write_subjects

from lesioncore.training.cache import SliceCache
from lesioncore.training.store import INDEX, LABELS, SLICES, SliceStore, locked


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four subjects and a cache of them."""
    folder = tmp_path_factory.mktemp("cache")
    subjects = four_subjects(folder / "scans")
    return subjects, build(folder / "cache", subjects)


@pytest.fixture
def copy(made, tmp_path):
    """The subjects and a copy of their cache's files, to be damaged."""
    subjects, cache = made
    home = tmp_path / "cache" / cache.directory.name
    shutil.copytree(cache.directory, home)
    return subjects, home


def prepared(subjects, cache) -> list[str]:
    """Subjects that a build prepares."""
    done = [entry.id for entry in SliceStore(cache).entries]
    build(cache.parent, subjects)
    return [entry.id for entry in SliceStore(cache).entries if entry.id not in done]


# ---- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SLICES, LABELS, INDEX])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_an_interrupted_build_goes_on_where_it_was(made, copy, name, share):
    """A file that ends anywhere, as a power cut may leave it, gives back what is whole; the rest is made again."""
    subjects, home = copy
    size = (home / name).stat().st_size
    header = len((home / INDEX).read_bytes().split(b"\n")[0]) + 1
    os.truncate(home / name, max(int(share * size), header if name == INDEX else 0))
    whole = [entry.id for entry in SliceStore(home).entries]
    assert len(whole) < 4
    again = prepared(subjects, home)
    assert whole + again == [s.id for s in subjects]
    assert same(SliceCache.open(home, verify=True), made[1])
    for file in (SLICES, LABELS, INDEX):
        assert (home / file).read_bytes() == (made[1].directory / file).read_bytes()


@pytest.mark.parametrize("rest", [b"", b'{"id":"sub-9","key"', b"\x00\x00\x00\n", b"[]\n", b"{}\n"])
def test_the_rest_of_an_interrupted_write_is_cut_off(made, copy, rest, tmp_path):
    subjects, home = copy
    for name in (SLICES, LABELS):
        with open(home / name, "ab") as file:
            file.write(b"\x01" * 1000)
    with open(home / INDEX, "ab") as file:
        file.write(rest)
    assert same(SliceCache.open(home, verify=True), made[1])
    (extra,) = write_subjects(tmp_path / "more", 1)
    write_scan(extra.scan, seed=50)
    cache = build(home.parent, [*subjects, replace(extra, id="extra")])
    assert len(SliceCache.open(home, verify=True).subjects) == 5
    assert torch.equal(cache.stacks()[4].slices[:, 0], brain_slices(extra.scan))


def test_a_kill_between_the_writes(tmp_path, monkeypatch):
    """Whichever file was to be written next: the subject is either whole or not there."""
    subjects = write_subjects(tmp_path / "scans", 2)
    expected = everything(build(tmp_path / "whole", subjects))
    writes = []

    def kill_at(count: int):
        def sync(file):
            writes.append(Path(file.name).name)
            if len(writes) == count:
                raise KeyboardInterrupt
            file.flush()

        return sync

    for count in range(1, 8):
        writes.clear()
        with monkeypatch.context() as patch:
            patch.setattr("lesioncore.training.store._sync", kill_at(count))
            with pytest.raises(KeyboardInterrupt):
                build(tmp_path / str(count), subjects)
        assert len(writes) == count
        cache = build(tmp_path / str(count), subjects)
        assert all(torch.equal(a, b) for a, b in zip(everything(cache), expected, strict=True))
        assert len(SliceStore(cache.directory).entries) == 2


_BUILD = """
import sys, time
from dataclasses import replace
from pathlib import Path
from support.subjects import GRID, INTENSITY, write_subjects
from lesioncore.training.cache import SliceCache

def progress(done, total):
    print(done, flush=True)
    time.sleep(600 * (done == 3))

folder = Path(sys.argv[1])
subjects = write_subjects(folder / "scans", 8)
SliceCache.build(folder / "cache", subjects, grid=GRID, intensity=INTENSITY, workers=2, progress=progress)
"""


@pytest.mark.slow
def test_a_killed_build_leaves_its_subjects_and_no_processes(tmp_path):
    command = [sys.executable, "-c", _BUILD, str(tmp_path)]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=here, cwd=tmp_path)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "3":
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=30)  # the output ends with the last process that could write to it
    subjects = write_subjects(tmp_path / "scans", 8)
    (home,) = (tmp_path / "cache").iterdir()
    assert [entry.id for entry in SliceStore(home).entries] == ["sub-0", "sub-1", "sub-2"]
    assert prepared(subjects, home) == [f"sub-{i}" for i in range(3, 8)]
    assert same(SliceCache.open(home, verify=True), build(tmp_path / "whole", subjects))


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    subjects = write_subjects(tmp_path / "scans", 2)
    first = build(tmp_path / "cache", subjects[:1])

    def full(file):
        raise OSError(28, "No space left on device", file.name)

    with monkeypatch.context() as patch:
        patch.setattr("lesioncore.training.store._sync", full)
        with pytest.raises(OSError, match="No space left"):
            build(tmp_path / "cache", subjects)
    assert same(build(tmp_path / "cache", subjects[:1], verify=True), first)
    assert len(build(tmp_path / "cache", subjects, verify=True).subjects) == 2


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SLICES, LABELS])
def test_damaged_slices_are_found_and_made_again(made, copy, name):
    subjects, home = copy
    rows = made[1].subjects[1].rows
    with open(home / name, "r+b") as file:
        file.seek(rows.start * 24 * 20 * (4 if name == SLICES else 1) + 7)
        file.write(b"\x02")
    with pytest.raises(ValueError, match=r"slices of sub-1 are damaged"):
        SliceCache.open(home, verify=True)
    with pytest.warns(UserWarning, match="sub-1: its slices in .* are damaged"):
        cache = build(home.parent, subjects, verify=True)
    assert same(cache, made[1])
    assert same(build(home.parent, subjects, verify=True), made[1])
    assert cache.key() == made[1].key()


def test_a_header_that_cannot_be_read_says_what_to_do(copy):
    subjects, home = copy
    lines = (home / INDEX).read_bytes().split(b"\n", 1)
    (home / INDEX).write_bytes(b"{\n" + lines[1])
    with pytest.raises(ValueError, match=r"damaged; remove the folder"):
        build(home.parent, subjects)
    header = json.loads(lines[0])
    header["grid"]["voxel_size"] = 7.0
    (home / INDEX).write_bytes(json.dumps(header).encode() + b"\n" + lines[1])
    with pytest.raises(ValueError, match=r"damaged; remove the folder"):
        build(home.parent, subjects)


# ---- several at once -------------------------------------------------------------------------------------------------


def test_builders_take_turns(tmp_path):
    subjects = write_subjects(tmp_path / "scans", 3)
    home = build(tmp_path / "cache", subjects[:1]).directory
    found = []

    def run():
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            found.append(build(tmp_path / "cache", subjects))
        found.append([str(remark.message) for remark in remarks])

    with locked(home):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        # What is there already can be read meanwhile.
        assert len(build(tmp_path / "cache", subjects[:1]).subjects) == 1
        assert len(SliceCache.open(home).subjects) == 1
    thread.join(20)
    assert not thread.is_alive()
    cache, remarks = found
    assert any("waiting for it" in remark for remark in remarks)
    assert len(cache.subjects) == 3


def _build_in_process(folder: Path, subjects, start) -> None:
    start.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build(folder, subjects)


@pytest.mark.slow
def test_processes_that_build_at_once_do_not_harm_each_other(tmp_path):
    subjects = write_subjects(tmp_path / "scans", 6)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    parts = (subjects[:4], subjects[5:1:-1])
    processes = [context.Process(target=_build_in_process, args=(tmp_path / "cache", part, start)) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    (home,) = (tmp_path / "cache").iterdir()
    assert sorted(entry.id for entry in SliceStore(home).entries) == [s.id for s in subjects]
    cache = build(tmp_path / "cache", subjects, verify=True)
    assert same(cache, build(tmp_path / "alone", subjects))
