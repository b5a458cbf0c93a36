"""Data sets of people with lesions. Where each layout is from: docs/how-to/import-datasets.md."""

from __future__ import annotations

from typing import Any

from lesioncore.datasets.description import Dataset, Image, Mask, PaperSplit, Table

_STRIPPED = {"SkullStripped": True}
_TUMOUR = "Voxels of the tumour"
_BRATS_TERMS = "terms of the BraTS challenge"
_GADOLINIUM = "ce-gadolinium_T1w"

# 1 is necrosis and what does not enhance, 2 oedema, 4 what enhances. BraTS 2023 says 3 in place of 4.
_OLD_LABELS = {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)}
_NEW_LABELS = {"whole": (1, 2, 3), "core": (1, 3), "enhancing": (3,)}


def _brats(year: int, subject: str, home: str, *, mask: str = "", **more: Any) -> Dataset:
    """A BraTS challenge from 2017 to 2021; `subject` is the pattern of its subjects."""
    files = rf"(?:(?P<grade>HGG|LGG)/)?(?:[^/]+/)?(?P<subject>{subject})"
    return Dataset(
        f"brats{year - 2000}",
        f"BraTS {year} (Multimodal Brain Tumor Segmentation Challenge)",
        home,
        images=(
            *(
                Image(modality, f"{files}_{kind}")
                for modality, kind in (("T1w", "t1"), ("T2w", "t2"), ("FLAIR", "flair"))
            ),
            Image("T1ce", f"{files}_t1ce", name=_GADOLINIUM, default=False),
        ),
        masks=(Mask(mask or f"{files}_seg", about=_TUMOUR, labels=_OLD_LABELS, known=(1, 2, 4)),),
        terms=_BRATS_TERMS,
        facts=_STRIPPED,
        **more,
    )


def _ages(subject: str) -> Table:
    return Table(r"survival_\w+\.csv", subject, {"age": "Age"})


def _atlas_1(name: str, title: str, ending: str, folder: str) -> Dataset:
    """ATLAS 1.2 in one of its two spaces; files end in `ending`."""
    subject = r"(?:(?P<site>c\d{4})/(?:[^/]+/)?)?(?P<subject>c\d{4}s\d{4})(?P<session>t\d\d)_"
    older = r"(?P<site>Site\d+)/(?P<subject>\d+)/(?P<session>t\d\d)/(?P=subject)_"
    scans, masks = [f"{subject}t1w{ending}"], [rf"{subject}LesionSmooth(?:_\d+)?{ending}"]
    if ending:  # release 1.1 was in standard space alone
        scans.append(f"{older}t1w_deface{ending}")
        masks.append(rf"{older}LesionSmooth(?:_\d+)?{ending}")
    return Dataset(
        name,
        f"ATLAS 1.2, {title} (Anatomical Tracings of Lesions After Stroke)",
        "http://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
        images=tuple(Image("T1w", scan) for scan in scans),
        masks=tuple(Mask(mask, parts=True) for mask in masks),
        example=f"{folder}/c0003/c0003s0002t01/c0003s0002t01_t1w{ending}.nii.gz",
        terms="terms of use of ATLAS (INDI, ICPSR)",
        split=PaperSplit(test=220),
    )


def _wmh(name: str, title: str, folder: str) -> Dataset:
    person = (
        r"(?:(?P<part>training|test)/)?(?P<site>Utrecht|Singapore|(?:Amsterdam/)?(?:GE3T|GE1T5|Philips_VU[^/]*))/"
        r"(?P<subject>\d+)"
    )
    return Dataset(
        name,
        title,
        "https://doi.org/10.34894/AECRSD",
        # T1 is the 3-D scan on the grid of the FLAIR, which is the masks'.
        images=(Image("FLAIR", f"{person}/{folder}/FLAIR"), Image("T1w", f"{person}/{folder}/T1")),
        masks=(
            Mask(f"{person}/wmh", about="White matter hyperintensities", labels={"whole": (1,)}, known=(1, 2)),
            Mask(
                f"{person}/wmh",
                kind="label-excluded",
                about="Other pathology: neither lesion nor healthy, not to be counted",
                labels={"whole": (2,)},
                known=(1, 2),
            ),
        ),
        example=f"training/Amsterdam/GE3T/100/{folder}/FLAIR.nii.gz",
        licence="CC BY-NC 4.0",
    )


_BRATS23 = r"BraTS-GLI-(?P<subject>\d{5})-(?P<session>\d{3})"
_ATLAS2 = (
    r"(?:(?P<part>Training|Testing)/(?P<site>R\d+)/(?:[^/]+/){3})?sub-(?P<subject>r\d+s\d+)_ses-(?P<session>\d+)"
    r"_space-MNI152NLin2009aSym"
)
_ISLES = r"sub-(?P<subject>strokecase\d+)_ses-(?P<session>\d+)"
_MSLUB = r"(?P<subject>patient\d+)/(?P=subject)"

