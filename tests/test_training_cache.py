"""The slice cache: what goes in comes out, whatever happens in between."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lesioncore.training.cache import SliceCache
from lesioncore.training.preparation import PreparationError
from lesioncore.training.store import INDEX, LABELS, SLICES, SliceStore, locked
from subjects import BRAIN, GRID, INTENSITY, SHAPE, write, write_scan, write_subjects

from lesioncore.data.grid import SliceGrid
from lesioncore.priors import PriorMetadata
from lesioncore.scan import BACKGROUND, prepare

METADATA = PriorMetadata("test", "T2w", GRID, INTENSITY)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four subjects, the third with a lesion and a mask, and a cache of them."""
    folder = tmp_path_factory.mktemp("cache")
    subjects = write_subjects(folder / "scans", 4)
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[8:12, 7:10, 3:6] = 1
    lesion[0] = 1  # not brain, so not labelled
    subjects[2] = replace(
        subjects[2],
        lesion=write(folder / "scans" / "lesion.nii", lesion),
        mask=write(folder / "scans" / "mask.nii", BRAIN.numpy().astype(np.uint8)),
    )
    return subjects, build(folder / "cache", subjects)


@pytest.fixture
def copy(made, tmp_path):
    """The subjects and a copy of their cache's files, to be damaged."""
    subjects, cache = made
    home = tmp_path / "cache" / cache.directory.name
    shutil.copytree(cache.directory, home)
    return subjects, home


def build(folder: Path, subjects, **options) -> SliceCache:
    return SliceCache.build(folder, subjects, **{"grid": GRID, "intensity": INTENSITY, **options})


def everything(cache: SliceCache) -> tuple[torch.Tensor, torch.Tensor]:
    return cache.batch(torch.arange(len(cache)))


def same(first: SliceCache, second: SliceCache) -> bool:
    pairs = zip(everything(first), everything(second), strict=True)
    return first.subjects == second.subjects and all(torch.equal(a, b) for a, b in pairs)


def prepared(subjects, cache) -> list[str]:
    """Which of the subjects a build prepares."""
    done = [entry.id for entry in SliceStore(cache).entries]
    build(cache.parent, subjects)
    return [entry.id for entry in SliceStore(cache).entries if entry.id not in done]


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_slices_are_what_restore_would_see(made):
    subjects, cache = made
    assert [s.id for s in cache.subjects] == [s.id for s in subjects]
    assert (cache.grid, cache.intensity) == (GRID, INTENSITY)
    slices, labels = everything(cache)
    assert (slices.dtype, labels.dtype) == (torch.float32, torch.uint8)
    assert slices.shape == labels.shape == (len(cache), 1, *GRID.shape)
    start = 0
    for subject, held, stack in zip(subjects, cache.subjects, cache.stacks(), strict=True):
        scan = prepare(subject.scan, METADATA)
        part = scan.mask.flatten(1).any(1)
        assert held.rows == range(start, start + int(part.sum()))
        rows = slice(held.rows.start, held.rows.stop)
        assert torch.equal(slices[rows], scan.slices[part])
        assert torch.equal(labels[rows] > 0, scan.mask[part])
        assert torch.equal(stack.slices, scan.slices[part])
        assert torch.equal(stack.mask, scan.mask[part])
        assert stack.voxel_size == held.voxel_size == scan.voxel_size
        start = held.rows.stop
    assert start == len(cache)
    assert bool((slices[labels == 0] == BACKGROUND).all())
    assert torch.equal(cache.brain, (labels > 0).flatten(1).sum(1))
    assert torch.equal(cache.lesion, (labels == 2).flatten(1).sum(1))
    ill = cache.subjects[2].rows
    assert int(cache.lesion.sum()) == int(cache.lesion[ill.start : ill.stop].sum()) == 4 * 3 * 3


def test_rows_with_enough_brain(made):
    _, cache = made
    share = cache.brain / (24 * 20)
    for least in (0.0, 0.1, 0.25):
        assert torch.equal(cache.rows(least), (share >= max(least, 1e-9)).nonzero()[:, 0])
    assert len(cache.rows(0.25)) < len(cache.rows(0.1)) < len(cache)
    with pytest.raises(ValueError, match=r"least_brain: no slice.*0\.9"):
        cache.rows(0.9)


