"""Reading and writing of brain images; validates on load, and errors say why."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.wrapstruct import WrapStructError

from lesioncore.data.arrays import Array, NumpyArray, to_numpy
from lesioncore.data.files import check_here, replace_atomically
from lesioncore.data.geometry import check_affine, check_header, check_stored_sizes, corner_distance
from lesioncore.data.image_sizes import check_header_sizes, check_length, damaged

_GEOMETRY_FIELDS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)
# Restored volumes are float noise, which no level compresses much: the fastest costs a few per cent in size.
_GZIP_LEVEL = 1
_SAME_PLACE = 1e-2  # voxels: corners this close are what rounding of a header leaves


def load_image(path: str | os.PathLike[str], *, allow_infinite: bool = False) -> SpatialImage:
    """Read one 3-D brain image in any format that nibabel knows, and check it with `check_image`.

    Parameters
    ----------
    path : path-like
        For example a `.nii`, `.nii.gz`, `.mgz` or `.img` file.
    allow_infinite : bool
        As for `check_image`.

    Returns
    -------
    nibabel.spatialimages.SpatialImage
        A 3-D image; its data are in memory as float32 (`voxels_of`).

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If `path` is not a file that can be read.
    ValueError
        If the file is not an image, is cut short, claims more voxels than any scan has, or `check_image` refuses it.
    """
    image = open_image(path)
    check_length(image, Path(path))
    return check_image(image, name=str(path), allow_infinite=allow_infinite)


def open_image(path: str | os.PathLike[str]) -> SpatialImage:
    """Open an image, of which the header alone is read; arguments and errors as for `load_image`."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path: got the folder {path}, expected one image file, such as a .nii.gz")
    check_here(path)
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path}: is no regular file, expected one image file")
    with path.open("rb"):  # nibabel takes a file that may not be read for one of no known type
        pass
    try:
        check_header_sizes(path)
        image = _read_header(path)
    except (ImageFileError, HeaderDataError, WrapStructError) as error:
        if _is_dicom(path):
            raise ValueError(f"{path}: got a DICOM file, expected NIfTI; convert it with dcm2niix") from error
        raise ValueError(f"{path}: got no image that can be read ({error}), expected for example NIfTI") from error
    except PermissionError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(str(path), error) from error
    if not isinstance(image, SpatialImage):
        raise ValueError(f"{path}: got a {type(image).__name__}, expected a volume, for example NIfTI")
    check_stored_sizes(image, str(path))
    return image


def _read_header(path: Path) -> Any:
    """Have nibabel read an image's header; of damaged ones, its readers raise errors of all kinds."""
    try:
        return nib.load(path)
    except (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, zlib.error):
        raise
    except Exception as error:
        raise ImageFileError(f"{type(error).__name__}: {error}") from error


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix.lower() == ".dcm" or file.read(132)[128:] == b"DICM"


def check_whole(path: Path) -> None:
    """Check that a file is there to its last voxel and its checksum, without making an array of it.

    Parameters
    ----------
    path : Path
        NIfTI, or the header of an Analyze pair.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If it is not a file that can be read.
    ValueError
        If it is not an image, or is cut short.
    """
    check_length(open_image(path), path)


def check_image(image: SpatialImage, name: str = "image", *, allow_infinite: bool = False) -> SpatialImage:
    """Check that an image is one real 3-D volume in millimetres; drop or add axes of length 1 to make it 3-D.

    Parameters
    ----------
    image : nibabel.spatialimages.SpatialImage
        `[X, Y, Z]`, one slice `[X, Y]`, or one volume with trailing axes `[X, Y, Z, 1, ...]`.
    name : str
        What errors call the image.
    allow_infinite : bool
        Voxels may be infinite: those of a scan whose brain mask may leave them out.

    Returns
    -------
    nibabel.spatialimages.SpatialImage
        The same object if it is 3-D already; its float32 data are cached.

    Raises
    ------
    ValueError
        If it has several volumes, an empty axis, complex or RGB voxels, voxels that are infinite in float32 or cannot
        be read, an affine that cannot be inverted, or a unit of length other than the millimetre.
    MemoryError
        If it is too large, or a damaged header says so.

    Warns
    -----
    UserWarning
        If a NIfTI header has neither qform nor sform, or the file is an Analyze pair without a ``.mat`` file, so that
        its orientation is a guess; or if the header contradicts itself (:func:`lesioncore.data.geometry.check_header`).
    """
    shape = tuple(image.shape)
    if len(shape) < 2:
        raise ValueError(f"{name}: got shape {shape}, expected a volume [X, Y, Z]")
    if min(shape) < 1:
        raise ValueError(f"{name}: got shape {shape}, expected at least one voxel along each axis")
    if any(length != 1 for length in shape[3:]):
        raise ValueError(
            f"{name}: got {int(np.prod(shape[3:]))} volumes (shape {shape}), expected one; split the series "
            f"(image.slicer[..., i]) and give one volume at a time"
        )
    stored = image.get_data_dtype()
    if stored.kind not in "buif":
        kind = "complex" if stored.kind == "c" else "RGB or structured"
        raise ValueError(f"{name}: got {kind} voxels (dtype {stored}), expected one real intensity per voxel")
    check_header(image, name)
    try:
        with np.errstate(over="ignore"):
            data = voxels_of(image)
    except (OSError, EOFError, OverflowError, zlib.error, ValueError) as error:
        raise damaged(name, error) from error
    except MemoryError as error:
        raise MemoryError(f"{name}: got shape {shape}, too large for memory; its header may be damaged") from error
    # NaN is what SPM and others write as background.
    bad = 0 if allow_infinite else int(np.count_nonzero(np.isinf(data)))
    if bad:
        raise ValueError(
            f"{name}: got {bad} of {data.size} voxels that are infinite or beyond float32, expected finite "
            f"intensities; replace them, with 0 where they are background"
        )
    if len(shape) == 3:
        return image
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    return type(image)(data.reshape((*shape, 1)[:3]), image.affine, header)


