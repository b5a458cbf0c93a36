"""A small picture of a scan: three planes through a place, with the detections outlined."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt

from lesioncore.data.orientation import Orientation
from lesioncore.report.saved import SavedResult
from lesioncore.restoration.figure import figure_bytes

_HEIGHT = 0.9  # inches
_DETECTED = "#ffd166"


def thumbnail(saved: SavedResult, place: npt.NDArray[np.float64]) -> str:
    """Draw transversal, coronal and sagittal slices, the patient's left on the left.

    Parameters
    ----------
    saved : SavedResult
        A saved restoration; the detections of its strictest limit are outlined.
    place : ndarray
        Where the planes meet, mm in the scan's world.

    Returns
    -------
    str
        A PNG picture in base64.
    """
    from matplotlib.figure import Figure

    orientation = Orientation.from_affine(saved.affine, saved.scan.shape)
    scan = orientation.to_ras(saved.scan)
    brain = orientation.to_ras(saved.brain)
    mask = orientation.to_ras(saved.masks[min(saved.masks)]) if saved.masks else np.zeros_like(brain)
    index = np.rint(np.linalg.inv(orientation.ras_affine) @ [*place, 1.0])[:3].astype(int)
    index = np.clip(index, 0, np.array(scan.shape) - 1)
    filled = [np.flatnonzero(brain.any(axis=tuple(o for o in range(3) if o != axis))) for axis in range(3)]
    box = [slice(max(0, int(inside[0]) - 2), int(inside[-1]) + 3) for inside in filled]
    dark, bright = np.percentile(scan[brain], [0.5, 99.0])
    planes = [(0, 1, 2), (0, 2, 1), (1, 2, 0)]  # across, up, through
    sizes = [
        (
            (box[a].stop - box[a].start) * orientation.voxel_size[a],
            (box[b].stop - box[b].start) * orientation.voxel_size[b],
        )
        for a, b, _ in planes
    ]
    widths = [_HEIGHT * across / up for across, up in sizes]
    figure = Figure(figsize=(sum(widths), _HEIGHT), dpi=100, facecolor="black")
    left = 0.0
    for (_, _, through), (across, up), width in zip(planes, sizes, widths, strict=True):
        axes = figure.add_axes((left / sum(widths), 0.0, width / sum(widths), 1.0))
        axes.set_axis_off()
        left += width
        picked = [box[axis] if axis != through else int(index[through]) for axis in range(3)]
        slices = [volume[tuple(picked)] for volume in (scan, brain, mask)]
        grey = np.where(slices[1], slices[0], dark)
        extent = (0.0, across, 0.0, up)
        axes.imshow(grey.T, origin="lower", cmap="gray", vmin=dark, vmax=bright, extent=extent, aspect="auto")
        if slices[2].any():
            axes.contour(
                slices[2].T.astype(float),
                levels=[0.5],
                colors=[_DETECTED],
                linewidths=0.8,
                origin="lower",
                extent=extent,
            )
    return base64.b64encode(figure_bytes(figure, "png")).decode("ascii")
