"""Subjects from folders, files, tables and phantoms, and the errors of bad ones."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from support.subjects import BRAIN, GRID, SHAPE, write, write_scan

from lesioncore.data.grid import SliceGrid
from lesioncore.preprocess.intensity import IntensityScale
from lesioncore.subjects import FileSubject, PhantomSubject, find_subjects
from lesioncore.training.cache import SliceCache
from lesioncore.training.split import reference_intensity, split_subjects

COARSE = SliceGrid(8.0, (25, 28))


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Two people, one with two sessions, another contrast, and masks in derivatives."""
    root = tmp_path / "ds"
    for name in ("sub-01/ses-1/anat/sub-01_ses-1", "sub-01/ses-2/anat/sub-01_ses-2", "sub-02/anat/sub-02"):
        write_scan(root / f"{name}_T2w.nii.gz")
        write_scan(root / f"{name}_T1w.nii.gz")
    mask = BRAIN.numpy().astype(np.uint8)
    write(root / "derivatives/tool/sub-02/anat/sub-02_desc-brain_mask.nii.gz", mask)
    write(root / "derivatives/tool/sub-02/anat/sub-02_label-lesion_mask.nii.gz", mask)
    (root / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    return root


def ids(subjects) -> list[str]:
    return [subject.id for subject in subjects]


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_bids_folder(dataset):
    subjects = find_subjects([dataset], modality="T2w")
    assert ids(subjects) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert [s.person for s in subjects] == ["sub-01", "sub-01", "sub-02"]
    assert {s.modality for s in subjects} == {"T2w"}
    derived = dataset / "derivatives/tool/sub-02/anat"
    assert [s.mask for s in subjects] == [None, None, derived / "sub-02_desc-brain_mask.nii.gz"]
    assert [s.lesion for s in subjects] == [None, None, derived / "sub-02_label-lesion_mask.nii.gz"]
    assert all(s.scan.name.endswith("_T2w.nii.gz") for s in subjects)
    assert find_subjects([str(dataset / "sub-02")], modality="T2w") == subjects[2:]
    assert find_subjects([dataset / "sub-02/anat/sub-02_T2w.nii.gz"]) == subjects[2:]
    assert pickle.loads(pickle.dumps(subjects)) == subjects


def test_lists_and_tables(dataset, tmp_path):
    plain = write_scan(tmp_path / "IXI002.nii")
    (tmp_path / "list.txt").write_text(
        f"# healthy\n\nds/sub-02/anat/sub-02_T2w.nii.gz  \n{plain}\n", encoding="utf-8-sig"
    )
    subjects = find_subjects([tmp_path / "list.txt"])
    assert ids(subjects) == ["sub-02", "IXI002"]
    assert subjects[0] == find_subjects([dataset / "sub-02"], modality="T2w")[0]
    assert subjects[1] == FileSubject("IXI002", "IXI002", None, tmp_path / str(plain))
    mask = write(tmp_path / "a mask, by hand.nii", BRAIN.numpy().astype(np.uint8))
    (tmp_path / "table.csv").write_text(
        f'subject,image,Mask\r\nanna,ds/sub-02/anat/sub-02_T2w.nii.gz,"{mask.name}"\r\n,IXI002.nii,\r\n,,\r\n'
    )
    table = find_subjects([tmp_path / "table.csv"])
    assert ids(table) == ["anna/sub-02", "IXI002"]
    assert [s.person for s in table] == ["anna", "IXI002"]
    assert [s.mask for s in table] == [mask, None]
    assert table[0].lesion == subjects[0].lesion  # no such column, so it is looked for
    (tmp_path / "table.tsv").write_text("image\tmask\tlesion\nds/sub-02/anat/sub-02_T2w.nii.gz\t\t\n")
    (bare,) = find_subjects([tmp_path / "table.tsv"])
    assert (bare.mask, bare.lesion) == (None, None)  # the table says that there is none


def test_several_inputs_keep_their_order(dataset, tmp_path):
    plain = write_scan(tmp_path / "IXI002.nii")
    subjects = find_subjects([plain, dataset, "phantom:T2w:2"], modality="T2w")
    assert ids(subjects) == [
        "IXI002",
        "sub-01_ses-1",
        "sub-01_ses-2",
        "sub-02",
        "phantom-train-0000",
        "phantom-train-0001",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "scan,mask\na,b\n", r"t\.csv: got the columns scan, mask .*expected image"),
        ("t.csv", "image,masks\nplain.nii,\n", "columns image, masks"),
        ("t.csv", "image,image\nplain.nii,\n", "columns image, image"),
        ("t.csv", "", "columns none"),
        ("t.csv", "image,mask\nplain.nii\n", r"t\.csv, line 2: got 1 cells, expected 2"),
        ("t.csv", "image,mask\n,plain.nii\n", "line 2: names no image"),
        ("t.csv", "image\nplain.nii\ngone.nii\n", r"line 3: .*gone\.nii: no such file"),
        ("t.csv", "image,mask\nplain.nii,gone.nii\n", r"line 2: .*gone\.nii: no such file"),
        ("t.csv", 'image\n"plain.nii\n', "no table"),
        ("t.csv", "image\n\n", "names no scan"),
        ("t.txt", "# none\n", "names no scan"),
        ("t.txt", "plain.nii\nnotes.docx\n", r"line 2: got notes\.docx, expected an image"),
        ("t.txt", "sub\n", "line 1: got sub, expected an image"),
        ("t.txt", "caf\udce9.nii", "UTF-8"),
        ("t.xlsx", "PK", r"inputs: got .*t\.xlsx, expected a folder"),
    ],
)
def test_bad_lists_say_where(tmp_path, name, text, message):
    write_scan(tmp_path / "plain.nii")
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises((ValueError, OSError), match=message):
        find_subjects([tmp_path / name])


