"""What results may hold of a person: a list of header and sidecar fields, and names that tell nothing.

Voxels are not looked at: an image with its skull shows a face.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import nibabel as nib
import numpy as np

from lesioncore.data.names import stem_of
from lesioncore.data.nifti import open_image, write_bytes

HEADER_FIELDS = (
    *("sizeof_hdr", "regular", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter"),
    *("xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z", "magic", "eol_check"),
)
"""Fields of a NIfTI header that are written: the grid, its place, and the numbers' type and scale. All others are as in
an empty header, and there is no extension."""

SIDECAR_FIELDS = frozenset(
    (
        *("Modality", "MagneticFieldStrength", "ImagingFrequency", "Manufacturer", "ManufacturersModelName"),
        *("ReceiveCoilName", "MRTransmitCoilSequence", "PulseSequenceType", "ScanningSequence", "SequenceVariant"),
        *("ScanOptions", "SequenceName", "MRAcquisitionType", "NonlinearGradientCorrection", "SpoilingState"),
        *("EchoTime", "EchoTrainLength", "EchoNumbers", "RepetitionTime", "RepetitionTimeExcitation", "InversionTime"),
        *("RepetitionTimePreparation", "DwellTime", "FlipAngle", "NumberOfAverages", "NumberShots", "PixelBandwidth"),
        *("SliceThickness", "SpacingBetweenSlices", "PercentPhaseFOV", "PercentSampling", "PartialFourier"),
        *("ParallelReductionFactorInPlane", "ParallelAcquisitionTechnique", "BaseResolution", "ReconMatrixPE"),
        *("PhaseEncodingDirection", "InPlanePhaseEncodingDirectionDICOM", "PhaseEncodingSteps", "SliceTiming"),
        *("BodyPartExamined", "ContrastBolusIngredient", "SkullStripped", "SAR"),
    )
)
"""Fields of a scan's JSON file that are taken over: how it was measured, and nothing of whom, when and where."""

_ENTITY = r"[a-z]+-[0-9a-zA-Z]+"
_SCAN = re.compile(rf"sub-[0-9a-zA-Z]+(_{_ENTITY})*_[0-9a-zA-Z]+")
_FOLDER = re.compile(r"(sub|ses)-[0-9a-zA-Z]+|anat|dwi|func|fmap|perf|pet")
_DATE = re.compile(r"(?<!\d)(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?!\d)")


def check_name(scan: Path, place: PurePath) -> None:
    """Check that the name of a scan, which its results have, does not tell who it is of.

    Parameters
    ----------
    scan : Path
        The scan, or its mask.
    place : PurePath
        Folder of its results in that of the command.

    Raises
    ------
    ValueError
        If its name or a folder's is none of BIDS, which have labels and no names, or a label is a date.
    """
    wrong = [name for name in place.parts if not _FOLDER.fullmatch(name) or _DATE.search(name)]
    if not _SCAN.fullmatch(stem_of(scan)) or _DATE.search(scan.name):
        wrong.append(scan.name)
    if wrong:
        raise ValueError(
            f"{scan}: results would have the name {wrong[0]}, expected one of BIDS without a date, such as"
            " sub-01_ses-1_T2w.nii.gz; rename it, or leave --deidentify out"
        )


def check_images(paths: Iterable[Path]) -> None:
    """Check that NIfTI files hold nothing but voxels and the fields of a list (`HEADER_FIELDS`).

    Raises
    ------
    ValueError
        If one holds more; the message says what.
    """
    for path in paths:
        if found := beyond_the_list(path):
            raise ValueError(f"{path}: holds {', '.join(found)}, expected a header of the listed fields alone")


def beyond_the_list(path: Path) -> list[str]:
    """What a NIfTI file, ``.nii`` or ``.nii.gz``, holds beside its voxels and the fields of `HEADER_FIELDS`."""
    header = _stored_header(path)
    empty = type(header)(endianness=header.endianness)
    found = [
        name
        for name in empty.keys()  # noqa: SIM118 - not a mapping
        if name not in HEADER_FIELDS and not np.array_equal(header[name], empty[name])
    ]
    found += [f"an extension ({extension.get_code()})" for extension in header.extensions]
    if path.suffix == ".gz":
        with path.open("rb") as raw:
            flags, time = raw.read(4)[3], raw.read(4)
        found += ["a name or comment of its gzip file"] if flags else []
        found += ["the time of its gzip file"] if time != bytes(4) else []
    start, length = _place_of_voxels(header)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        file.seek(header.sizeof_hdr)
        before = file.read(max(0, start - header.sizeof_hdr))
        file.seek(start + length)
        behind = file.read(1)
    found += ["bytes between header and voxels"] if any(before) and not header.extensions else []
    return [*found, *(["bytes behind the voxels"] if behind else [])]


def copy_image(source: Path, target: Path) -> None:
    """Copy a NIfTI file with the fields of `HEADER_FIELDS` alone; the voxels' bytes stay.

    Parameters
    ----------
    source : Path
        ``.nii`` or ``.nii.gz``.
    target : Path
        File to write, of either ending.

    Raises
    ------
    ValueError
        If `source` is no NIfTI file, or is damaged.
    """
    header = _stored_header(source)
    clean = type(header)(endianness=header.endianness)
    for name in HEADER_FIELDS:
        if name in clean.keys():  # noqa: SIM118 - not a mapping
            clean[name] = header[name]
    start, length = _place_of_voxels(header)
    clean["vox_offset"] = header.sizeof_hdr + 4
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
        file.seek(start)
        voxels = file.read(length)
    write_bytes(clean.binaryblock + bytes(4) + voxels, target)


def listed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a scan's JSON file that are taken over (`SIDECAR_FIELDS`): numbers, short texts, lists of them."""
    return {name: value for name, value in facts.items() if name in SIDECAR_FIELDS and not isinstance(value, dict)}


def _stored_header(path: Path) -> Any:
    """The header of a NIfTI file as it is stored; nibabel's images have it without offset and scale."""
    kind = type(open_image(path).header)
    if not issubclass(kind, nib.Nifti1Header) or not kind.is_single:
        raise ValueError(f"{path}: got a {kind.__name__}, expected NIfTI in one file")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return kind.from_fileobj(file, check=False)


def _place_of_voxels(header: Any) -> tuple[int, int]:
    """First byte of the voxels, and their number of bytes."""
    shape = header.get_data_shape()
    return int(header["vox_offset"]), int(np.prod(shape, dtype=object)) * header.get_data_dtype().itemsize
