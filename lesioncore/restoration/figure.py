"""One picture of a restoration: input, restored image, residual, detections and, where known, the truth."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage

from lesioncore.about import NOTE
from lesioncore.data.arrays import Array, to_numpy
from lesioncore.data.files import replace_atomically
from lesioncore.data.nifti import load_image
from lesioncore.data.orientation import Orientation
from lesioncore.metrics import dice
from lesioncore.metrics.limits import LIMITS
from lesioncore.restoration.result import Restoration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKGROUND, _TEXT, _MUTED = "#000000", "#f2f2f2", "#a8a8a8"
_TRUTH = "#3ddc97"
# Colours of the masks by limit; the mask of a stricter limit lies inside that of a laxer one.
_DETECTED = {0.10: "#7a4fd0", 0.05: "#ee4b7f", 0.01: "#ffd166"}
# The middle is dark, so that changes stand out: darker than healthy is blue, brighter is orange.
_RESIDUAL = ("#d9f6ff", "#6cc8fa", "#2b86e0", "#1a4690", "#17171b", "#8a2410", "#dc4f14", "#ffa447", "#fff2c2")

_PANEL = 1.75
"""Width of one panel, inches."""

_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 1.05, 1.5, 0.72, 0.42, 0.04
"""Margins for row labels, colour scales, titles and the footer, and the gap between panels, inches."""

_DRAWING = threading.Lock()
"""Held while a figure is written: scans are saved by several threads, and matplotlib's font caches are not
thread-safe."""


@dataclass(frozen=True)
class _Volumes:
    """Volumes that the panels show, `[X, Y, Z]` in RAS+ order, cropped to the brain in the transversal plane.

    `masks` are those of each limit; `heights` are the z coordinates of the slices' centres, mm.
    """

    scan: npt.NDArray[np.float32]
    restored: npt.NDArray[np.float32]
    residual: npt.NDArray[np.float32]
    brain: npt.NDArray[np.bool_]
    masks: dict[float, npt.NDArray[np.bool_]]
    truth: npt.NDArray[np.bool_] | None
    voxel_size: tuple[float, float, float]
    heights: npt.NDArray[np.float64]


def require_matplotlib() -> None:
    """Raise ImportError if matplotlib, the extra `figures`, is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError("figures need matplotlib; install it with: pip install 'lesioncore[figures]'") from error


def restoration_figure(
    result: Restoration,
    truth: Array | str | os.PathLike[str] | None = None,
    *,
    slices: int = 5,
    consecutive: bool = False,
    title: str | None = None,
) -> Figure:
    """Draw a restoration: one row each for input, restored image, signed residual, detections and truth.

    The slices are transversal, in the neurological convention: the patient's left is on the left. They are spread
    evenly over the brain; with a truth, the slice nearest to its largest cross-section moves there.

    Parameters
    ----------
    result : Restoration
        Restoration of a volume; detections are drawn if it has a calibration.
    truth : ndarray, Tensor or path, optional
        True lesion on the input's grid and in its storage order, nonzero inside.
    slices : int
        Number of columns.
    consecutive : bool
        Draw neighbouring slices instead (paper Fig. 9), around the largest cross-section of the truth, or of the brain
        without any.
    title : str, optional
        Name of the scan; when absent, that of its file.

    Returns
    -------
    matplotlib.figure.Figure
        A figure that needs neither pyplot nor a display; write it with :func:`save_figure`.

    Raises
    ------
    ValueError
        If the result is of slices without geometry, `truth` has another shape than the input, or `slices` is below 1.
    ImportError
        If matplotlib, the extra `figures`, is missing.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    if slices < 1:
        raise ValueError(f"slices: got {slices}, expected at least 1")
    volumes = _volumes(result, truth)
    columns = _neighbours(volumes, slices) if consecutive else _choose(volumes, slices)
    rows = ["input", "restored", "residual", *(["detected"] if volumes.masks else [])]
    if volumes.truth is not None:
        rows.append("truth")

    shape, size = volumes.scan.shape, volumes.voxel_size
    height = _PANEL * (shape[1] * size[1]) / (shape[0] * size[0])
    total = (
        _LEFT + len(columns) * (_PANEL + _GAP) + _RIGHT,
        _TOP + len(rows) * (height + _GAP) + _BOTTOM,
    )
    figure = Figure(figsize=total, dpi=150, facecolor=_BACKGROUND)

    def add_axes(left: float, top: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / total[0], 1 - (top + height) / total[1], width / total[0], height / total[1]))

    scales = _Scales.of(volumes)
    for i, row in enumerate(rows):
        top = _TOP + i * (height + _GAP)
        for j, z in enumerate(columns):
            axes = add_axes(_LEFT + j * (_PANEL + _GAP), top, _PANEL, height)
            axes.set_axis_off()
            picture = _draw(axes, row, volumes, z, scales)
            if i == 0:
                axes.set_title(f"z = {volumes.heights[z]:+.0f} mm", color=_MUTED, fontsize=9, pad=3)
            if i == 0 and j == 0:
                for x, side in ((0.02, "L"), (0.98, "R")):
                    axes.text(
                        x, 0.97, side, color=_MUTED, fontsize=9, ha="left" if x < 0.5 else "right", va="top",
                        transform=axes.transAxes,
                    )  # fmt: skip
        middle = 1 - (top + height / 2) / total[1]
        figure.text((_LEFT - 0.14) / total[0], middle, row, color=_TEXT, fontsize=11, ha="right", va="center")
        right = _LEFT + len(columns) * (_PANEL + _GAP) + 0.12
        if row == "residual":
            _colourbar(figure, add_axes(right, top + 0.12 * height, 0.1, 0.76 * height), picture)
        elif row == "detected":
            _legend(add_axes(right, top, _RIGHT - 0.2, height), volumes)
    _write_texts(figure, result, total, title)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure atomically; the suffix (.png, .pdf, .svg) decides the format.

    Raises
    ------
    ValueError
        If matplotlib does not know the format.
    FileNotFoundError
        If the folder does not exist.
    """
    with replace_atomically(path) as temporary, _DRAWING:
        figure.savefig(temporary, facecolor=figure.get_facecolor())