def test_bad_inputs_say_what_to_do(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    file = dataset / "sub-02/anat/sub-02_T2w.nii.gz"
    for inputs, modality, message in [
        ([], None, "inputs: got none, expected at least one"),
        ("phantom:T2w:3", None, "expected a list"),
        ([tmp_path / "empty"], None, r"empty: no scan .* in this folder"),
        ([dataset], "FLAIR", r"ds: no scan .*3 left out: T1w, not FLAIR"),
        ([dataset], None, r"modality: .*T1w \(3\), T2w \(3\).*sub-.* is T1w"),
        ([file], "T1w", "sub-02: got a T2w image, expected T1w"),
        (["phantom:T2w:3"], "T1w", "phantom-train-0000: got a T2w image"),
        ([file, "phantom:T1w:3"], None, "several contrasts"),
        ([file, dataset], "T2w", "sub-02: is named twice"),
        ([tmp_path / "gone"], None, "gone: no such file"),
    ]:
        with pytest.raises((ValueError, OSError), match=message):
            find_subjects(inputs, modality=modality)


def test_names_and_formats_that_people_use(tmp_path):
    folder = tmp_path / "study"
    for number, name in enumerate(("a-t2w.nii.gz", "b-t1n.nii.gz", "c-t1c.nii.gz", "d.nii.gz")):
        write_scan(folder / name, number)
    nib.save(nib.MGHImage(np.asarray(nib.load(folder / "d.nii.gz").dataobj), np.eye(4)), folder / "e.T2.mgz")
    brain = write(folder / "a-t2w_desc-brain_mask.nii.gz", BRAIN.numpy().astype(np.uint8))
    said: list[str] = []
    subjects = find_subjects([folder], modality="T2w", note=said.append)
    assert [(s.id, s.modality, s.mask) for s in subjects] == [
        ("a-t2w", "T2w", brain),
        ("d", None, None),
        ("e.T2", "T2w", None),
    ]
    assert said == [
        f"{folder}: 1 left out: a mask or label map",
        f"{folder}: 1 left out: T1w, not T2w",
        f"{folder}: 1 left out: T1ce, not T2w",
        f"{folder}: 1 taken for T2w though their names tell no contrast, as other names do: d.nii.gz",
    ]
    with pytest.warns(UserWarning, match="T1ce, not T2w"):
        find_subjects([folder], modality="T2w")
    (tmp_path / "t.csv").write_text("image,subject\nstudy/e.T2.mgz,emma\nstudy/a-t2w.nii.gz,anna\n")
    assert ids(find_subjects([tmp_path / "t.csv"])) == ["emma/e.T2", "anna/a-t2w"]
    with pytest.raises(ValueError, match=r"several contrasts, T1ce \(1\), T1w \(1\), T2w \(2\), expected one"):
        find_subjects([folder])
    write_scan(folder / "e.T2.nii")
    with pytest.raises(ValueError, match=r"e\.T2: two scans have this name"):
        find_subjects([folder], modality="T2w")


def test_two_people_of_one_name_can_be_told_apart(dataset, tmp_path):
    other = write_scan(tmp_path / "other/sub-02/anat/sub-02_T2w.nii.gz", seed=3)
    with pytest.raises(ValueError, match=r"sub-02: two scans have this name, .*column 'subject'"):
        find_subjects([dataset, tmp_path / "other"], modality="T2w")
    (tmp_path / "t.csv").write_text(f"image,subject\n{other},other-02\n{dataset}/sub-02/anat/sub-02_T2w.nii.gz,ds-02\n")
    subjects = find_subjects([tmp_path / "t.csv"])
    assert ids(subjects) == ["other-02/sub-02", "ds-02/sub-02"]


def test_keys_follow_the_content(tmp_path):
    first, second = write_scan(tmp_path / "a.nii"), write_scan(tmp_path / "b.nii")
    mask = write(tmp_path / "mask.nii", BRAIN.numpy().astype(np.uint8))
    a, b = FileSubject("a", "a", None, first), FileSubject("b", "b", "T2w", second)
    assert a.key() == b.key()
    os.utime(first, (0, 0))
    assert a.key() == b.key()
    keys = {
        a.key(),
        replace(a, mask=mask).key(),
        replace(a, lesion=mask).key(),
        replace(a, mask=mask, lesion=mask).key(),
    }
    assert len(keys) == 4
    write_scan(second, seed=1)
    assert b.key() not in keys


def test_reference_intensities(tmp_path):
    """Of the brain at the scan's own resolution, in its own units."""
    scan = write_scan(tmp_path / "a.nii", seed=4)
    mask = BRAIN.numpy().copy()
    mask[:8] = False
    subject = FileSubject("a", "a", None, scan, write(tmp_path / "mask.nii", mask.astype(np.uint8)))
    values = np.asarray(nib.load(scan).dataobj)
    for which, brain in ((subject, mask), (replace(subject, mask=None), BRAIN.numpy())):
        found, expected = reference_intensity([which], GRID), IntensityScale.fit(values[brain])
        np.testing.assert_allclose(found.landmarks, expected.landmarks, rtol=1e-12)
        np.testing.assert_allclose((found.mean, found.std), (expected.mean, expected.std), rtol=1e-12)
    assert values.shape == SHAPE


# ---- who is held out -------------------------------------------------------------------------------------------------

people = st.lists(st.integers(0, 60), min_size=2, max_size=60).filter(lambda names: len(set(names)) > 1)


def scans_of(names: list[int]) -> list[FileSubject]:
    return [FileSubject(f"{name}-{i}", f"sub-{name}", None, Path("x.nii")) for i, name in enumerate(names)]


@given(people, st.floats(0.01, 0.99), st.integers(0, 1000))
def test_people_are_never_divided(names, fraction, seed):
    subjects = scans_of(names)
    train, validation = split_subjects(subjects, fraction, seed)
    assert sorted(ids(train) + ids(validation)) == sorted(ids(subjects))
    assert not {s.person for s in train} & {s.person for s in validation}
    assert train
    assert validation
    count = len(set(names))
    assert len({s.person for s in validation}) == min(max(1, round(fraction * count)), count - 1)
    assert [s for s in subjects if s in train] == train  # in their order


@given(people, st.integers(0, 1000), st.randoms(use_true_random=False))
def test_who_is_held_out_depends_on_the_names_alone(names, seed, random):
    subjects = scans_of(names)
    _, validation = split_subjects(subjects, 0.3, seed)
    mixed = random.sample(subjects, len(subjects))
    assert sorted(ids(split_subjects(mixed, 0.3, seed)[1])) == sorted(ids(validation))


def test_another_seed_holds_out_others_and_those_added_leave_most_where_they_are():
    subjects = scans_of(list(range(100)))
    held = [set(ids(split_subjects(subjects, 0.2, seed)[1])) for seed in range(5)]
    assert len({frozenset(names) for names in held}) == 5
    more = set(ids(split_subjects(scans_of(list(range(110))), 0.2, 0)[1]))
    assert len(held[0] & more) >= 15


def test_too_few_people_to_hold_one_out():
    with pytest.raises(ValueError, match="scans of one person, expected at least two"):
        split_subjects(scans_of([3, 3, 3]), 0.5, 0)
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="fraction: got"):
            split_subjects(scans_of([1, 2]), fraction, 0)


