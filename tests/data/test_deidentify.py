"""Headers, JSON files and names: what of a person gets into results, and what does not."""

from __future__ import annotations

import gzip
from pathlib import Path, PurePath

import nibabel as nib
import numpy as np
import pytest

from lesioncore.data.deidentify import beyond_the_list, check_images, check_name, copy_image, listed
from lesioncore.data.nifti import load_image, save_image

SECRET = b"Smith^John 1970"
TEXTS = {"descrip": SECRET, "aux_file": SECRET, "intent_name": SECRET, "db_name": SECRET, "data_type": b"Smith^John"}


def told(kind: type = nib.Nifti1Image, order: str = "<") -> nib.Nifti1Image:
    """An image that says in every way of a header who it is of."""
    header = kind.header_class(endianness=order)
    image = kind(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([2.0, 1, 1, 1]), header)
    for name, text in TEXTS.items():
        if name in image.header.keys():  # noqa: SIM118 - not a mapping
            image.header[name] = text
    image.header["cal_max"], image.header["toffset"] = 1970, 1970
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRET))
    return image


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_copy_has_the_voxels_and_no_text(kind, order, name, tmp_path):
    source, target = tmp_path / name, tmp_path / "copy.nii.gz"
    image = told(kind, order)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, source)
    assert SECRET in content(source)
    copy_image(source, target)
    before, after = nib.load(source), nib.load(target)
    assert np.array_equal(before.get_fdata(), after.get_fdata())
    assert before.get_data_dtype() == after.get_data_dtype()
    assert np.array_equal(before.affine, after.affine)
    assert b"Smith" not in content(target)
    assert beyond_the_list(target) == []
    assert {"descrip", "cal_max", "an extension (6)"} <= set(beyond_the_list(source))


def test_results_copy_no_text_of_their_scans_header(tmp_path):
    nib.save(told(), tmp_path / "sub-01_T2w.nii.gz")
    scan = load_image(tmp_path / "sub-01_T2w.nii.gz")
    save_image(scan.get_fdata(), scan.affine, tmp_path / "out.nii.gz", header=scan.header)
    assert b"Smith" not in content(tmp_path / "out.nii.gz")
    check_images([tmp_path / "out.nii.gz"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:200] + b"x" + data[201:], "descrip"),
        (lambda data: data + SECRET, "bytes behind the voxels"),
        (lambda data: data[:108] + np.float32(368).tobytes() + data[112:352] + SECRET + b"." + data[352:], "between"),
    ],
)
def test_what_is_beyond_the_list_is_found(change, says, tmp_path):
    save_image(np.zeros((2, 2, 2)), np.eye(4), tmp_path / "a.nii")
    check_images([tmp_path / "a.nii"])
    (tmp_path / "a.nii").write_bytes(change((tmp_path / "a.nii").read_bytes()))
    with pytest.raises(ValueError, match=f"{says}.*expected a header of the listed fields alone"):
        check_images([tmp_path / "a.nii"])


def test_gzip_keeps_neither_names_nor_times(tmp_path):
    with gzip.GzipFile(tmp_path / "Smith.nii.gz", "wb") as file:
        file.write(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_bytes())
    found = beyond_the_list((tmp_path / "Smith.nii.gz").rename(tmp_path / "a.nii.gz"))
    assert found == ["a name or comment of its gzip file", "the time of its gzip file"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("sub-01_T1w.nii.gz", ""),
        ("sub-01_ses-2_acq-x_run-1_FLAIR.nii", "sub-01/ses-2/anat"),
        ("sub-01_desc-brain_mask.mgz", ""),
    ],
)
def test_names_of_bids_tell_nobody(name, place):
    check_name(Path(name), PurePath(place))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("Smith_John_T1w.nii.gz", ""),
        ("sub-01 Smith_T1w.nii.gz", ""),
        ("sub-01_T1w.nii.gz", "Smith/anat"),
        ("sub-01_ses-20200131_T1w.nii.gz", ""),
        ("sub-01_T1w.nii.gz", "sub-01/ses-20200131"),
    ],
)
def test_other_names_and_dates_are_refused(name, place):
    with pytest.raises(ValueError, match=r"expected one of BIDS without a date.*leave --deidentify out"):
        check_name(Path(name), PurePath(place))


def test_of_a_json_file_how_the_scan_was_measured_is_taken():
    facts = {
        "EchoTime": 0.1,
        "Manufacturer": "Siemens",
        "PatientName": "Smith^John",
        "AcquisitionDateTime": "2020-01-31T08:00:00",
        "InstitutionName": "x",
        "SeriesDescription": "Smith",
        "SliceTiming": [0, 1],
        "ScanOptions": {"PatientName": "Smith"},
    }
    assert listed(facts) == {"EchoTime": 0.1, "Manufacturer": "Siemens", "SliceTiming": [0, 1]}
