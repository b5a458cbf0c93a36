"""Search for scans and their masks by file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from lesioncore.data.bids import contrast_of, masks_of, other_contrast, scans_in, subject_of


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def test_scans_of_a_dataset(tmp_path):
    wanted = touch(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_run-1_T2w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_run-2_T2w.nii",
        "unnamed.nii.gz",
    )
    touch(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-1/fmap/sub-01_ses-1_phasediff.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_desc-restored_T2w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_space-MNI152NLin2009aSym_res-2_desc-score_T2w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_label-L_desc-fpr05T2w_mask.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_label-L_desc-rankT2w_probseg.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_T2w.json",
        "case1_seg.nii.gz",
        "derivatives/other/sub-01/ses-1/anat/sub-01_ses-1_desc-x_T2w.nii.gz",
        ".git/annex/sub-09_T2w.nii.gz",
        ".sub-01_T2w.nii.gz",
    )
    scans, skipped = scans_in(tmp_path, "T2w")
    assert scans == wanted
    assert skipped == {
        "T1w, not T2w": 1,
        "phasediff, not T2w": 1,
        "a mask or label map": 3,
        "a result of lesioncore": 4,
    }


def test_linked_folders_are_searched(tmp_path):
    (far,) = touch(tmp_path, "store/sub-02/anat/sub-02_T2w.nii.gz")
    (own,) = touch(tmp_path, "data/sub-01/anat/sub-01_T2w.nii.gz")
    data = tmp_path / "data"
    (data / "sub-02").symlink_to(far.parents[1])
    linked = data / "sub-02" / "anat" / far.name
    assert scans_in(data, "T2w")[0] == [own, linked]
    (mask,) = touch(data, "derivatives/tool/sub-02/anat/sub-02_desc-brain_mask.nii.gz")
    assert masks_of([linked], "desc-brain") == [mask]


def test_each_folder_is_searched_once_however_many_links_lead_there(tmp_path):
    touch(tmp_path, "sub-09_T2w.nii.gz")  # beyond the folder
    (scan,) = touch(tmp_path, "data/sub-01/anat/sub-01_T2w.nii.gz")
    data = tmp_path / "data"
    (data / "alias").symlink_to(data / "sub-01")
    (scan.parent / "itself").symlink_to(scan.parent)
    (scan.parent / "root").symlink_to(data)
    (scan.parent / "above").symlink_to(tmp_path)
    assert scans_in(data, "T2w")[0] == [scan]


def test_names():
    path = Path("ds/sub-01/anat/sub-01_acq-x_T1w.nii.gz")
    assert (subject_of(path), contrast_of(path)) == ("sub-01", "T1w")
    assert other_contrast(path, "T2w") == "T1w"
    assert other_contrast(path, "T1w") is None
    assert other_contrast(path, None) is None
    assert (subject_of(Path("IXI002.nii")), contrast_of(Path("IXI002.nii"))) == (None, None)
    assert other_contrast(Path("IXI002.nii"), "T2w") is None


def test_masks_have_the_name_of_their_scan(tmp_path):
    scans = touch(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_run-1_T2w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_run-2_desc-preproc_T2w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_run-1_T2w.nii.gz",
        "flat_T2.nii.gz",
        "plain.nii.gz",
        "sub-02/anat/sub-02_desc-preproc_T1w.nii.gz",
        "sub-02/anat/sub-02_desc-preproc_T2w.nii.gz",
    )
    beside, derived, flat, plain, first, second = touch(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_run-1_desc-brain_mask.nii.gz",
        "derivatives/tool/sub-01/ses-1/anat/sub-01_ses-1_run-2_desc-brain_mask.nii.gz",
        "flat_desc-brain_mask.nii.gz",
        "plain_desc-brain_mask.nii",
        "sub-02/anat/sub-02_desc-brainT1w_mask.nii.gz",
        "sub-02/anat/sub-02_desc-brainT2w_mask.nii.gz",
    )
    (lesion,) = touch(tmp_path, "derivatives/expert/sub-01/ses-1/anat/sub-01_ses-1_run-1_label-lesion_desc-2_mask.nii")
    touch(
        tmp_path,
        "derivatives/README",
        "derivatives/tool/sub-02/ses-1/anat/sub-01_ses-1_run-1_desc-brain_mask.nii.gz",
        "derivatives/tool/sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz",
        "derivatives/tool/sub-01/ses-1/anat/sub-01_ses-1_run-1_space-x_desc-brain_mask.nii.gz",
        "derivatives/tool/sub-01/ses-1/anat/sub-01_ses-1_run-1_desc-brain_mask.json",
        "sub-01/ses-1/anat/sub-01_ses-1_run-1_label-L_desc-fpr05_mask.nii.gz",
    )
    assert masks_of(scans, "desc-brain") == [beside, derived, None, flat, plain, first, second]
    assert masks_of(scans, "label-lesion") == [lesion, None, None, None, None, None, None]


def test_relative_paths_find_their_masks_too(tmp_path, monkeypatch):
    touch(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz")
    (mask,) = touch(tmp_path, "derivatives/tool/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    monkeypatch.chdir(tmp_path / "sub-01" / "anat")
    assert masks_of([Path("sub-01_T2w.nii.gz")], "desc-brain") == [mask]


def test_two_masks_are_an_error(tmp_path):
    (scan, *_) = touch(
        tmp_path,
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_desc-brain_mask.nii.gz",
        "derivatives/tool/sub-01/anat/sub-01_desc-brain_mask.nii.gz",
    )
    with pytest.raises(ValueError, match=r"sub-01_T2w.*2 files.*derivatives"):
        masks_of([scan], "desc-brain")
