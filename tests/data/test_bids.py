"""Search for scans and their masks by file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from lesioncore.data.bids import masks_of, scans_in
from lesioncore.data.roots import LINKED_OUT, ROOTS


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
    scans, skipped, unnamed = scans_in(tmp_path, "T2w")
    assert scans == wanted
    assert unnamed == wanted[2:]
    assert skipped == {
        "T1w, not T2w": 1,
        "phasediff, not T2w": 1,
        "a mask or label map": 3,
        "a result of lesioncore": 4,
    }


def test_linked_folders_are_searched_where_links_may_lead(tmp_path, monkeypatch):
    (far,) = touch(tmp_path, "store/sub-02/anat/sub-02_T2w.nii.gz")
    (own,) = touch(tmp_path, "data/sub-01/anat/sub-01_T2w.nii.gz")
    data = tmp_path / "data"
    (data / "sub-02").symlink_to(far.parents[1])
    linked = data / "sub-02" / "anat" / far.name
    assert scans_in(data, "T2w")[:2] == ([own], {LINKED_OUT: 1})
    monkeypatch.setenv(ROOTS, str(tmp_path / "store"))
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


def test_names_and_formats_that_people_use(tmp_path):
    wanted = touch(
        tmp_path,
        *("BraTS-GLI-00001-000/BraTS-GLI-00001-000-t2w.nii.gz", "WMH/T2.NII.GZ", "freesurfer/x.t2.mgz", "old/a_T2.img"),
    )
    touch(
        tmp_path,
        *(f"BraTS-GLI-00001-000/BraTS-GLI-00001-000-{word}.nii.gz" for word in ("t1n", "t1c", "t2f", "seg")),
        *("freesurfer/aseg.mgz", "freesurfer/lh.thickness.mgh", "old/a_T2.hdr", "old/b_T2.hdr", "old/c_T2.img"),
        "labelsTr/case_001.nii.gz",
    )
    scans, skipped, unnamed = scans_in(tmp_path, "T2w")
    assert (scans, unnamed) == (sorted(wanted), [])
    assert skipped == {
        "T1w, not T2w": 1,
        "T1ce, not T2w": 1,
        "FLAIR, not T2w": 1,
        "a mask or label map": 3,
        "one file of a pair, without its .img": 1,
        "one file of a pair, without its .hdr": 1,
    }


def test_scans_of_unknown_contrast_are_told_where_others_are_known(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    found = scans_in(tmp_path, "T2w")
    assert found.notes("T2w") == []
    touch(tmp_path, "c_T1w.nii")
    assert scans_in(tmp_path, "T2w").notes("T2w") == [
        "1 left out: T1w, not T2w",
        "2 taken for T2w though their names tell no contrast, as other names do: a.nii, b.nii",
    ]


def test_files_without_their_content_are_left_out(tmp_path):
    (scan,) = touch(tmp_path, "a_T2w.nii.gz")
    (tmp_path / "b_T2w.nii.gz").symlink_to(".git/annex/objects/xx/MD5E-s9--0.nii.gz")
    (tmp_path / "c_T2w.nii.gz").symlink_to("gone.nii.gz")
    (tmp_path / "d_T2w.nii.gz").write_text("/annex/objects/MD5E-s9--0.nii.gz\n")
    (tmp_path / "e_T2w.nii.gz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    found = scans_in(tmp_path, "T2w")
    assert found.scans == [scan]
    assert found.skipped == {
        "content is not here: datalad get FILE": 2,
        "a link to gone.nii.gz, which is not there": 1,
        "content is not here: git lfs pull": 1,
    }


@pytest.mark.parametrize(
    "name",
    [
        *("label-lesion_mask", "label-L_mask", "desc-lesion_mask", "desc-T1lesion_mask", "label-L_desc-T1lesion_mask"),
        *("label-lesion_roi", "desc-lesion_roi", "label-lesion_desc-rater2_mask"),
    ],
)
@pytest.mark.parametrize("folder", [".", "derivatives/manual"])
def test_lesion_masks_have_many_names(tmp_path, folder, name):
    first, second = touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz")
    touch(
        tmp_path,
        "sub-01/anat/sub-01_label-excluded_mask.nii.gz",
        "sub-01/anat/sub-01_label-L_desc-fpr05T1w_mask.nii.gz",
        "sub-01/anat/sub-01_label-L_desc-fpr05_mask.nii.gz",
        "sub-01/anat/sub-01_desc-brain_mask.nii.gz",
        "sub-01/anat/sub-01_label-lesion_T1w.nii.gz",
    )
    assert masks_of([first, second], "label-lesion") == [None, None]
    (mask,) = touch(tmp_path, f"{folder}/sub-01/anat/sub-01_{name}.nii.gz")
    assert masks_of([first, second], "label-lesion") == [mask, None if "T1" in name else mask]
    touch(tmp_path, "derivatives/other/sub-01/anat/sub-01_label-lesion_mask.nii.gz")
    with pytest.raises(ValueError, match=r"sub-01_T1w.*2 files.*other"):
        masks_of([first], "label-lesion")
