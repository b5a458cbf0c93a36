"""What each released tree becomes: names of scans, values of masks, people."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pytest
from support.releases import RELEASES, SHAPE, row

from lesioncore.choices import DatasetName, LesionRegion
from lesioncore.data.bids import masks_of, scans_in
from lesioncore.data.grid import SliceGrid
from lesioncore.datasets import DATASETS, import_dataset
from lesioncore.datasets.people import COLUMNS
from lesioncore.evaluation.scans import check_patients
from lesioncore.subjects import find_subjects

SCANS = {
    "camcan": ["sub-CC110033/anat/sub-CC110033_T1w", "sub-CC110037/anat/sub-CC110037_T1w"],
    "ixi": ["sub-IXI002/anat/sub-IXI002_T1w"],
    "oasis-1": [
        "sub-OAS10001/ses-MR1/anat/sub-OAS10001_ses-MR1_T1w",
        "sub-OAS10002/ses-MR1/anat/sub-OAS10002_ses-MR1_T1w",
        "sub-OAS10002/ses-MR2/anat/sub-OAS10002_ses-MR2_T1w",
    ],
    "oasis-3": [
        "sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_run-01_T1w",
        "sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_run-02_T1w",
        "sub-OAS30002/ses-d0371/anat/sub-OAS30002_ses-d0371_T1w",
    ],
    "brats17": [f"sub-Brats17{name}/anat/sub-Brats17{name}_T1w" for name in ("201321", "CBICAAAB1", "TCIA1011")],
    "brats18": ["sub-Brats18201321/anat/sub-Brats18201321_T1w"],
    "brats19": ["sub-BraTS19TCIA011311/anat/sub-BraTS19TCIA011311_T1w"],
    "brats20": [f"sub-BraTS20Training{number}/anat/sub-BraTS20Training{number}_T1w" for number in ("001", "355")],
    "brats21": ["sub-BraTS202100000/anat/sub-BraTS202100000_T1w"],
    "brats23": ["sub-00000/ses-000/anat/sub-00000_ses-000_T1w"],
    "atlas-1.2": [
        "sub-031768/ses-t01/anat/sub-031768_ses-t01_T1w",
        "sub-c0003s0002/ses-t01/anat/sub-c0003s0002_ses-t01_T1w",
        "sub-c0003s0002/ses-t02/anat/sub-c0003s0002_ses-t02_T1w",
    ],
    "atlas-1.2-native": [
        "sub-c0003s0002/ses-t01/anat/sub-c0003s0002_ses-t01_T1w",
        "sub-c0003s0002/ses-t02/anat/sub-c0003s0002_ses-t02_T1w",
    ],
    "atlas-2.0": [f"sub-{name}/ses-1/anat/sub-{name}_ses-1_T1w" for name in ("r001s001", "r005s002")],
    "wmh": ["sub-0/anat/sub-0_T1w", "sub-161/anat/sub-161_T1w"],
    "wmh-pre": ["sub-0/anat/sub-0_T1w", "sub-161/anat/sub-161_T1w"],
    "mslub": ["sub-patient01/anat/sub-patient01_T1w"],
    "isles22": [f"sub-{name}/ses-0001/dwi/sub-{name}_ses-0001_dwi" for name in ("strokecase0001", "strokecase0009")],
}
"""Scans of one contrast, without the ending."""

MASKS = {
    **{name: [1, 1, 1, 0, 0] for name in SCANS if name.startswith("brats")},
    **{name: [1, 0, 1, 0, 0] for name in ("wmh", "wmh-pre", "mslub")},
}
"""First row of every lesion mask."""


def imported(name: str, tmp_path: Path, **options: object) -> Path:
    RELEASES[name](tmp_path / "src")
    import_dataset(DATASETS[name], tmp_path / "src", tmp_path / "out", **options)
    return tmp_path / "out"


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def lesions(out: Path, modality: str) -> dict[str, list[int] | None]:
    """First rows of the lesion masks that lesioncore finds, by the scans' names."""
    scans = scans_in(out, modality).scans
    masks = masks_of(scans, "label-lesion")
    return {s.name.split(".")[0]: None if m is None else row(m) for s, m in zip(scans, masks, strict=True)}


