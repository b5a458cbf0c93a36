"""Images: NIfTI 1 and 2, pairs, Analyze, FreeSurfer's, and the other formats that nibabel knows."""

from __future__ import annotations

import gzip
import warnings
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np

from fuzz.target import Target
from lesioncore.data.nifti import check_whole, load_image, voxels_of

_FORMS = (
    *(".nii", ".nii.gz", ".hdr", ".hdr.gz", ".mgh", ".mgz"),
    *(".mnc", ".par", ".head", ".gii", ".dscalar.nii", ".trk", ".v", ".unknown"),
)
"""Endings. Of ``.hdr`` the bytes after the header are the ``.img``; what ends in a ``z`` is compressed here, unless the
first byte says that the input's own bytes are to be."""
_HEADER = 352


def _files(data: bytes, folder: Path) -> Path:
    """Write an input; its first byte says as what."""
    form, content = _FORMS[data[0] % 64 % len(_FORMS)], data[1:]
    packed = data[0] >= 128 and form.endswith("z")

    def write(name: str, part: bytes) -> Path:
        path = folder / name
        path.write_bytes(gzip.compress(part, 1) if form.endswith("z") and not packed else part)
        return path

    if form.startswith(".hdr"):
        write(form.replace(".hdr", "scan.img"), content[_HEADER:])
        return write(f"scan{form}", content[:_HEADER])
    if form in (".par", ".head"):
        write("scan.rec" if form == ".par" else "scan.brik", content[_HEADER:])
    return write(f"scan{form}", content)


def _use(data: bytes, folder: Path) -> None:
    path = _files(data or b"\0", folder)
    image = load_image(path)
    values = voxels_of(image)
    assert (values.ndim, values.dtype) == (3, np.float32)
    assert values.size > 0
    assert not np.isinf(values).any()
    assert np.isfinite(np.linalg.inv(image.affine)).all()
    if path.name.endswith((".nii", ".nii.gz", ".hdr")):
        check_whole(path)


def _seeds(folder: Path) -> list[bytes]:
    found = []
    affine = np.array([[2.0, 0, 0, -3], [0, 2, 0, -4], [0, 0, 3, -5], [0, 0, 0, 1]])
    for kind, dtype in product((nib.Nifti1Image, nib.Nifti2Image), (np.uint8, np.int16, np.float32, np.float64)):
        values = np.arange(24).reshape(4, 3, 2).astype(dtype)
        image = kind(values, affine)
        image.header.set_xyzt_units("mm")
        found += [b"\0" + image.to_bytes(), b"\1" + image.to_bytes()]
        image.set_qform(affine, code=1)
        image.header.set_slope_inter(2, 1)
        found.append(b"\0" + image.to_bytes())
    values = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    found.append(b"\0" + nib.Nifti1Image(values[:, :, :1], affine).to_bytes())
    found.append(b"\0" + nib.Nifti1Image(values[..., None, None], affine).to_bytes())
    for kind in (nib.Nifti1Pair, nib.Spm99AnalyzeImage, nib.AnalyzeImage):
        pair = kind(values, affine)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nib.save(pair, folder / "seed.img")
        header = (folder / "seed.hdr").read_bytes().ljust(_HEADER, b"\0")
        found += [bytes([form]) + header + (folder / "seed.img").read_bytes() for form in (2, 3)]
    for dtype in (np.uint8, np.int16, np.int32, np.float32):
        image = nib.MGHImage(values.astype(dtype), affine)
        found += [bytes([form]) + image.to_bytes() for form in (4, 5)]
    packed = gzip.compress(nib.Nifti1Image(values, affine).to_bytes(), 1)
    return [*found, b"\xc1" + packed, b"\xc5" + packed[:-8]]


SCANS = Target("scans", _use, _seeds, largest=4096)
