"""Files that claim more than they hold, or hold more than they claim: they are refused before memory is taken."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lesioncore.data.nifti import load_image

MIB = 2**20


def header(shape: tuple[int, ...], dtype: type = np.int16, offset: float = 352) -> nib.Nifti1Header:
    made = nib.Nifti1Header()
    made.set_data_shape(shape)
    made.set_data_dtype(dtype)
    made["vox_offset"], made["magic"] = offset, b"n+1"
    made.set_sform(np.eye(4), code="scanner")
    return made


def extended(size: int, offset: float, rest: int) -> bytes:
    """A scan of one voxel whose header has an extension that claims a size."""
    start = header((1, 1, 1), offset=offset).binaryblock + b"\1\0\0\0"
    return start + struct.pack("<ii", size, 6) + bytes(rest)


def packed(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "a.nii.gz"
        path.write_bytes(gzip.compress(content, 1))
        return path

    return write


def mgz(folder: Path) -> Path:
    path = folder / "a.mgz"
    path.write_bytes(gzip.compress(struct.pack(">6i", 1, 2**30, 2**30, 2**30, 1, 0) + bytes(64 * MIB), 1))
    return path


def pair(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(np.zeros((2, 2, 2), np.int16), np.eye(4)), folder / "a.img")
    with (folder / "a.hdr").open("ab") as file:
        file.write(b"\1\0\0\0" + struct.pack("<ii", 2**30, 6))
        file.truncate(80 * MIB)
    return folder / "a.img"


def matrix(folder: Path) -> Path:
    nib.save(nib.Spm99AnalyzeImage(np.zeros((2, 2, 2), np.int16), np.eye(4)), folder / "b.a.img")
    (folder / "b.a.mat").write_bytes(bytes(30 * MIB))
    return folder / "b.a.img"


CASES = {
    "voxels that are not there": (
        packed(header((512, 512, 256)).binaryblock + bytes(100)),
        "header promises 134218080",
    ),
    "more than any scan has": (packed(header((32767,) * 3, np.float64).binaryblock + bytes(100)), "at most 1073741824"),
    "an extension without a size": (packed(extended(0, 352 + 32, 40 * MIB)), "extension of 0 bytes"),
    "a negative extension": (packed(extended(-16, 352 + 32, 40 * MIB)), "extension of -16 bytes"),
    "an extension beyond the voxels": (packed(extended(2**31 - 16, 352 + 32, 40 * MIB)), "ends before the voxels"),
    "voxels far behind the header": (packed(extended(2**31 - 16, 2**31, 40 * MIB)), "vox_offset"),
    "an mgz of 2^90 voxels": (mgz, "at most 1073741824"),
    "a pair with a long header": (pair, r"a\.hdr: "),
    "a long matrix beside a pair": (matrix, r"b\.a\.mat: got"),
}


@pytest.mark.parametrize("name", CASES)
def test_claims_are_refused_before_memory_is_taken(name, tmp_path):
    make, says = CASES[name]
    path = make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=says):
            load_image(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


def test_a_file_that_unpacks_to_more_than_its_header_says_is_not_unpacked_to_its_end(tmp_path):
    path = packed(header((2, 2, 2)).binaryblock + bytes(4 + 16 + 80 * MIB))(tmp_path)
    with pytest.raises(ValueError, match="has more than 67109232 bytes when it is unpacked"):
        load_image(path)


@pytest.mark.parametrize("content", [b"short", b"of some length", bytes(1 * MIB)])
def test_extensions_and_bytes_behind_the_voxels_do_not_matter(content, tmp_path):
    image = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", content))
    nib.save(image, tmp_path / "a.nii")
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes() + bytes(100)))
    for file in (tmp_path / "a.nii", path):
        assert load_image(file).get_fdata().ravel().tolist() == list(range(8))
