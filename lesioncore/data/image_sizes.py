"""Checks of the sizes that an image file claims, before memory is taken for it: a file may claim anything."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import nibabel as nib
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import SpatialImage

from lesioncore.data.names import is_header, partner_of, stem_of

LARGEST_VOXELS = 2**30
"""Voxels that a volume may have: 4 GiB in float32, and twice as many as a head has at 0.25 mm."""

LARGEST_REST = 64 * 2**20
"""Bytes that a file may have beside its voxels, such as extensions of its header."""

_LARGEST_MATRIX = 64 * 2**10  # of the .mat file beside an Analyze pair, which has some hundred bytes
_COMPRESSED = (".gz", ".mgz")
_BLOCK = 1 << 20


def check_header_sizes(path: Path) -> None:
    """Check what a header claims before nibabel reads it, which takes memory for whatever an extension claims.

    Parameters
    ----------
    path : Path
        An image, or either file of a pair.

    Raises
    ------
    ValueError
        If there is more beside the voxels than a file may have, or an extension of the header cannot be.
    OSError, EOFError, zlib.error
        If it cannot be read, or not be unpacked.
    """
    partner = partner_of(path.name)
    beside = () if partner is None else (path.with_name(stem_of(path) + ending) for ending in (".mat", ".mat.gz"))
    for matrix in beside:
        if matrix.is_file() and matrix.stat().st_size > _LARGEST_MATRIX:
            raise ValueError(
                f"{matrix}: got {matrix.stat().st_size} bytes, expected the matrix of an Analyze pair, of at most"
                f" {_LARGEST_MATRIX}; take it away if it belongs to something else"
            )
    for part in (path, *([path.with_name(partner)] if partner is not None else [])):
        if is_header(part.name) and part.is_file() and _length(part, LARGEST_REST) > LARGEST_REST:
            raise ValueError(f"{part}: got {part.stat().st_size} bytes, expected a header, of at most {LARGEST_REST}")
    with _opened(path) as file:
        try:
            start = file.read(nib.Nifti2Header.sizeof_hdr)
        except gzip.BadGzipFile:  # nibabel will say that it is no image
            return
        for header in (nib.Nifti1Header, nib.Nifti2Header):
            if header.is_single and header.may_contain_header(start) and len(start) >= header.sizeof_hdr:
                _check_extensions(path, file, start, header)
                return
    if path.name.lower().endswith((".mgz", ".mgh")) and len(start) >= 20:
        _check_voxels(path, struct.unpack(">4i", start[4:20]))


def check_length(image: SpatialImage, path: Path) -> None:
    """Check that a file has all voxels that its header promises, no more than can be read, and a right checksum.

    Parameters
    ----------
    image : SpatialImage
        Of which the header was read.
    path : Path
        Its file.

    Raises
    ------
    ValueError
        If there are more voxels, or is more beside them, than a file may have, or it is cut short or damaged.
    PermissionError
        If it may not be read.
    """
    _check_voxels(path, image.shape)
    voxels: Any = image.dataobj
    if type(voxels) is not ArrayProxy:  # of a format that keeps its voxels in another way
        return
    file = Path(voxels.file_like)
    expected = voxels.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    try:
        there = _length(file, expected + LARGEST_REST)
        if there < expected:
            raise EOFError(f"it has {there} bytes, and its header promises {expected}")
    except PermissionError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(str(file), error) from error


def damaged(name: str, error: Exception) -> ValueError:
    """The error for a file that ends early, or cannot be unpacked."""
    return ValueError(f"{name}: is damaged or cut short: {error}; copy or convert it again")


def _check_voxels(path: Path, shape: tuple[int, ...]) -> None:
    if math.prod(map(int, shape[:3])) > LARGEST_VOXELS:
        raise ValueError(
            f"{path}: got shape {tuple(map(int, shape))}, expected at most {LARGEST_VOXELS} voxels; its header may be"
            " damaged, or the scan is to be resampled"
        )


def _check_extensions(path: Path, file: IO[bytes], start: bytes, kind: type[nib.Nifti1Header]) -> None:
    """Check that the extensions of a NIfTI header lie between it and the voxels, one after the other."""
    header = kind(start[: kind.sizeof_hdr], check=False)
    end = float(header["vox_offset"])
    if not end <= LARGEST_REST:  # also NaN
        raise ValueError(f"{path}: got voxels from byte {end:g} on (vox_offset), expected at most {LARGEST_REST}")
    file.seek(kind.sizeof_hdr)
    if file.read(4)[:1] in (b"", b"\0"):
        return
    order = header.endianness
    while end - file.tell() >= 16:
        sizes = file.read(8)
        size = struct.unpack(f"{order}i", sizes[:4])[0] if len(sizes) == 8 else 0
        if not 8 <= size <= end - file.tell() + 8:
            raise ValueError(
                f"{path}: got an extension of {size} bytes in its header, expected one that ends before the voxels, at"
                f" byte {end:g}; convert the file again"
            )
        file.seek(size - 8, 1)


def _opened(path: Path) -> Any:
    return gzip.open(path) if path.suffix.lower() in _COMPRESSED else path.open("rb")


def _length(path: Path, most: int) -> int:
    """Bytes of a file, unpacked; it is read to its checksum, since nibabel stops at the last voxel."""
    if path.suffix.lower() not in _COMPRESSED:
        return path.stat().st_size
    length = 0
    with gzip.open(path) as stream:
        while block := stream.read(_BLOCK):
            length += len(block)
            if length > most:
                raise ValueError(
                    f"{path}: has more than {most} bytes when it is unpacked, expected no more than its header says;"
                    " it is damaged, or made to fill the memory"
                )
    return length