@dataclass(frozen=True)
class _Scales:
    """Ranges of grey values (the scan's units) and residual (z-scores), shared by all panels of a row."""

    dark: float
    bright: float
    residual: float

    @classmethod
    def of(cls, volumes: _Volumes) -> _Scales:
        dark, bright = np.percentile(volumes.scan[volumes.brain], [0.5, 98.5])
        # The percentile keeps a few extreme voxels from dimming the rest; the floor keeps noise from being amplified.
        largest = max(1.0, float(np.percentile(np.abs(volumes.residual[volumes.brain]), 99.5)))
        return cls(float(dark), float(max(bright, dark + 1e-6)), largest)


def _volumes(result: Restoration, truth: Array | str | os.PathLike[str] | None) -> _Volumes:
    scan = result.scan
    if scan.affine is None:
        raise ValueError("result: slices [N, 1, H, W] have no geometry to draw; restore a volume")
    source = scan.source
    observed = _voxels(source)
    orientation = Orientation.from_affine(scan.affine, observed.shape)
    brain = orientation.to_ras(scan.brain())
    lesion = None if truth is None else orientation.to_ras(_labels(truth, observed.shape))
    # The window has a margin of 4 mm around the brain, and all slices.
    crop = []
    for axis in (0, 1):
        inside = np.flatnonzero(brain.any(axis=(1 - axis, 2)))
        margin = round(4.0 / orientation.voxel_size[axis])
        crop.append(slice(max(0, inside[0] - margin), inside[-1] + 1 + margin))
    window = (*crop, slice(None))
    residual = scan.residual(result.slice_residual)
    masks = {}
    if result.record.calibration is not None:
        masks = {f: orientation.to_ras(_voxels(result.mask(f)) != 0) for f in LIMITS}
    # Heights are taken at the slices' centres, since in an oblique scan they vary over a slice.
    centre = [(length - 1) / 2 for length in orientation.ras_shape[:2]]
    heights = [(orientation.ras_affine @ [*centre, z, 1.0])[2] for z in range(orientation.ras_shape[2])]
    return _Volumes(
        scan=orientation.to_ras(np.asarray(observed, dtype=np.float32))[window],
        restored=orientation.to_ras(scan.restored(residual))[window],
        residual=orientation.to_ras(residual)[window],
        brain=brain[window],
        masks={f: mask[window] for f, mask in masks.items()},
        truth=None if lesion is None else lesion[window],
        voxel_size=orientation.voxel_size,
        heights=np.array(heights),
    )


def _voxels(image: SpatialImage | Array) -> npt.NDArray[Any]:
    return image.get_fdata(dtype=np.float32) if isinstance(image, SpatialImage) else to_numpy(image, "result")


