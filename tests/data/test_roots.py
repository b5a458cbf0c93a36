"""Links and paths in tables: none leads out of what a user named, unless the user says where it may lead."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import brain, scan

from lesioncore.bids_app.selection import find_scans
from lesioncore.cli.output import UsageError
from lesioncore.data.bids import masks_of, scans_in
from lesioncore.data.participants import participant_of
from lesioncore.data.roots import LINKED_OUT, ROOTS, leads_out
from lesioncore.data.text_files import LARGEST_TABLE
from lesioncore.evaluation.boxes import read_boxes
from lesioncore.subjects import find_subjects

NAME = "sub-01_T2w.nii.gz"


@pytest.fixture
def secret(tmp_path) -> Path:
    """A scan of somebody else."""
    return scan(tmp_path / "others" / "secret_T2w.nii.gz", 1)


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A data set with one scan of its own."""
    scan(tmp_path / "ds" / "sub-02" / "anat" / "sub-02_T2w.nii.gz", 2)
    (tmp_path / "ds" / "dataset_description.json").write_text('{"Name": "x"}')
    return tmp_path / "ds"


def linked(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def annexed(dataset: Path, name: str, seed: int = 3) -> Path:
    """A scan as git-annex keeps it: a relative link to its content."""
    content = scan(dataset / ".git" / "annex" / "objects" / "XX" / "MD5E-s9--0.nii.gz", seed)
    path = dataset / name
    return linked(path, Path("../" * (len(path.relative_to(dataset).parts) - 1)) / content.relative_to(dataset))


def test_links_of_a_folder_lead_to_what_is_in_it(dataset, secret, monkeypatch):
    inside = linked(dataset / "sub-01" / "anat" / NAME, "../../sub-02/anat/sub-02_T2w.nii.gz")
    own = dataset / "sub-02" / "anat" / "sub-02_T2w.nii.gz"
    outside = linked(dataset / "sub-03" / "anat" / "sub-03_T2w.nii.gz", secret)
    linked(dataset / "sub-04", secret.parent)
    found = scans_in(dataset, "T2w")
    assert found.scans == [inside, own]
    assert found.skipped == {LINKED_OUT: 2}
    monkeypatch.setenv(ROOTS, f"/nowhere:{secret.parent}")
    assert scans_in(dataset, "T2w").scans == [inside, own, outside, dataset / "sub-04" / secret.name]


def test_a_folder_of_links_alone_says_how_to_take_them(tmp_path, secret):
    linked(tmp_path / "study" / "sub-01", secret.parent)
    with pytest.raises(ValueError, match=f"no scan.*1 left out: a link that leads out of the folder; {ROOTS}=FOLDER"):
        find_subjects([tmp_path / "study"])


def test_what_is_named_itself_may_be_a_link(tmp_path, dataset, secret):
    link = linked(tmp_path / "my" / "study", dataset)
    assert [subject.id for subject in find_subjects([link])] == ["sub-02"]
    assert find_subjects([linked(tmp_path / "my" / NAME, secret)])[0].id == "sub-01"


@pytest.mark.parametrize("named", ["", "sub-03", "sub-03/anat"])
def test_content_of_git_annex_is_the_data_sets_own(dataset, named):
    path = annexed(dataset, "sub-03/anat/sub-03_T2w.nii.gz")
    assert path in scans_in(dataset / named, "T2w").scans
    mask = annexed(dataset, "derivatives/tool/sub-03/anat/sub-03_desc-brain_mask.nii.gz", 4)
    assert masks_of([path], "desc-brain") == [mask]
    (dataset / "list.txt").write_text("sub-03/anat/sub-03_T2w.nii.gz\n")
    assert find_subjects([dataset / "list.txt"])[0].scan.resolve() == path.resolve()


def test_what_else_a_repository_keeps_is_not(dataset):
    (dataset / ".git").mkdir()
    (dataset / ".git" / "config").touch()
    link = linked(dataset / "sub-03" / "anat" / "sub-03_T2w.nii.gz", dataset / ".git" / "config")
    assert leads_out(link, dataset / "sub-03") == (dataset / ".git" / "config").resolve()
    elsewhere = linked(dataset.parent / "other" / ".git", dataset / ".git")  # somebody else's annex
    (dataset / ".git" / "annex" / "objects").mkdir(parents=True)
    assert leads_out(elsewhere / "annex" / "objects" / "x", elsewhere.parent) is not None


def test_masks_do_not_lead_out_of_their_data_set(dataset, secret):
    own = dataset / "sub-02" / "anat" / "sub-02_T2w.nii.gz"
    brain(secret.with_name("mask.nii.gz"))
    linked(dataset / "derivatives" / "t" / "sub-02" / "anat" / "sub-02_desc-brain_mask.nii.gz", secret)
    with pytest.raises(ValueError, match=f"its mask .* leads to .*secret_T2w.*outside of .*ds; .*{ROOTS}="):
        masks_of([own], "desc-brain")


@pytest.mark.parametrize("table", ["{}\n", "image\n{}\n", "image,lesion\nsub-02/anat/sub-02_T2w.nii.gz,{}\n"])
def test_paths_in_tables_lead_to_the_tables_data_set(table, dataset, secret, monkeypatch):
    path = dataset / ("t.csv" if "image" in table else "t.txt")
    for name in (str(secret), "../others/secret_T2w.nii.gz", "here_T2w.nii.gz"):
        path.write_text(table.format(name))
        if "here" in name:
            linked(dataset / name, secret)
        with pytest.raises(ValueError, match=r"line \d: .*secret_T2w\.nii\.gz, outside of .*; if you trust"):
            find_subjects([path])
        with monkeypatch.context() as patch:
            patch.setenv(ROOTS, str(secret.parent))
            assert find_subjects([path])
    inner = dataset / "code" / "t.txt"
    inner.parent.mkdir(exist_ok=True)
    inner.write_text("../sub-02/anat/sub-02_T2w.nii.gz\n")
    assert find_subjects([inner])[0].person == "sub-02"


def test_the_bids_app_refuses_scans_that_lead_out(dataset, secret):
    linked(dataset / "sub-01" / "anat" / NAME, secret)
    with pytest.raises(UsageError, match=r"sub-01_T2w\.nii\.gz: leads to .*secret_T2w"):
        find_scans(dataset, [], [], ["T2w"], {})
    assert len(find_scans(dataset, ["02"], [], ["T2w"], {})) == 1


def test_a_table_of_people_is_the_data_sets_own(dataset, tmp_path):
    (tmp_path / "passwords").write_text("participant_id\tage\nsub-02\t30\n")
    table = linked(dataset / "participants.tsv", tmp_path / "passwords")
    with pytest.raises(ValueError, match=r"participants\.tsv: leads to .*passwords"):
        participant_of(dataset / "sub-02" / "anat" / "sub-02_T2w.nii.gz", "sub-02")
    table.unlink()
    table.write_text("participant_id\tage\nsub-02\t30\n")
    assert participant_of(dataset / "sub-02" / "anat" / "sub-02_T2w.nii.gz", "sub-02") == {"age": "30"}


def test_tables_are_not_read_whatever_their_size(dataset):
    def long(name: str) -> Path:
        with (dataset / name).open("wb") as file:
            file.truncate(LARGEST_TABLE + 1)
        return dataset / name

    scans = dataset / "sub-02" / "anat" / "sub-02_T2w.nii.gz"
    for read in (
        lambda: find_subjects([long("t.txt")]),
        lambda: find_subjects([long("t.csv")]),
        lambda: find_subjects([f"{long('split.tsv')}:train"]),
        lambda: read_boxes(long("boxes.json")),
        lambda: long("participants.tsv") and participant_of(scans, "sub-02"),
    ):
        with pytest.raises(ValueError, match=f"got {LARGEST_TABLE + 1} bytes, expected 0 to {LARGEST_TABLE}"):
            read()