# ---- phantoms --------------------------------------------------------------------------------------------------------


def test_ranges_of_phantoms():
    subjects = find_subjects(["phantom:T2w:2", "phantom:T2w:5-6:glioma"], split="validation")
    assert ids(subjects) == [
        "phantom-validation-0000",
        "phantom-validation-0001",
        "phantom-validation-0005_glioma",
        "phantom-validation-0006_glioma",
    ]
    assert [s.lesion for s in subjects] == [None, None, "glioma", "glioma"]
    healthy, ill = find_subjects(["phantom:T1w:7-7", "phantom:T1w:7-7:stroke"])
    assert healthy.person == ill.person == "phantom-train-0007"  # the same anatomy
    keys = {
        PhantomSubject.of(*facts).key() for facts in [("T2w", 0, "train"), ("T1w", 0, "train"), ("T2w", 1, "train")]
    }
    keys |= {PhantomSubject.of("T2w", 0, *facts).key() for facts in [("validation",), ("train", "glioma")]}
    assert len(keys) == 5
    assert pickle.loads(pickle.dumps(ill)) == ill


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phantom:FLAIR:3", "phantom:FLAIR:3: contrast: got 'FLAIR', expected one of T1w, T2w"),
        ("phantom:T2w:3:cyst", "lesion: got 'cyst', expected None or one of glioma, stroke"),
        ("phantom:T2w", "expected phantom:CONTRAST:FIRST-LAST"),
        ("phantom:T2w:a-b", "expected phantom:CONTRAST:FIRST-LAST"),
        ("phantom:T2w:-3", "expected phantom:CONTRAST:FIRST-LAST"),
        ("phantom:T2w:5-3", "got no subject"),
        ("phantom:T2w:0", "got no subject"),
    ],
)
def test_bad_phantoms_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        find_subjects([text])


