"""Data sets of healthy people. Where each layout is from: docs/how-to/import-datasets.md."""

from __future__ import annotations

from lesioncore.datasets.description import Dataset, Image, PaperSplit, Table

_SEX = {"1": "M", "2": "F"}
_OASIS_TERMS = "OASIS data use agreement"

_CAMCAN = r"sub-(?P<subject>CC\d{6})"
_IXI = r"(?P<subject>IXI\d{3})-(?P<site>Guys|HH|IOP)-\d+"
_OASIS3 = r"sub-(?P<subject>OAS3\d{4})_sess?-(?P<session>d\d{4})(?:_acq-(?P<acq>[^_/]+))?(?:_run-(?P<run>\d+))?"

HEALTHY = (
    Dataset(
        "camcan",
        "Cam-CAN (Cambridge Centre for Ageing and Neuroscience)",
        "https://www.cam-can.org/",
        images=tuple(Image(modality, f"{_CAMCAN}_{modality}") for modality in ("T1w", "T2w")),
        example="anat/sub-CC110033/anat/sub-CC110033_T1w.nii.gz",
        tables=(
            Table(
                r"participants\.tsv",
                "participant_id",
                {"age": "age", "sex": "gender_code"},
                key=lambda cell: cell.removeprefix("sub-"),
                values={"sex": _SEX},
            ),
        ),
        terms="Cam-CAN data use agreement",
        split=PaperSplit(train=600, validation=52),
    ),
    Dataset(
        "ixi",
        "IXI (Information eXtraction from Images)",
        "https://brain-development.org/ixi-dataset/",
        images=tuple(Image(f"{kind}w", f"{_IXI}-{kind}") for kind in ("T1", "T2", "PD")),
        example="IXI-T1/IXI002-Guys-0828-T1.nii.gz",
        tables=(
            Table(
                r"IXI\.csv",
                "IXI_ID",
                {"age": "AGE", "sex": "SEX_ID.*"},
                key=lambda cell: f"IXI{cell.zfill(3)}",
                values={"sex": _SEX},
            ),
        ),
        licence="CC BY-SA 3.0",
    ),
    Dataset(
        "oasis-1",
        "OASIS-1 (Open Access Series of Imaging Studies, cross-sectional)",
        "https://sites.wustl.edu/oasisbrains/",
        # The mean of a session's scans, resampled to 1 mm; its axes lead to the front, up and to the left.
        images=(Image("T1w", r"(?P<subject>OAS1_\d{4})_(?P<session>MR\d)_mpr_n\d_anon_sbj_111", axes="ASL"),),
        example="disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/SUBJ_111/OAS1_0001_MR1_mpr_n4_anon_sbj_111.hdr",
        tables=(
            Table(
                r"oasis_cross-sectional.*\.csv",
                "ID",
                {"age": "Age", "sex": "M/F", "cdr": "CDR"},
                key=lambda cell: cell.removesuffix("_MR1"),
            ),
        ),
        terms=_OASIS_TERMS,
    ),
    Dataset(
        "oasis-3",
        "OASIS-3 (Open Access Series of Imaging Studies, longitudinal)",
        "https://sites.wustl.edu/oasisbrains/",
        images=tuple(Image(modality, f"{_OASIS3}_{modality}") for modality in ("T1w", "T2w", "FLAIR")),
        example="OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz",
        tables=(
            Table(
                r"OASIS3_demographics\.csv",
                "OASISID",
                {"age": "AgeatEntry", "sex": "GENDER"},
                values={"sex": _SEX},
            ),
        ),
        terms=_OASIS_TERMS,
    ),
)
