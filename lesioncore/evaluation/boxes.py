"""Boxes that experts have drawn around lesions, in files, and detections compared with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from lesioncore.data.tables import read_rows
from lesioncore.data.text_files import read_text
from lesioncore.metrics import BoxCounts, component_boxes, match_boxes
from lesioncore.metrics.base import Bools, Floats
from lesioncore.subjects import Subject

IOUS = (0.3, 0.5)
"""Intersections over union from which on a detection has found a box."""

_COLUMNS = ("participant_id", "slice", "x", "y", "z", "width", "height", "depth", "unit")
_FLAT, _DEEP = ("x", "y", "width", "height"), ("x", "y", "z", "width", "height", "depth")


@dataclass(frozen=True)
class Box:
    """What a row of a file tells: an image that was looked at, and a box in it or that there is none.

    Attributes
    ----------
    slice : int or None
        Index along the scan's third axis, of a box in a slice alone; None for a box in the whole scan.
    corner, size : tuple of float
        First edges and extents, along x and y, and z for the whole scan; empty where there is no box.
    unit : {"voxel", "mm"}
        Voxels as they are stored (one of index i spans i to i + 1), or millimetres of the scanner.
    """

    slice: int | None
    corner: tuple[float, ...]
    size: tuple[float, ...]
    unit: str = "voxel"

    def edges(self, affine: Floats) -> Floats:
        """First and last edge in voxels, ``[2, axes]``; where axes are oblique, of the box around a box in mm."""
        first = np.array(self.corner)
        edges = np.stack([first, first + self.size])
        if self.unit == "voxel":
            return edges
        corners = np.stack(np.meshgrid(*edges.T, indexing="ij"), -1).reshape(-1, 3)
        to_voxel = np.linalg.inv(affine)
        inside = corners @ to_voxel[:3, :3].T + to_voxel[:3, 3] + 0.5  # an affine is that of the voxels' centres
        return np.stack([inside.min(0), inside.max(0)])


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Read the boxes of all people from a file.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.tsv`` with a line of column names, or ``.json`` with a list of objects of such names:
        ``participant_id``; ``x``, ``y``, ``width``, ``height``, and either ``slice``, or ``z`` and ``depth``; and
        ``unit``, voxel (as without it) or mm. Empty coordinates say that there is no box in the image.

    Returns
    -------
    dict of str to list of Box
        By ``participant_id`` without ``sub-``.

    Raises
    ------
    ValueError
        If the file is none of these, or a row cannot be understood.
    OSError
        If it cannot be read.
    """
    if path.suffix not in (".csv", ".tsv", ".json"):
        raise ValueError(f"boxes: got {path}, expected a file .csv, .tsv or .json")
    if path.suffix == ".json":
        text = read_text(path)
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: is no JSON: {error}") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{path}: got other JSON, expected a list of objects with {', '.join(_COLUMNS)}")
    else:
        _, rows = read_rows(path, "\t" if path.suffix == ".tsv" else ",")
    boxes: dict[str, list[Box]] = {}
    for number, row in enumerate(rows, start=1):
        # A cell beyond the header has no name, and a missing one no text.
        cells = {str(name): "" if cell is None else str(cell).strip() for name, cell in row.items()}
        try:
            person, box = _box(cells)
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
        boxes.setdefault(person, []).append(box)
    for person, drawn in boxes.items():
        if len({box.slice is None for box in drawn}) > 1:
            raise ValueError(f"{path}: {person} has boxes of slices and of the whole scan, expected one of both")
    if not boxes:
        raise ValueError(f"{path}: got no row, expected one for each box")
    return boxes


def boxes_for(subject: Subject, boxes: Mapping[str, Sequence[Box]]) -> Sequence[Box]:
    """The boxes of a scan's person; none where the file does not name it."""
    return boxes.get(subject.person.removeprefix("sub-"), ())


def boxes_key(boxes: Sequence[Box]) -> str:
    """Hash of what scores with these boxes depend on."""
    return hashlib.sha256(json.dumps([astuple(box) for box in boxes]).encode()).hexdigest()


def count_boxes(detected: Bools, score: Floats, boxes: Sequence[Box], affine: Floats) -> tuple[BoxCounts, ...]:
    """Compare a scan's detected components with its boxes, in the images that were looked at.

    Parameters
    ----------
    detected, score : ndarray
        ``[X, Y, Z]`` in storage order.
    boxes : sequence of Box
        Those of the scan, one at least.
    affine : ndarray
        Its voxel-to-world matrix, mm.

    Returns
    -------
    tuple of BoxCounts
        For each of :data:`IOUS`.

    Raises
    ------
    ValueError
        If a slice is none of the scan's.
    """
    images: dict[int | None, list[Box]] = {}
    for box in boxes:
        if box.slice is not None and not 0 <= box.slice < detected.shape[2]:
            raise ValueError(f"boxes: got slice {box.slice}, expected 0 to {detected.shape[2] - 1}")
        images.setdefault(box.slice, []).append(box)
    counts: list[list[BoxCounts]] = [[] for _ in IOUS]
    for index, drawn in images.items():
        place = (slice(None),) * 3 if index is None else (slice(None), slice(None), index)
        found, peaks = component_boxes(detected[place], score[place])
        edges = [box.edges(affine) for box in drawn if box.corner]
        true = np.array(edges, float).reshape(-1, 2, detected[place].ndim)
        for number, iou in enumerate(IOUS):
            counts[number].append(match_boxes(found, peaks, true, iou))
    return tuple(reduce(add, one) for one in counts)


def _box(cells: Mapping[str, str]) -> tuple[str, Box]:
    unknown = sorted(set(cells) - set(_COLUMNS))
    if unknown or not cells.get("participant_id"):
        got = f"the column {unknown[0]}" if unknown else "no participant_id"
        raise ValueError(f"got {got}, expected {', '.join(_COLUMNS)}")
    unit, given = cells.get("unit") or "voxel", {name for name in _DEEP if cells.get(name)}
    flat = bool(cells.get("slice"))
    wanted = _FLAT if flat else _DEEP
    if unit not in ("voxel", "mm") or (flat and unit == "mm"):
        raise ValueError(f"unit: got {unit!r}, expected voxel or, for boxes of the whole scan, mm")
    if given not in (set(), set(wanted)):
        raise ValueError(
            f"got {', '.join(name for name in _DEEP if name in given)}, expected all of {', '.join(wanted)}, or none"
            " where there is no box"
        )
    number = int(cells["slice"]) if flat else None
    values = [float(cells[name]) for name in wanted if given]
    corner, size = tuple(values[: len(values) // 2]), tuple(values[len(values) // 2 :])
    if not all(map(math.isfinite, values)) or any(extent <= 0 for extent in size):
        raise ValueError(f"got the box {values}, expected finite numbers and positive extents")
    return cells["participant_id"].removeprefix("sub-"), Box(number, corner, size, unit)