PATIENTS = (
    _brats(
        2017,
        r"Brats17_\w+?_\d+",
        "https://www.med.upenn.edu/sbia/brats2017.html",
        tables=(_ages("Brats17ID"),),
        split=PaperSplit(test=285),
        example="HGG/Brats17_2013_2_1/Brats17_2013_2_1_t2.nii.gz",
    ),
    _brats(
        2018,
        r"Brats18_\w+?_\d+",
        "https://www.med.upenn.edu/sbia/brats2018.html",
        tables=(_ages("BraTS18ID"),),
        example="HGG/Brats18_2013_2_1/Brats18_2013_2_1_t2.nii.gz",
    ),
    _brats(
        2019,
        r"BraTS19_\w+?_\d+",
        "https://www.med.upenn.edu/cbica/brats2019/",
        tables=(_ages("BraTS19ID"),),
        example="HGG/BraTS19_2013_2_1/BraTS19_2013_2_1_t2.nii.gz",
    ),
    _brats(
        2020,
        r"BraTS20_\w+?_\d+",
        "https://www.med.upenn.edu/cbica/brats2020/",
        tables=(_ages("Brats20ID"), Table(r"name_mapping.*\.csv", "BraTS_2020_subject_ID", {"grade": "Grade"})),
        # The mask of one patient, 355, was released under another name.
        mask=r"(?P<subject>BraTS20_\w+?_\d+)/(?:(?P=subject)_seg|W39_1998\.09\.19_Segm)",
        example="BraTS20_Training_001/BraTS20_Training_001_t2.nii.gz",
    ),
    _brats(
        2021,
        r"BraTS2021_\d+",
        "http://braintumorsegmentation.org/",
        example="BraTS2021_00000/BraTS2021_00000_t2.nii.gz",
    ),
    Dataset(
        "brats23",
        "BraTS 2023, adult glioma (Multimodal Brain Tumor Segmentation Challenge)",
        "https://www.synapse.org/Synapse:syn51156910",
        images=(
            Image("T1w", f"{_BRATS23}-t1n"),
            Image("T2w", f"{_BRATS23}-t2w"),
            Image("FLAIR", f"{_BRATS23}-t2f"),
            Image("T1ce", f"{_BRATS23}-t1c", name=_GADOLINIUM, default=False),
        ),
        masks=(Mask(f"{_BRATS23}-seg", about=_TUMOUR, labels=_NEW_LABELS, known=(1, 2, 3)),),
        example="BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2w.nii.gz",
        terms=_BRATS_TERMS,
        facts=_STRIPPED,
    ),
    _atlas_1("atlas-1.2", "standard space", "_stx", "standard_MNI/standard_part1"),
    _atlas_1("atlas-1.2-native", "native space", "", "native/native_1"),
    Dataset(
        "atlas-2.0",
        "ATLAS 2.0 (Anatomical Tracings of Lesions After Stroke)",
        "http://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
        images=(Image("T1w", f"{_ATLAS2}_T1w"),),
        masks=(Mask(f"{_ATLAS2}_label-L_desc-T1lesion_mask"),),
        example="Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
        terms="terms of use of ATLAS (INDI)",
    ),
    _wmh("wmh", "WMH Segmentation Challenge 2017, scans as they were taken", "orig"),
    _wmh("wmh-pre", "WMH Segmentation Challenge 2017, scans with their bias field taken off", "pre"),
    Dataset(
        "mslub",
        "MSLUB (3D MR image database of multiple sclerosis patients, Ljubljana)",
        "http://lit.fe.uni-lj.si/tools",
        images=(
            *(Image(f"{kind}w", f"{_MSLUB}_{kind}W") for kind in ("T1", "T2")),
            Image("FLAIR", f"{_MSLUB}_FLAIR"),
            Image("T1ce", f"{_MSLUB}_T1WKS", name=_GADOLINIUM, default=False),
        ),
        masks=(
            Mask(f"{_MSLUB}_consensus_gt", about="White matter lesions, consensus of the raters"),
            Mask(f"{_MSLUB}_brainmask", kind="desc-brain", about="Voxels of the brain"),
        ),
        example="patient01/patient01_FLAIR.nii.gz",
        licence="CC BY",
    ),
    Dataset(
        "isles22",
        "ISLES 2022 (Ischemic Stroke Lesion Segmentation Challenge)",
        "https://doi.org/10.5281/zenodo.7960856",
        images=(
            # One volume at b = 1000 s/mm2; its directions are not told.
            Image("dwi", f"{_ISLES}_dwi", folder="dwi", beside=((".bval", "1000\n"), (".bvec", "0\n0\n0\n"))),
            Image("ADC", f"{_ISLES}_adc", folder="dwi", default=False),
            Image("FLAIR", f"{_ISLES}_flair"),
        ),
        # The FLAIR has a grid of its own.
        masks=(Mask(f"{_ISLES}_msk", on=("dwi", "ADC")),),
        example="sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz",
        terms="Creative Commons, CC BY 4.0 or CC BY-SA 4.0: see its page",
    ),
)
