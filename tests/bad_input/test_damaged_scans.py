"""Scans with damaged headers: each is one error that names the file, and none takes memory for what is not there."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from support.bad_input import BadInput, rows

from lesioncore.data.nifti import load_image

VALUES = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
NIFTI = nib.Nifti1Image(VALUES, np.diag([2.0, 2, 2, 1])).to_bytes()
NIFTI2 = nib.Nifti2Image(VALUES, np.diag([2.0, 2, 2, 1])).to_bytes()
MGH = nib.MGHImage(VALUES, np.diag([2.0, 2, 2, 1])).to_bytes()


def put(content: bytes, *fields: tuple[int, str, Any]) -> bytes:
    """Write values over a header's fields, which are told by offset and format."""
    changed = bytearray(content)
    for offset, form, value in fields:
        struct.pack_into(form, changed, offset, value)
    return bytes(changed)


def file(name: str, ending: str, content: bytes, *says: str) -> BadInput:
    """A row: a file that is no scan, or not a whole one."""

    def use(folder):
        path = folder / f"scan{ending}"
        path.write_bytes(content)
        load_image(path)

    return BadInput(name, use, ValueError, (rf"scan{ending}: ", *says))


NO_IMAGE, DAMAGED = "got no image that can be read", "is damaged or cut short"
VAST = "expected at most [0-9]+ voxels"


@rows(
    "Damaged images",
    file("MGH without voxels", ".mgh", put(MGH, (4, ">i", 0)), NO_IMAGE, "non-zero"),
    file("MGH of an unknown type", ".mgh", put(MGH, (20, ">i", 94)), NO_IMAGE, "KeyError"),
    file("MGH with half a header", ".mgh", MGH[:60], NO_IMAGE),
    file("MGH in pieces, packed", ".mgz", gzip.compress(MGH[:60]), NO_IMAGE),
    file("NIfTI whose voxels begin nowhere", ".nii", put(NIFTI, (108, "<f", float("nan"))), "vox_offset"),
    file("NIfTI whose voxels begin before it", ".nii", put(NIFTI, (108, "<f", -1e9)), "scan"),
    file("NIfTI with a turn that is none", ".nii", put(NIFTI, (252, "<h", 1), (254, "<h", 0), (256, "<f", 3.0)), "w2"),
    file("NIfTI with an endless extension", ".nii", put(NIFTI, (348, "B", 1), (108, "<f", 1e9)), "scan"),
    file("NIfTI called CIFTI", ".dscalar.nii", put(NIFTI2, (504, "<i", 3006)), "CIFTI"),
    file("text called GIFTI", ".gii", b"<GIFTI", NO_IMAGE),
    file("text called PAR", ".par", b"# no fields\n.\n", NO_IMAGE),
    file("bytes called AFNI", ".head", b"\x80\xff" * 30, NO_IMAGE),
    file("bytes called MINC", ".mnc", b"CDF\x01" + b"\xff" * 60, "scan"),
)
def test_what_no_reader_understands_is_named(bad_input, tmp_path):
    bad_input.check(tmp_path)


@rows(
    "Damaged images",
    file("NIfTI-2 of an endless line", ".nii", put(NIFTI2, (24, "<q", 2**46)), VAST),
    file("NIfTI-2 of an endless line, packed", ".nii.gz", gzip.compress(put(NIFTI2, (24, "<q", 2**46))), VAST),
    file("NIfTI of a billion voxels", ".nii", put(NIFTI, *((42 + 2 * i, "<h", 1000) for i in range(3))), DAMAGED),
    file("MGH of a trillion voxels", ".mgh", put(MGH, *((4 + 4 * i, ">i", 10_000) for i in range(3))), VAST),
    file("MGH of a billion voxels", ".mgh", put(MGH, *((4 + 4 * i, ">i", 1000) for i in range(3))), DAMAGED),
)
def test_no_memory_is_taken_for_voxels_that_are_not_there(bad_input, tmp_path, monkeypatch):
    monkeypatch.setattr("lesioncore.data.nifti.voxels_of", lambda image: pytest.fail("voxels were read"))
    bad_input.check(tmp_path)