def test_all_data_sets_have_a_name_and_a_test():
    assert list(DATASETS) == list(get_args(DatasetName)) == list(RELEASES) == list(SCANS)
    assert {region for data in DATASETS.values() for region in data.regions} == set(get_args(LesionRegion))


@pytest.mark.parametrize("data", DATASETS.values(), ids=DATASETS)
def test_descriptions_fit_together(data):
    assert any(image.match(f"a/b/{data.example}") for image in data.images)
    columns = {name for kind in (*data.images, *data.masks) for name in re.compile(kind.pattern).groupindex}
    columns |= {name for people in data.tables for name in people.columns}
    assert columns - {"subject", "session", "acq", "run"} <= set(COLUMNS)
    assert {modality for mask in data.masks for modality in mask.on} <= set(data.modalities)


@pytest.mark.parametrize("name", SCANS)
def test_scans_are_found_in_the_result(name, tmp_path):
    out = imported(name, tmp_path)
    scans = scans_in(out, "dwi" if name == "isles22" else "T1w").scans
    assert [path.relative_to(out).as_posix().split(".")[0] for path in scans] == SCANS[name]
    if name in MASKS:
        found = lesions(out, "T1w")
        assert len(found) == len(scans)
        assert all(mask == MASKS[name] for mask in found.values())


@pytest.mark.parametrize("name", SCANS)
def test_results_are_valid_bids(name, tmp_path):
    if shutil.which("bids-validator-deno") is None:
        pytest.skip("bids-validator-deno is not installed")
    out = imported(name, tmp_path)
    command = ["bids-validator-deno", out, "--recursive", "--ignoreWarnings", "--format", "json"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    reports = [report, *(report.get("derivativesSummary") or {}).values()]
    assert [issue for part in reports for issue in part["issues"]["issues"] if issue["severity"] == "error"] == []


@pytest.mark.parametrize("name", [name for name in SCANS if name != "oasis-1"])
def test_scans_are_copied_to_the_byte(name, tmp_path):
    out = imported(name, tmp_path)
    rows = [row for row in table(out / "provenance.tsv") if not row["file"].startswith("derivatives")]
    assert rows
    for entry in rows:
        if not entry["file"].endswith(".json"):
            assert (out / entry["file"]).read_bytes() == (tmp_path / "src" / entry["source"]).read_bytes()


def test_analyze_pairs_become_nifti_with_the_axes_of_the_release(tmp_path):
    out = imported("oasis-1", tmp_path)
    image = nib.load(out / f"{SCANS['oasis-1'][0]}.nii.gz")
    source = next((tmp_path / "src").rglob("OAS1_0001*.img"))
    assert nib.aff2axcodes(image.affine) == ("A", "S", "L")
    assert image.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(image.dataobj), np.asarray(nib.load(source).dataobj)[..., 0])
    # The middle of the volume is the origin, as in the matrices that others use for this data set.
    assert np.allclose(image.affine @ [3, 2.5, 2, 1], [0, 0, 0, 1])


@pytest.mark.parametrize(("region", "expected"), [("core", [1, 0, 1, 0, 0]), ("enhancing", [0, 0, 1, 0, 0])])
@pytest.mark.parametrize("name", ["brats17", "brats23"])
def test_a_part_of_a_tumour_can_be_asked_for(name, region, expected, tmp_path):
    out = imported(name, tmp_path, region=region)
    assert all(mask == expected for mask in lesions(out, "T2w").values())


def test_scans_with_contrast_agent_are_taken_where_asked_for(tmp_path):
    out = imported("brats21", tmp_path, modalities=["T1ce", "T2w"])
    assert lesions(out, "T1ce") == {"sub-BraTS202100000_ce-gadolinium_T1w": [1, 1, 1, 0, 0]}
    assert lesions(out, "T2w") == {"sub-BraTS202100000_T2w": [1, 1, 1, 0, 0]}


