"""A saved restoration, read back from its sidecar and images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import SpatialImage

from lesioncore.data.files import check_here, difference, file_digest
from lesioncore.data.json_files import read_object
from lesioncore.data.names import split_name, stem_of
from lesioncore.data.nifti import load_image, voxels_of
from lesioncore.report.form import check_sidecar

_SIDECAR = re.compile(r"_desc-restored_(?P<suffix>[^_]+)\.json$")
_NEEDED = (
    *("Source", "SourceSHA256", "Prior", "Contrast", "Settings", "Thresholds", "Preprocessing", "Files", "Remarks"),
    *("BrainMillilitres", "DetectedMillilitres", "GeneratedBy"),
)
_LIMIT = re.compile(r"fpr(?P<percent>\d\d)")


@dataclass(frozen=True, eq=False)
class SavedResult:
    """What :meth:`lesioncore.Restoration.save` wrote for one scan, and the scan.

    Attributes
    ----------
    sidecar : Path
        The JSON file that names the others.
    image : SpatialImage
        The scan that was restored.
    facts : dict
        What the sidecar says.
    """

    sidecar: Path
    image: SpatialImage = field(repr=False)
    facts: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, sidecar: Path, scan: Path | SpatialImage) -> SavedResult:
        """Read a sidecar; images are read when they are asked for.

        Parameters
        ----------
        sidecar : Path
            ``*_desc-restored_*.json``.
        scan : Path or SpatialImage
            The scan that was restored: its file, by the sidecar's hash of it, or the image that was read from there.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If the sidecar cannot be used, or `scan` is another one than was restored.
        """
        facts = read_sidecar(sidecar)
        if isinstance(scan, SpatialImage):
            return cls(sidecar, scan, facts)
        if file_digest(scan).hex() != facts["SourceSHA256"]:
            raise ValueError(
                f"scan: {scan} is not the file that {sidecar.name} was made from ({facts['Source']}, by its SHA-256);"
                " give that one"
            )
        return cls(sidecar, load_image(scan, allow_infinite=True), facts)

    @property
    def name(self) -> str:
        """Name of the scan, such as ``sub-01_T2w``: that of its file, but for the ending."""
        return name_of(self.sidecar, self.facts)

    @cached_property
    def scan(self) -> npt.NDArray[np.float32]:
        """The scan that was restored, ``[X, Y, Z]``, in its storage order; what is not finite is its lowest value."""
        values = voxels_of(self.image)
        finite = np.isfinite(values)
        return np.where(finite, values, values[finite].min())

    @cached_property
    def affine(self) -> npt.NDArray[np.float64]:
        """``[4, 4]``, the scan's voxel indices to mm."""
        return np.asarray(self.image.affine, dtype=np.float64)

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Voxel size, mm."""
        x, y, z = (float(size) for size in voxel_sizes(self.affine))
        return x, y, z

    @property
    def to_template(self) -> npt.NDArray[np.float64] | None:
        """``[4, 4]`` from the scan's world (mm) to the template's; None where it was not registered."""
        matrix = self.facts.get("ToTemplate")
        return None if matrix is None else np.asarray(matrix, dtype=np.float64)

    @cached_property
    def restored(self) -> npt.NDArray[np.float32]:
        """The restored image."""
        return self._voxels("_desc-restored_")

    @cached_property
    def residual(self) -> npt.NDArray[np.float32]:
        """The signed residual, z-scores."""
        return self._voxels("_desc-residual_")

    @cached_property
    def score(self) -> npt.NDArray[np.float32]:
        """The detection map."""
        return self._voxels("_desc-score_")

    @cached_property
    def brain(self) -> npt.NDArray[np.bool_]:
        """The brain mask."""
        return self._voxels("_desc-brain") != 0

    @property
    def thresholds(self) -> dict[float, float]:
        """Threshold of the score at each false-positive rate; none where the calibration did not hold."""
        return {float(limit): float(value) for limit, value in (self.facts["Thresholds"] or {}).items()}

    @cached_property
    def masks(self) -> dict[float, npt.NDArray[np.bool_]]:
        """Detections at each false-positive rate."""
        matches = [match for name in self._images if (match := _LIMIT.search(name))]
        return {int(match["percent"]) / 100: self._voxels(match[0]) != 0 for match in matches}

    def millilitres(self, mask: npt.NDArray[np.bool_]) -> float:
        """Volume of a mask on the scan's grid, ml."""
        return float(np.count_nonzero(mask) * abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    def step(self, name: str) -> dict[str, Any]:
        """Figures of a preprocessing step; empty where it was not done."""
        steps = {step["name"]: step["figures"] for step in self.facts["Preprocessing"]}
        return steps.get(name, {})

    @property
    def _images(self) -> list[str]:
        """Names of the images on the scan's own grid."""
        return [name for name in self.facts["Files"] if name.endswith(".nii.gz") and "_space-" not in name]

    def _voxels(self, part: str) -> npt.NDArray[np.float32]:
        for name in self._images:
            if part in name:
                check_here(self.sidecar.parent / name)
                if (reason := difference(self.sidecar.parent, {name: self.facts["Files"][name]})) is not None:
                    raise ValueError(f"{self.sidecar}: {reason}; restore the scan again")
                return load_image(self.sidecar.parent / name).get_fdata(dtype=np.float32)
        raise FileNotFoundError(f"{self.sidecar}: names no file of {part.strip('_')}; restore the scan again")


def name_of(sidecar: Path, facts: Mapping[str, Any]) -> str:
    """Name of the scan that a sidecar is of: that of its file, unless the result was saved under another."""
    name = _SIDECAR.sub(r"_\g<suffix>", sidecar.name)
    source = stem_of(Path(facts["Source"])) if facts["Source"] else ""
    return source if source and "_".join(split_name(source)) == name else name


def read_sidecar(sidecar: Path) -> dict[str, Any]:
    """Read and check the sidecar of a restoration.

    Raises
    ------
    ValueError
        If it is no sidecar of a restoration, or damaged.
    """
    try:
        facts = read_object(sidecar)
    except ValueError as error:
        raise ValueError(f"{error}; it was not written whole, or changed: restore the scan again") from error
    if isinstance(facts.get("Files"), list):
        raise ValueError(
            f"{sidecar}: is of an earlier version, which kept no hashes of the files; restore the scan again, with"
            " --overwrite"
        )
    if missing := [key for key in _NEEDED if key not in facts]:
        raise ValueError(
            f"{sidecar}: lacks {', '.join(missing)}; expected a sidecar that lesioncore restore wrote;"
            " results of 0.1.0 are to be restored anew"
        )
    try:
        check_sidecar(facts)
    except ValueError as error:
        raise ValueError(f"{sidecar}: {error}; restore the scan again") from error
    if any("/" in name or "\\" in name for name in facts["Files"]):
        raise ValueError(f"{sidecar}: names files in other folders, expected those beside it; restore the scan again")
    return facts


def sidecars_in(folder: Path) -> list[Path]:
    """Sidecars of restorations in a folder and below, sorted."""
    return sorted(path for path in visible(folder, "*.json") if _SIDECAR.search(path.name))


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """Files in a folder and below that match a pattern; not those in hidden folders, where others are being made."""
    for path in folder.rglob(pattern):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def scans_by_content(scans: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """Scans by their name and SHA-256, each of them read once."""
    return {(scan.name, file_digest(scan).hex()): scan for scan in scans}


def find_scan(sidecar: Path, scans: Mapping[tuple[str, str], Path]) -> Path:
    """Of scans from :func:`scans_by_content`, the one that a sidecar was made from.

    Raises
    ------
    FileNotFoundError
        If none is.
    """
    facts = read_sidecar(sidecar)
    scan = scans.get((facts["Source"], facts["SourceSHA256"]))
    if scan is None:
        raise FileNotFoundError(
            f"{sidecar.name}: found no {facts['Source']} with the content that was restored; name its folder with"
            " --scans"
        )
    return scan
