"""The slice cache returns the slices put in, whatever happens in between."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from support.subjects import (
    BRAIN,
    GRID,
    INTENSITY,
    METADATA,
    SHAPE,
    brain_slices,
    build,
    everything,
    four_subjects,
    same,
    write,
    write_scan,
    write_subjects,
)

from lesioncore.data.grid import SliceGrid
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.scan import BACKGROUND
from lesioncore.training.cache import SliceCache
from lesioncore.training.preparation import PreparationError
from lesioncore.training.store import INDEX, LABELS, SLICES, SliceStore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four subjects and a cache of them."""
    folder = tmp_path_factory.mktemp("cache")
    subjects = four_subjects(folder / "scans")
    return subjects, build(folder / "cache", subjects)


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
    monkeypatch.setattr(
        "lesioncore.training.preparation.prepare_subject", lambda *_, **__: pytest.fail("prepared again")
    )
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
    assert torch.equal(after.stacks()[1].slices[:, 0], brain_slices(subjects[1].scan))
    assert torch.equal(after.stacks()[0].slices, before.stacks()[0].slices)
    assert all(torch.equal(a, b) for a, b in zip(everything(before), held, strict=True))  # a run that goes on
    masked = replace(subjects[0], mask=write(tmp_path / "mask.nii", np.ones(SHAPE, np.uint8)))
    assert masked.key() != subjects[0].key()
    assert replace(subjects[0], lesion=masked.mask).key() != masked.key()


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