@given(st.lists(st.integers(0, 19), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_in_any_order(made, rows):
    _, cache = made
    slices, labels = everything(cache)
    found = cache.batch(torch.tensor(rows, dtype=torch.int64))
    assert torch.equal(found[0], slices[rows])
    assert torch.equal(found[1], labels[rows])
    assert all(torch.equal(a, b) for a, b in zip(cache.batch(np.array(rows, dtype=np.int64)), found, strict=True))


def test_rows_beyond_the_end_are_refused(made):
    _, cache = made
    with pytest.raises(IndexError):
        cache.batch([len(cache)])


def test_what_is_done_to_a_stack_is_not_stored(made):
    _, cache = made
    before = everything(cache)
    cache.stacks()[0].slices.zero_()
    assert all(torch.equal(a, b) for a, b in zip(everything(cache), before, strict=True))
    assert torch.equal(cache.stacks()[0].slices, before[0][: len(cache.subjects[0].rows)])


def test_neighbours_stay_neighbours(tmp_path):
    """A slice without brain between two with is kept, but is none to train on."""
    mask = BRAIN.numpy().astype(np.uint8)
    mask[:, :, 4] = 0
    (subject,) = write_subjects(tmp_path / "scans", 1)
    cache = build(tmp_path, [replace(subject, mask=write(tmp_path / "mask.nii", mask))])
    occupied = np.flatnonzero(BRAIN.numpy().any((0, 1)))
    assert len(cache) == occupied[-1] - occupied[0] + 1
    assert len(cache.rows(0.0)) == len(cache) - 1


# ---- what is prepared, and when --------------------------------------------------------------------------------------


def test_a_second_build_prepares_nothing(made, monkeypatch):
    subjects, cache = made
    steps = []
    monkeypatch.setattr("lesioncore.training.preparation.prepare", lambda *_, **__: pytest.fail("prepared again"))
    again = build(cache.directory.parent, subjects, progress=lambda *step: steps.append(step))
    assert same(again, cache)
    assert again.key() == cache.key()
    assert steps == [(4, 4)]


def test_the_data_set_is_in_the_order_asked_for(made):
    """Whatever the order of the files, and whatever else is in them; also after sending it to another process."""
    subjects, cache = made
    part = build(cache.directory.parent, [subjects[3], subjects[1]])
    assert part.directory == cache.directory
    assert [s.id for s in part.subjects] == ["sub-3", "sub-1"]
    wanted = [cache.batch(list(cache.subjects[i].rows)) for i in (3, 1)]
    assert torch.equal(everything(part)[0], torch.cat([slices for slices, _ in wanted]))
    assert part.key() != cache.key() != build(cache.directory.parent, subjects[::-1]).key()
    opened = SliceCache.open(cache.directory, [subjects[3].key(), subjects[1].key()])
    assert same(opened, part)
    assert same(pickle.loads(pickle.dumps(part)), part)
    assert same(SliceCache.open(cache.directory), cache)


def test_a_changed_file_is_prepared_anew(tmp_path):
    subjects = write_subjects(tmp_path / "scans", 2)
    before = build(tmp_path, subjects)
    key, held = before.key(), everything(before)
    write_scan(subjects[1].scan, seed=77)
    after = build(tmp_path, subjects)
    assert after.directory == before.directory
    assert not same(after, before)
    assert after.key() != key
    assert torch.equal(after.stacks()[1].slices[:, 0], _slices(subjects[1].scan))
    assert torch.equal(after.stacks()[0].slices, before.stacks()[0].slices)
    assert all(torch.equal(a, b) for a, b in zip(everything(before), held, strict=True))  # a run that goes on
    masked = replace(subjects[0], mask=write(tmp_path / "mask.nii", np.ones(SHAPE, np.uint8)))
    assert masked.key() != subjects[0].key()
    assert replace(subjects[0], lesion=masked.mask).key() != masked.key()


def _slices(scan: Path) -> torch.Tensor:
    found = prepare(scan, METADATA)
    return found.slices[found.mask.flatten(1).any(1), 0]


def test_another_grid_or_scale_has_files_of_its_own(made, tmp_path):
    subjects, _ = made
    caches = [
        build(tmp_path, subjects[:1]),
        build(tmp_path, subjects[:1], grid=SliceGrid(4.0, (26, 20))),
        build(tmp_path, subjects[:1], grid=SliceGrid(4.5, (24, 20))),
        build(tmp_path, subjects[:1], intensity=replace(INTENSITY, mean=INTENSITY.mean + 1)),
    ]
    assert len({cache.directory for cache in caches}) == 4
    assert len({cache.key() for cache in caches}) == 4
    assert same(build(tmp_path, subjects[:1]), caches[0])


def test_other_code_prepares_anew(made, tmp_path, monkeypatch):
    subjects, _ = made
    first = build(tmp_path, subjects[:1])
    monkeypatch.setattr("lesioncore.training.build.source_hash", lambda *_: "another version")
    assert build(tmp_path, subjects[:1]).directory != first.directory


def test_bad_subjects_are_named_and_the_others_kept(tmp_path):
    subjects = write_subjects(tmp_path / "scans", 4)
    subjects[0].scan.write_text("no image")
    small = np.zeros((3, 3, 3), np.uint8)
    subjects[2] = replace(subjects[2], lesion=write(tmp_path / "small.nii", small))
    with pytest.raises(PreparationError) as caught:
        build(tmp_path / "cache", subjects)
    text = str(caught.value)
    assert text.startswith("2 of 4 subjects")
    assert "sub-0: " in text
    assert "sub-2: " in text
    assert "small.nii: got shape (3, 3, 3)" in text
    (home,) = (tmp_path / "cache").iterdir()
    assert [entry.id for entry in SliceStore(home).entries] == ["sub-1", "sub-3"]
    assert len(build(tmp_path / "cache", [subjects[1], subjects[3]]).subjects) == 2


def test_remarks_name_their_subject(tmp_path):
    (subject,) = write_subjects(tmp_path / "scans", 1)
    with pytest.warns(UserWarning, match=r"sub-0: .*field of view"):
        build(tmp_path, [subject], grid=SliceGrid(4.0, (14, 20)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(tmp_path, [subject], grid=SliceGrid(4.0, (14, 20)))


def test_one_scan_under_two_names_is_refused(tmp_path):
    (subject,) = write_subjects(tmp_path / "scans", 1)
    with pytest.raises(ValueError, match="sub-0 and other are the same"):
        build(tmp_path, [subject, replace(subject, id="other", person="other")])


def test_bad_arguments_are_named(made, tmp_path):
    subjects, cache = made
    with pytest.raises(ValueError, match="subjects: got none"):
        build(tmp_path, [])
    with pytest.raises(ValueError, match="workers: got 0"):
        build(tmp_path, subjects, workers=0)
    with pytest.raises(FileNotFoundError):
        SliceCache.open(tmp_path)
    with pytest.raises(ValueError, match="1 of the 2 subjects"):
        SliceCache.open(cache.directory, [subjects[0].key(), "nonesuch"])
    missing = replace(subjects[0], scan=tmp_path / "gone.nii")
    with pytest.raises(FileNotFoundError, match=r"gone\.nii"):
        build(tmp_path, [missing])


@pytest.mark.slow
def test_processes_give_the_same(made, tmp_path):
    subjects, cache = made
    broken = replace(subjects[0], id="broken", scan=tmp_path / "broken.nii")
    broken.scan.write_text("no image")
    steps = []
    with pytest.raises(PreparationError, match=r"1 of 5 subjects(.|\n)*broken: "):
        build(tmp_path, [subjects[0], broken, *subjects[1:]], workers=2, progress=lambda *step: steps.append(step))
    assert steps == [(done, 5) for done in range(5)]
    again = build(tmp_path, subjects, verify=True)
    assert same(again, cache)
    for name in (SLICES, LABELS, INDEX):
        assert (again.directory / name).read_bytes() == (cache.directory / name).read_bytes()


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
    assert torch.equal(cache.stacks()[4].slices[:, 0], _slices(extra.scan))


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
from pathlib import Path
from subjects import GRID, INTENSITY, write_subjects
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
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
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