def voxels_of(image: SpatialImage) -> npt.NDArray[np.float32]:
    """Read an image's voxels, float32, with the changes that a user made in what `image.get_fdata()` returned.

    nibabel hands out and keeps one such array. It leaves out its changes, and forgets it, where the data are asked for
    in another type.
    """
    changed = image._fdata_cache
    return image.get_fdata(dtype=np.float32) if changed is None else np.asarray(changed, dtype=np.float32)


def save_image(
    data: Array,
    affine: NumpyArray,
    path: str | os.PathLike[str],
    *,
    header: Any = None,
    dtype: np.dtype[Any] | type[np.generic] | None = None,
) -> None:
    """Write a volume as NIfTI, atomically and with the same bytes every time.

    Parameters
    ----------
    data : numpy.ndarray or torch.Tensor
        `[X, Y, Z]`, finite.
    affine : numpy.ndarray
        `[4, 4]`, voxel indices to mm.
    path : path-like
        Ends in `.nii` or `.nii.gz`; its folder exists.
    header : nibabel header, optional
        Header of the image that `data` belongs to. Its units and, where it describes the same grid, its qform and
        sform are kept to the bit; where `affine` is another one, their codes are.
    dtype : numpy dtype, optional
        Type on disk. By default booleans become uint8, floats float32, and 64-bit integers int32. Values are never
        scaled: a type that cannot hold them is an error.

    Raises
    ------
    ValueError
        If `data`, `affine`, the suffix or `dtype` cannot be used as described.
    FileNotFoundError
        If the folder does not exist.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"path: got {path.name!r}, expected a name that ends in .nii or .nii.gz")
    write_bytes(make_image(data, affine, header=header, dtype=dtype).to_bytes(), path)


def write_bytes(content: bytes, path: Path) -> None:
    """Write the bytes of a NIfTI file, compressed if the name ends in `.gz`, atomically."""
    with replace_atomically(path) as temporary, open(temporary, "xb") as raw:
        if path.suffix == ".gz":
            # No name and no time in the gzip header, or equal images would differ on disk.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=raw, mtime=0) as packed:
                packed.write(content)
        else:
            raw.write(content)


def make_image(
    data: Array,
    affine: NumpyArray,
    *,
    header: Any = None,
    dtype: np.dtype[Any] | type[np.generic] | None = None,
) -> nib.Nifti1Image:
    """Make the image that `save_image` writes; arguments and errors as there."""
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, "affine")
    voxels = _to_disk_dtype(to_numpy(data, "data"), dtype)
    return nib.Nifti1Image(voxels, affine, _output_header(voxels, affine, header))


def _to_disk_dtype(voxels: NumpyArray, dtype: np.dtype[Any] | type[np.generic] | None) -> NumpyArray:
    if voxels.ndim != 3 or voxels.size == 0:
        raise ValueError(f"data: got shape {voxels.shape}, expected a volume [X, Y, Z] with voxels")
    bad = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
    if bad:
        raise ValueError(f"data: got {bad} NaN or infinite voxels of {voxels.size}, expected none")
    if dtype is None:
        default: dict[str, Any] = {"b": np.uint8, "f": np.float32}
        dtype = default.get(voxels.dtype.kind, np.int32 if voxels.dtype.itemsize == 8 else voxels.dtype)
    dtype = np.dtype(dtype)
    if dtype.kind not in "uif" or dtype == np.float16:
        raise ValueError(f"dtype: got {dtype}, expected an integer or float type of NIfTI; masks are written as uint8")
    with np.errstate(over="ignore", invalid="ignore"):
        result = voxels.astype(dtype)
    if np.can_cast(voxels.dtype, dtype):
        return result
    if dtype.kind == "f":
        if not np.all(np.isfinite(result)):
            raise ValueError(f"dtype: got {dtype}, expected one that holds values up to {np.abs(voxels).max()}")
    elif not np.array_equal(result.astype(np.float64), voxels.astype(np.float64)):
        raise ValueError(
            f"dtype: got {dtype}, expected one that holds data between {voxels.min()} and {voxels.max()} exactly; "
            f"round them, or write float32"
        )
    return result


def _output_header(voxels: NumpyArray, affine: NumpyArray, source: Any) -> nib.Nifti1Header:
    header = nib.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    if not isinstance(source, nib.Nifti1Header):
        header.set_xyzt_units("mm")
        header.set_sform(affine, code="aligned")
        header.set_qform(affine, code="unknown")
        return header
    header["xyzt_units"] = source["xyzt_units"]
    header["pixdim"][:4] = source["pixdim"][:4]
    for field in _GEOMETRY_FIELDS:
        header[field] = source[field]
    if corner_distance(header.get_best_affine(), affine, voxels.shape) > _SAME_PLACE:
        sform_code, qform_code = int(source["sform_code"]), int(source["qform_code"])
        header.set_qform(affine, code=qform_code)
        header.set_sform(affine, code=sform_code)
        if corner_distance(header.get_best_affine(), affine, voxels.shape) > _SAME_PLACE:
            # Neither code is set, or a qform alone cannot hold the affine (shear): only an sform can.
            header.set_sform(affine, code=qform_code or "aligned")
    return header
