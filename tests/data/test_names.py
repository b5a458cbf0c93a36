"""What names of files tell: contrast, segmentation, subject."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from lesioncore.data.names import (
    IMAGE,
    contrast_of,
    is_label,
    names_lesion,
    other_contrast,
    partner_of,
    several,
    split_name,
    stem_of,
    subject_of,
)

CONTRASTS = {
    "T1w": ["t1", "t1w", "t1n", "mprage", "spgr"],
    "T2w": ["t2", "t2w"],
    "FLAIR": ["flair", "t2f", "t2_flair"],
    "T1ce": ["t1c", "t1ce", "t1gd", "t1_ce", "t1_gd", "ce_gadolinium", "ce_gadolinium_t1w", "gd_t1"],
    "PDw": ["pd", "pdw"],
    "dwi": ["dwi"],
    "ADC": ["adc"],
    "trace": ["trace"],
}
LABELS = ["seg", "label", "labels", "mask", "roi", "lesion", "brainmask", "aseg", "dseg", "pred", "gt", "brain_mask"]
ENDINGS = [".nii", ".nii.gz", ".mgz", ".img", ".hdr"]

told = st.sampled_from([(contrast, words) for contrast, names in CONTRASTS.items() for words in names])
separators = st.sampled_from("_-. ")
prefixes = st.sampled_from(["", "patient_001", "T2_patient", "sub-T1w01", "BraTS-GLI-00000-000", "lesion_study"])


@st.composite
def written(draw, words):
    """A word, or several, as somebody may write them: any case, any separators, after any other words, any ending."""
    text = "".join(draw(separators) if letter == "_" else letter for letter in words)
    text = "".join(draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in text)
    prefix = draw(prefixes)
    ending = draw(st.sampled_from(ENDINGS))
    ending = draw(st.sampled_from([ending, ending.upper()]))
    return Path(f"{prefix}{draw(separators) if prefix else ''}{text}{ending}")


@given(st.data(), told)
def test_case_and_separators_do_not_matter(data, expected):
    contrast, words = expected
    path = data.draw(written(words))
    assert contrast_of(path) == contrast
    assert not is_label(path)


@given(st.data(), st.sampled_from(LABELS))
def test_segmentations_are_known_by_their_last_word(data, words):
    path = data.draw(written(words))
    assert is_label(path)
    assert contrast_of(path) is None


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=4), told)
def test_a_word_within_a_word_tells_nothing(letters, expected):
    assert contrast_of(Path(f"x_no{letters}{expected[1].split('_')[-1]}.nii")) is None


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("patient_001.nii.gz", None),
        ("IXI002.nii", None),
        ("T2_patient_flair.nii.gz", "FLAIR"),
        ("sub-T1w01_T2w.nii.gz", "T2w"),
        ("sub-01_acq-t1_T2w.nii.gz", "T2w"),
        ("sub-01_ce-gadolinium_run-1_T1w.nii.gz", "T1ce"),
        ("sub-01_phasediff.nii.gz", "phasediff"),
        ("T2.NII.GZ", "T2w"),
        ("T1.mgz", "T1w"),
        ("T1_brain.nii.gz", "T1w"),
        ("flair_reg_brain.nii", "FLAIR"),
        ("FLAIR_to_T1.nii.gz", "FLAIR"),
        ("T2_in_T1_brain.nii.gz", "T2w"),
        ("3D_SPACE_T2.nii.gz", "T2w"),
        ("3DT1.nii.gz", "T1w"),
        ("case_T2_0000.nii.gz", "T2w"),
        ("case_0001.nii.gz", None),
        ("0001.nii.gz", None),
        (".nii", None),
    ],
)
def test_what_the_end_of_a_name_tells(name, contrast):
    assert contrast_of(Path(name)) == contrast


NAMES = {
    "T1w": "t1_mprage_sag_p2_iso|pat02_MPRAGE_sag|x 3DT1 post-op|T1_postop_brain|wT1|mT1|T1_pre_contrast|x_post_T1"
    "|sub-01_ses-post_T1w|ms_ce_12_T1|t1_mpr_cor_1mm",
    "T2w": "t2_tse_tra|ms19_T2_FSE|20190312_t2_tse_tra_3|T2_001|Ax T2 FSE|rT2|FLAIR_003_T2|T2_to_FLAIR"
    "|sub-01_acq-flair_T2w|sub-01_acq-t2star_T2w",
    "FLAIR": "3D_FLAIR_SAG|FLAIR3D|FLAIR (1)|t2_tirm_dark-fluid_tra|t2_space_dark-fluid_sag_p2_iso|t2_flair_tra"
    "|flair_t2_tra|T2_darkfluid|t2_tirm_tra",
    "T1ce": "T1_post|T1_KM|t1_mprage_gd|T1+C|T1 C+|T1+Gd|T1c|t1_post_mprage_sag|T1_tse_fs_KM|T1 post contrast"
    "|gd_t1_mprage|sub-01_acq-gd_T1w",
    "T2starw": "t2star|t2_star|T2*|x T2 * tra|t2_star_tra",
    "swi": "swi|swi_tra",
    "PDw": "pd|pd_tse_tra",
    None: "patient_001|subject_T_003|PD_001|t2_map|T1_patient_tra|t1_ohne_km|tse_tra|x_post|patient_t12|c1T1",
}


@pytest.mark.parametrize(("contrast", "names"), NAMES.items(), ids=str)
def test_names_of_scanners_and_converters(contrast, names):
    told = {name: contrast_of(Path(f"{name}.nii.gz")) for name in names.split("|")}
    assert told == dict.fromkeys(told, contrast)
    assert not any(is_label(Path(f"{name}.nii.gz")) for name in told)


def test_words_for_masks_count_anywhere_but_in_names_of_scans():
    labels = "lesions_consensus|patient1_T2w_mask_final|mask_T2|x_seg_flair_tra|seg_001|x_roi_rater2|x_mask_0001"
    scans = "sub-lesion01_T2w|sub-mask_T1w|sub-mask_T2|lesion_study_T1|lesion_001_T1_tra|lesion_001_0000|wmh_001"
    assert {name: is_label(Path(f"{name}.nii.gz")) for name in f"{labels}|{scans}".split("|")} == {
        **dict.fromkeys(labels.split("|"), True),
        **dict.fromkeys(scans.split("|"), False),
    }


def test_only_a_contrast_is_split_off_a_name():
    parts = {
        "sub-01_ce-gd_T1w": ("sub-01_ce-gd", "T1w"),
        "ms19_flair": ("ms19", "flair"),
        "20190312_t2_tse_tra": ("20190312_t2_tse_tra", "T2w"),
        "ms19_flair_brain": ("ms19_flair_brain", "FLAIR"),
        "x_T1+C": ("x_T1+C", "T1ce"),
        "FLAIR (1)": ("FLAIR (1)", "FLAIR"),
        "case_T2_0000": ("case_T2_0000", "T2w"),
        "case_0001": ("case_0001", "image"),
        "flair": ("flair", "FLAIR"),
        "_T2w": ("_T2w", "T2w"),
    }
    assert {name: split_name(name) for name in parts} == parts
    with pytest.raises(ValueError, match="name: got ''"):
        split_name("")


def test_channels_of_nnunet_are_named_by_its_description(tmp_path):
    folder = tmp_path / "imagesTr"
    folder.mkdir()
    scans = [folder / f"case_001_000{number}.nii.gz" for number in range(4)]
    assert [contrast_of(scan) for scan in scans] == [None] * 4
    description = tmp_path / "dataset.json"
    description.write_text(json.dumps({"channel_names": {"0": "T1", "1": "T1-Gd", "2": "FLAIR", "3": "noNorm"}}))
    assert [contrast_of(scan) for scan in scans] == ["T1w", "T1ce", "FLAIR", None]
    description.write_text(json.dumps({"modality": {"0": "T2w"}}))  # of its first version
    assert [contrast_of(scan) for scan in scans] == ["T2w", None, None, None]
    for text in ("{", "[]", '{"modality": ["T1"]}', '{"channel_names": {"0": 1}}'):
        description.write_text(text)
        assert contrast_of(scans[0]) is None
    assert is_label(tmp_path / "labelsTr" / "case_001.nii.gz")


def test_parts_of_names():
    assert subject_of(Path("ds/sub-01/anat/sub-01_acq-x_T1w.nii.gz")) == "sub-01"
    assert subject_of(Path("IXI002.nii")) is None
    assert [stem_of(Path(f"a.b{ending}")) for ending in ENDINGS] == ["a.b"] * len(ENDINGS)
    pairs = {"a.hdr": "a.img", "A.IMG": "A.HDR", "a.img.gz": "a.hdr.gz", "a.nii": None}
    assert {name: partner_of(name) for name in pairs} == pairs
    images, others = ("a.nii.gz", "a.NII", "a.mgz", "a.img"), ("a.mgh", "a.json", "nii", "a.nii.txt")
    assert [name for name in (*images, *others) if IMAGE.search(name)] == list(images)


def test_contrasts_are_compared_and_counted():
    path = Path("sub-01_T1w.nii.gz")
    assert [other_contrast(path, modality) for modality in ("T2w", "T1w", None)] == ["T1w", None, None]
    assert other_contrast(Path("IXI002.nii"), "T2w") is None
    assert several(["T2w", None, "T1w", "T2w"]) == "T1w (1), T2w (2)"
    assert several(["T2w", None, "T2w"]) is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sub-01_label-L_mask.nii.gz", True),
        ("sub-01_label-lesion_mask.nii.gz", True),
        ("sub-01_ses-1_space-T1w_desc-T1lesion_mask.nii.gz", True),
        ("sub-01_label-L_desc-fpr01T1w_mask.nii.gz", True),
        ("patient3-lesion.nii", True),
        ("patient3_brain_label-lesion_roi.nii", True),
        ("12_wmh.nii.gz", True),
        ("sub-lesion01_mask.nii.gz", False),
        ("lesion01_mask.nii.gz", False),
        ("lesion_study_01_brainmask.nii.gz", False),
        ("sub-01_desc-brain_mask.nii.gz", False),
        ("sub-01_mask.nii.gz", False),
        ("sub-L_T1w_mask.nii.gz", False),
    ],
)
def test_names_of_lesion_masks(name, told):
    assert names_lesion(Path(name)) == told