def test_changed_phantom_code_makes_other_keys(monkeypatch):
    subject = PhantomSubject.of("T2w", 0, "train")
    before = subject.key()
    monkeypatch.setattr("lesioncore.subjects.subject.source_hash", lambda *_: "another version")
    assert subject.key() != before


@pytest.mark.slow
def test_phantoms_from_their_numbers_and_from_files_are_the_same(tmp_path):
    """From a range and from the BIDS dataset of the same subjects: the same slices, masks and lesions."""
    pytest.importorskip("nilearn")
    from lesioncore.phantom import simulate, write_dataset

    made = find_subjects(["phantom:T2w:2:glioma"], split="validation")
    folder = write_dataset(
        tmp_path / "ds", subjects=2, lesion="glioma", split="validation", voxel_size=COARSE.voxel_size
    )
    read = find_subjects([folder], modality="T2w")
    assert ids(read) == ["sub-0001", "sub-0002"]
    assert all(s.mask is not None and s.lesion is not None for s in read)
    intensity = reference_intensity(made, COARSE)
    assert reference_intensity(read, COARSE) == intensity
    phantom = simulate(0, split="validation", lesion="glioma", voxel_size=8.0)
    np.testing.assert_allclose(intensity.mean, phantom.image[phantom.brain_mask].mean(), rtol=1e-6)
    caches = [SliceCache.build(tmp_path / "c", each, grid=COARSE, intensity=intensity) for each in (made, read)]
    slices, labels = caches[0].batch(range(len(caches[0])))
    assert caches[0].key() == caches[1].key()
    assert all(torch.equal(a, b) for a, b in zip(caches[1].batch(range(len(caches[1]))), (slices, labels), strict=True))
    first = caches[0].subjects[0].rows
    assert int((labels[: first.stop] > 0).sum()) == int(phantom.brain_mask.sum())
    assert int((labels[: first.stop] == 2).sum()) == int(phantom.lesion_mask.sum()) > 0
    brain = slices[labels > 0]
    assert abs(float(brain.mean())) < 0.3
    assert 0.7 < float(brain.std()) < 1.3
    assert len(caches[0].rows()) < len(caches[0])