def test_the_masks_of_one_stroke_are_one(tmp_path):
    found = lesions(imported("atlas-1.2", tmp_path), "T1w")
    assert list(found.values()) == [[1, 0, 0, 0, 0], [1, 0, 1, 0, 0], [0, 1, 0, 0, 0]]


def test_other_pathology_is_a_mask_of_its_own(tmp_path):
    out = imported("wmh", tmp_path)
    (mask,) = (out / "derivatives").rglob("sub-161_label-excluded_mask.nii.gz")
    assert row(mask) == [0, 1, 0, 0, 0]


def test_brain_masks_are_found(tmp_path):
    out = imported("mslub", tmp_path)
    scans = scans_in(out, "FLAIR").scans
    (mask,) = masks_of(scans, "desc-brain")
    assert row(mask) == [1, 1, 1, 0, 0]


def test_masks_lie_on_the_grid_of_their_scans_alone(tmp_path):
    out = imported("isles22", tmp_path)
    assert lesions(out, "FLAIR") == {f"sub-strokecase000{n}_ses-0001_FLAIR": None for n in (1, 9)}
    assert lesions(out, "dwi") == {
        "sub-strokecase0001_ses-0001_dwi": [1, 0, 0, 0, 0],
        "sub-strokecase0009_ses-0001_dwi": [0, 0, 0, 0, 0],
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("camcan", [("sub-CC110033", "24", "M"), ("sub-CC110037", "18", "F")]),
        ("ixi", [("sub-IXI002", "35.8", "F", "Guys"), ("sub-IXI012", "n/a", "M", "HH")]),
        ("oasis-1", [("sub-OAS10001", "74", "F", "0"), ("sub-OAS10002", "55", "M", "0.5")]),
        ("oasis-3", [("sub-OAS30001", "65.1", "F"), ("sub-OAS30002", "67.2", "M")]),
        (
            "brats17",
            [
                ("sub-Brats17201321", "n/a", "HGG"),
                ("sub-Brats17CBICAAAB1", "60.4", "HGG"),
                ("sub-Brats17TCIA1011", "n/a", "LGG"),
            ],
        ),
        ("brats20", [("sub-BraTS20Training001", "60.463", "HGG"), ("sub-BraTS20Training355", "n/a", "n/a")]),
        ("atlas-2.0", [("sub-r001s001", "R001", "Training"), ("sub-r005s002", "R005", "Testing")]),
        ("wmh", [("sub-0", "Utrecht", "training"), ("sub-161", "Amsterdam/Philips_VU .PETMR_01.", "test")]),
    ],
)
def test_people_are_described(name, expected, tmp_path):
    rows = table(imported(name, tmp_path) / "participants.tsv")
    shown = [column for column in rows[0] if column != "source_id"]
    assert [tuple(entry[column] for column in shown) for entry in rows] == expected


@pytest.mark.parametrize(("name", "modality"), [("brats17", "T2w"), ("atlas-1.2", "T1w"), ("isles22", "dwi")])
def test_evaluation_takes_the_result_as_patients(name, modality, tmp_path):
    patients = find_subjects([imported(name, tmp_path)], modality=modality)
    check_patients(patients)
    for patient in patients:
        assert patient.load(SliceGrid(2.0, (8, 8))).lesion.shape == SHAPE


def test_what_is_known_of_a_scan_is_beside_it(tmp_path):
    out = imported("brats21", tmp_path / "tumours")
    assert all(json.loads(path.read_text()) == {"SkullStripped": True} for path in out.glob("sub-*/anat/*.json"))
    out = imported("camcan", tmp_path / "healthy")
    assert json.loads((out / f"{SCANS['camcan'][0]}.json").read_text()) == {"EchoTime": 0.00299}
    assert len(list(out.glob("sub-*/anat/*.json"))) == 2
