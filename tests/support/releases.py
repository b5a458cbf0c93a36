"""Public data sets as they are unpacked, with tiny images, for tests of their import."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (5, 6, 7)
AFFINE = np.diag([2.0, 2, 2, 1])
OTHER_GRID = np.diag([1.0, 1, 1, 1])


def write_scan(path: Path, affine: np.ndarray = AFFINE) -> Path:
    """An image whose voxels differ from those of other paths."""
    rng = np.random.default_rng(list(path.name.encode()))
    return _save(rng.integers(1, 100, SHAPE).astype(np.int16), path, affine)


def write_labels(path: Path, labels: tuple[float, ...], dtype: type = np.uint8) -> Path:
    """A label map: the first voxels of the first row have the labels, one after the other."""
    data = np.zeros(SHAPE, dtype)
    data[: len(labels), 0, 0] = labels
    return _save(data, path, AFFINE)


def row(path: Path) -> list[int]:
    """The first row of a mask, where the labels were, without the zeros at its end."""
    image = nib.load(path)
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(image.affine, AFFINE)
    data = np.asarray(image.dataobj)
    assert not data[:, 1:].any()
    return [int(voxel) for voxel in data[:, 0, 0]]


def _save(data: np.ndarray, path: Path, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _brats(folder: Path, persons: dict[str, str], kinds: tuple[str, ...], ending: str, labels: tuple[int, ...]) -> None:
    for person, place in persons.items():
        for kind in kinds:
            write_scan(folder / place / person / f"{person}{kind}{ending}")
        sign = kinds[0][0]
        write_labels(folder / place / person / f"{person}{sign}seg{ending}", labels)


_OLD = ("_t1", "_t1ce", "_t2", "_flair")


def camcan(folder: Path) -> None:
    for person in ("sub-CC110033", "sub-CC110037"):
        for contrast in ("T1w", "T2w"):
            write_scan(folder / "anat" / person / "anat" / f"{person}_{contrast}.nii.gz")
        _text(folder / "anat" / person / "anat" / f"{person}_T1w.json", '{"EchoTime": 0.00299}')
    rows = [
        "participant_id\tage\thand\tgender_code\ttiv_cubicmm",
        "sub-CC110033\t24\t80\t1\t1e6",
        "sub-CC110037\t18\t90\t2\t2e6",
    ]
    _text(folder / "anat" / "participants.tsv", "\n".join(rows) + "\n")


def ixi(folder: Path) -> None:
    for kind in ("T1", "T2", "PD", "MRA"):
        write_scan(folder / f"IXI-{kind}" / f"IXI002-Guys-0828-{kind}.nii.gz")
    write_scan(folder / "IXI-T2" / "IXI012-HH-1211-T2.nii.gz")
    _text(folder / "IXI.xls", "not read")
    _text(folder / "IXI.csv", 'IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,AGE\n2,2,164,35.8\n12,1,175,\n300,1,1,1\n')


def oasis1(folder: Path) -> None:
    for visit in ("OAS1_0001_MR1", "OAS1_0002_MR1", "OAS1_0002_MR2"):
        place = folder / "disc1" / visit / "PROCESSED" / "MPRAGE" / "SUBJ_111"
        place.mkdir(parents=True)
        data = np.random.default_rng(len(visit)).integers(0, 3000, (6, 5, 4, 1)).astype(np.int16)
        image = nib.AnalyzeImage(data, np.diag([-1.0, 1, 1, 1]))
        nib.save(image, place / f"{visit}_mpr_n4_anon_sbj_111.img")
        _text(place / f"{visit}_mpr_n4_anon_sbj_111_sag_88.gif", "picture")
    _text(
        folder / "oasis_cross-sectional.csv",
        "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR\nOAS1_0001_MR1,F,R,74,2,3,29,0\nOAS1_0002_MR1,M,R,55,4,1,29,0.5\n"
        "OAS1_0002_MR2,M,R,56,,,,\n",
    )


def oasis3(folder: Path) -> None:
    for name in ("run-01_T1w", "run-02_T1w", "acq-TSE_T2w"):
        write_scan(folder / "OAS30001_MR_d0129" / "anat1" / f"sub-OAS30001_ses-d0129_{name}.nii.gz")
    write_scan(folder / "OAS30002_MR_d0371" / "anat2" / "NIFTI" / "sub-OAS30002_sess-d0371_T1w.nii.gz")
    _text(folder / "OASIS3_demographics.csv", "OASISID,AgeatEntry,GENDER\nOAS30001,65.1,2\nOAS30002,67.2,1\n")


def brats17(folder: Path) -> None:
    persons = {"Brats17_2013_2_1": "HGG", "Brats17_CBICA_AAB_1": "HGG", "Brats17_TCIA_101_1": "LGG"}
    _brats(folder / "Brats17TrainingData", persons, _OLD, ".nii.gz", (1, 2, 4))
    _text(
        folder / "Brats17TrainingData" / "survival_data.csv", "Brats17ID,Age,Survival\nBrats17_CBICA_AAB_1,60.4,289\n"
    )


def brats18(folder: Path) -> None:
    _brats(folder / "MICCAI_BraTS_2018_Data_Training", {"Brats18_2013_2_1": "HGG"}, _OLD, ".nii.gz", (1, 2, 4))


def brats19(folder: Path) -> None:
    _brats(folder / "MICCAI_BraTS_2019_Data_Training", {"BraTS19_TCIA01_131_1": "LGG"}, _OLD, ".nii", (1, 2, 4))


def brats20(folder: Path) -> None:
    root = folder / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    _brats(root, dict.fromkeys(("BraTS20_Training_001", "BraTS20_Training_355"), ""), _OLD, ".nii", (1, 2, 4))
    last = root / "BraTS20_Training_355"
    (last / "BraTS20_Training_355_seg.nii").rename(last / "W39_1998.09.19_Segm.nii")
    _text(
        root / "name_mapping.csv",
        "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,"
        "BraTS_2020_subject_ID\nHGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001\n",
    )
    _text(
        root / "survival_info.csv",
        "Brats20ID,Age,Survival_days,Extent_of_Resection\nBraTS20_Training_001,60.463,289,GTR\n",
    )


def brats21(folder: Path) -> None:
    _brats(folder, {"BraTS2021_00000": ""}, _OLD, ".nii.gz", (1, 2, 4))


def brats23(folder: Path) -> None:
    root = folder / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    _brats(root, {"BraTS-GLI-00000-000": ""}, ("-t1n", "-t1c", "-t2w", "-t2f"), ".nii.gz", (1, 2, 3))


def _atlas_1(folder: Path, ending: str) -> None:
    for visit in ("c0003s0002t01", "c0003s0002t02"):
        write_scan(folder / "c0003" / visit / f"{visit}_t1w{ending}.nii.gz")
    write_labels(folder / "c0003" / "c0003s0002t01" / f"c0003s0002t01_LesionSmooth{ending}.nii.gz", (1, 0, 0))
    write_labels(folder / "c0003" / "c0003s0002t01" / f"c0003s0002t01_LesionSmooth_1{ending}.nii.gz", (0, 0, 1))
    write_labels(
        folder / "c0003" / "c0003s0002t02" / f"c0003s0002t02_LesionSmooth{ending}.nii.gz", (0.2, 0.7), np.float32
    )


def atlas_1_2(folder: Path) -> None:
    _atlas_1(folder / "ATLAS R 1.2" / "standard_MNI" / "standard_part1", "_stx")
    older = folder / "ATLAS_R1.1" / "Site1" / "031768" / "t01"
    write_scan(older / "031768_t1w_deface_stx.nii.gz")
    write_labels(older / "031768_LesionSmooth_stx.nii.gz", (255,))


def atlas_1_2_native(folder: Path) -> None:
    _atlas_1(folder / "ATLAS R 1.2" / "native" / "native_2" / "native_2", "")


def atlas_2(folder: Path) -> None:
    for part, person in (("Training", "r001s001"), ("Testing", "r005s002")):
        name = f"sub-{person}_ses-1_space-MNI152NLin2009aSym"
        place = folder / "ATLAS_2" / part / person[:4].upper() / f"sub-{person}" / "ses-1" / "anat"
        write_scan(place / f"{name}_T1w.nii.gz")
        if part == "Training":
            write_labels(place / f"{name}_label-L_desc-T1lesion_mask.nii.gz", (1, 1))
    write_scan(folder / "ATLAS_2" / "MNI152NLin2009aSym.nii.gz")


def wmh(folder: Path) -> None:
    for place in ("training/Utrecht/0", "test/Amsterdam/Philips_VU .PETMR_01./161"):
        for name in ("orig/3DT1", "orig/T1", "orig/FLAIR", "pre/3DT1", "pre/T1", "pre/FLAIR"):
            write_scan(folder / place / f"{name}.nii.gz", OTHER_GRID if "3DT1" in name else AFFINE)
        write_labels(folder / place / "wmh.nii.gz", (1, 2, 1), np.float32)
    write_labels(folder / "additional_annotations/observer_o3/training/Utrecht/0/result.nii.gz", (1,))


def mslub(folder: Path) -> None:
    for kind in ("T1W", "T1WKS", "T2W", "FLAIR"):
        write_scan(folder / "patient01" / f"patient01_{kind}.nii.gz")
        write_scan(folder / "patient01" / "raw" / f"patient01_{kind}.nii.gz", OTHER_GRID)
    write_labels(folder / "patient01" / "patient01_consensus_gt.nii.gz", (1, 0, 1))
    write_labels(folder / "patient01" / "patient01_brainmask.nii.gz", (1, 1, 1))


def isles22(folder: Path) -> None:
    root, name = folder / "ISLES-2022", "sub-strokecase0001_ses-0001"
    place = root / "sub-strokecase0001" / "ses-0001"
    for kind in ("dwi", "adc"):
        write_scan(place / "dwi" / f"{name}_{kind}.nii.gz")
    write_scan(place / "anat" / f"{name}_FLAIR.nii.gz", OTHER_GRID)
    write_labels(root / "derivatives" / "sub-strokecase0001" / "ses-0001" / f"{name}_msk.nii.gz", (1,))
    # The first release had all files of a person in one folder.
    place, name = folder / "rawdata" / "sub-strokecase0009" / "ses-0001", "sub-strokecase0009_ses-0001"
    for kind in ("dwi", "adc", "flair"):
        write_scan(place / f"{name}_{kind}.nii.gz")
        _text(place / f"{name}_{kind}.json", '{"MagneticFieldStrength": 3}')
    write_labels(folder / "derivatives" / "sub-strokecase0009" / "ses-0001" / f"{name}_msk.nii.gz", ())


RELEASES = {
    "camcan": camcan,
    "ixi": ixi,
    "oasis-1": oasis1,
    "oasis-3": oasis3,
    "brats17": brats17,
    "brats18": brats18,
    "brats19": brats19,
    "brats20": brats20,
    "brats21": brats21,
    "brats23": brats23,
    "atlas-1.2": atlas_1_2,
    "atlas-1.2-native": atlas_1_2_native,
    "atlas-2.0": atlas_2,
    "wmh": wmh,
    "wmh-pre": wmh,
    "mslub": mslub,
    "isles22": isles22,
}
"""Writers of all releases, by the names of their importers."""