def _labels(truth: Array | str | os.PathLike[str], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    if isinstance(truth, (str, os.PathLike)):
        truth = load_image(truth).get_fdata(dtype=np.float32)
    labels: npt.NDArray[np.bool_] = to_numpy(truth, "truth") != 0
    if labels.shape != shape:
        raise ValueError(f"truth: got shape {labels.shape}, expected that of the input, {shape}")
    return labels


def _choose(volumes: _Volumes, count: int) -> list[int]:
    """Indices of slices spread evenly over the brain, of which the nearest moves to the truth's largest cross-section.

    Slices with less than a quarter of the brain's largest cross-section are left out.
    """
    area = volumes.brain.sum(axis=(0, 1))
    large = np.flatnonzero(area >= 0.25 * area.max())
    count = min(count, len(large))
    positions = large[0] + (np.arange(count) + 0.5) / count * (large[-1] - large[0])
    chosen = np.round(positions).astype(int)
    if volumes.truth is not None and volumes.truth.any():
        largest = int(volumes.truth.sum(axis=(0, 1)).argmax())
        chosen[np.abs(chosen - largest).argmin()] = largest
    return sorted({int(z) for z in chosen})


def _neighbours(volumes: _Volumes, count: int) -> list[int]:
    """Indices of neighbouring slices around the largest cross-section of the truth, or of the brain without any."""
    shown = volumes.brain if volumes.truth is None or not volumes.truth.any() else volumes.truth
    depth = volumes.brain.shape[2]
    count = min(count, depth)
    first = int(shown.sum(axis=(0, 1)).argmax()) - count // 2
    first = min(max(first, 0), depth - count)
    return list(range(first, first + count))


def _draw(axes: Axes, row: str, volumes: _Volumes, z: int, scales: _Scales) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    extent = (0.0, volumes.scan.shape[0] * volumes.voxel_size[0], 0.0, volumes.scan.shape[1] * volumes.voxel_size[1])
    inside = volumes.brain[:, :, z]

    def show(values: npt.NDArray[Any], **options: Any) -> Any:
        return axes.imshow(values.T, origin="lower", extent=extent, aspect="equal", **options)

    if row == "residual":
        colours = LinearSegmentedColormap.from_list("residual", _RESIDUAL).with_extremes(bad=_BACKGROUND)
        values = np.where(inside, volumes.residual[:, :, z], np.nan)
        return show(values, cmap=colours, vmin=-scales.residual, vmax=scales.residual, interpolation="nearest")
    image = volumes.restored if row == "restored" else volumes.scan
    # Behind the detections the scan is darker, so that their colours stand out.
    bright = scales.dark + (scales.bright - scales.dark) * (1.6 if row == "detected" else 1.0)
    grey = np.where(inside, image[:, :, z], scales.dark)
    picture = show(grey, cmap="gray", vmin=scales.dark, vmax=bright, interpolation="bilinear")
    if row == "detected":
        stricter = np.zeros(inside.shape, dtype=bool)
        for fpr in sorted(volumes.masks):
            _paint(show, volumes.masks[fpr][:, :, z] & ~stricter, _DETECTED[fpr], 0.92)
            stricter = volumes.masks[fpr][:, :, z]
    if volumes.truth is not None and row in ("detected", "truth") and volumes.truth[:, :, z].any():
        if row == "truth":
            _paint(show, volumes.truth[:, :, z], _TRUTH, 0.35)
        axes.contour(
            volumes.truth[:, :, z].T.astype(float), levels=[0.5], colors=[_TRUTH], linewidths=1.1, origin="lower",
            extent=extent,
        )  # fmt: skip
    return picture


def _paint(show: Any, mask: npt.NDArray[np.bool_], colour: str, opacity: float) -> None:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    # The channels come first, since `show` transposes the array and matplotlib expects them last.
    show(np.stack([red * mask, green * mask, blue * mask, opacity * mask]), interpolation="nearest")


def _colourbar(figure: Figure, axes: Axes, picture: Any) -> None:
    bar = figure.colorbar(picture, cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(colors=_MUTED, labelsize=8, length=2)
    axes.set_title("z-score", color=_TEXT, fontsize=9, pad=8, loc="left")
    axes.text(5.4, 0.97, "brighter\nthan healthy", color=_MUTED, fontsize=7.5, va="top", transform=axes.transAxes)
    axes.text(5.4, 0.03, "darker\nthan healthy", color=_MUTED, fontsize=7.5, va="bottom", transform=axes.transAxes)


def _legend(axes: Axes, volumes: _Volumes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    axes.set_axis_off()
    handles: list[Any] = []
    for fpr in sorted(volumes.masks):
        label = f"{100 * fpr:g} %"
        if volumes.truth is not None:
            label += f": Dice {dice(volumes.masks[fpr], volumes.truth, volumes.brain):.2f}"
        handles.append(Patch(facecolor=_DETECTED[fpr], label=label))
    if volumes.truth is not None:
        handles.append(Line2D([], [], color=_TRUTH, linewidth=1.5, label="true lesion"))
    legend = axes.legend(
        handles=handles, title="false positives\nallowed", loc="center left", bbox_to_anchor=(0, 0.5), frameon=False,
        labelcolor=_TEXT, fontsize=9, title_fontsize=9, handlelength=1.0, handleheight=1.0, borderaxespad=0,
        alignment="left",
    )  # fmt: skip
    legend.get_title().set_color(_TEXT)


def _write_texts(figure: Figure, result: Restoration, total: tuple[float, float], title: str | None) -> None:
    record = result.record
    name = title or ("scan" if result.scan.path is None else result.scan.path.name)
    settings = record.config.settings()["solver"]
    figure.text(
        _LEFT / total[0], 1 - 0.24 / total[1], name, color=_TEXT, fontsize=12, fontweight="bold", va="center"
    )  # fmt: skip
    figure.text(
        1 - 0.2 / total[0], 1 - 0.24 / total[1],
        f"prior {record.metadata.name}, {settings['name']} solver, {settings['steps']} steps, TV weight"
        f" {record.tv_weight:g}",
        color=_MUTED, fontsize=9, ha="right", va="center",
    )  # fmt: skip
    figure.text(
        _LEFT / total[0], 0.18 / total[1],
        f"Neurological convention: the patient's left is on the left. {NOTE}",
        color=_MUTED, fontsize=8, va="center",
    )  # fmt: skip
