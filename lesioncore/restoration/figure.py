"""One picture of a restoration: input, restored image, residual, detections and, where known, the truth."""

from __future__ import annotations

import io
import os
import textwrap
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from lesioncore.about import NOTE
from lesioncore.data.arrays import Array
from lesioncore.data.files import replace_atomically
from lesioncore.metrics import dice
from lesioncore.restoration.figure_volumes import FigureVolumes
from lesioncore.restoration.result import Restoration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKGROUND, _TEXT, _MUTED, _REMARK = "#000000", "#f2f2f2", "#a8a8a8", "#ffc46b"
_TRUTH = "#3ddc97"
# Colours of the outlines by limit, which leave the anatomy under a detection visible. Blue, orange and yellow are told
# apart with any colour vision; the mask of a stricter limit lies inside that of a laxer one.
_DETECTED = {0.10: "#56b4e9", 0.05: "#e69f00", 0.01: "#f0e442"}
_TINT = 0.25  # opacity of the strictest limit's mask
# The middle is dark, so that changes stand out: darker than healthy is blue, brighter is orange.
_RESIDUAL = ("#d9f6ff", "#6cc8fa", "#2b86e0", "#1a4690", "#17171b", "#8a2410", "#dc4f14", "#ffa447", "#fff2c2")

_PANEL = 1.75
"""Width of one panel, inches."""

_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 1.05, 1.5, 0.72, 0.42, 0.04
"""Margins for row labels, colour scales, titles and the footer, and the gap between panels, inches."""

_LINE, _CHARACTERS = 0.17, 14.5
"""Height of a line of remarks, inches, and its characters in an inch."""

_DRAWING = threading.Lock()
"""Held while a figure is written: scans are saved by several threads, and matplotlib's font caches are not
thread-safe."""


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
    if slices < 1:
        raise ValueError(f"slices: got {slices}, expected at least 1")
    volumes = FigureVolumes.of(result, truth)
    record = result.record
    return draw_volumes(
        volumes,
        volumes.neighbouring_slices(slices) if consecutive else volumes.spread_slices(slices),
        title=title or ("scan" if result.scan.path is None else result.scan.path.name),
        run=describe_run(record.metadata.name, record.config.settings()["solver"], record.tv_weight),
        remarks=result.remarks,
    )


def describe_run(prior: str, solver: Mapping[str, Any], tv_weight: float) -> str:
    """Name a run's prior, solver and weight in one line."""
    return f"prior {prior}, {solver['name']} solver, {solver['steps']} steps, TV weight {tv_weight:g}"


def draw_volumes(
    volumes: FigureVolumes, columns: Sequence[int], *, title: str, run: str, remarks: Sequence[str] = ()
) -> Figure:
    """Draw the rows of :func:`restoration_figure` for chosen slices.

    Parameters
    ----------
    volumes : FigureVolumes
        What is shown.
    columns : sequence of int
        Indices of the slices.
    title : str
        Name of the scan.
    run : str
        What restored it.
    remarks : sequence of str
        In what the scan is unlike those of the calibration; they stand below the panels.
    """
    from matplotlib.figure import Figure

    rows = ["input", "restored", "residual", *(["detected"] if volumes.masks else [])]
    if volumes.truth is not None:
        rows.append("truth")
    shape, size = volumes.scan.shape, volumes.voxel_size
    height = _PANEL * (shape[1] * size[1]) / (shape[0] * size[0])
    width = _LEFT + len(columns) * (_PANEL + _GAP) + _RIGHT
    lines = [line for remark in remarks for line in textwrap.wrap(f"Remark: {remark}", int(width * _CHARACTERS))]
    total = (width, _TOP + len(rows) * (height + _GAP) + _BOTTOM + _LINE * len(lines))
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
    _write_texts(figure, total, title, run, lines)
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


def figure_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """A figure as a file's bytes, the same for the same figure; the text of an SVG stays text."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    with _DRAWING, rc_context({"svg.fonttype": "none", "svg.hashsalt": "lesioncore"}):
        figure.savefig(buffer, format=kind, facecolor=figure.get_facecolor(), metadata=metadata)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Scales:
    """Ranges of grey values (the scan's units) and residual (z-scores), shared by all panels of a row."""

    dark: float
    bright: float
    residual: float

    @classmethod
    def of(cls, volumes: FigureVolumes) -> _Scales:
        dark, bright = np.percentile(volumes.scan[volumes.brain], [0.5, 98.5])
        # The percentile keeps a few extreme voxels from dimming the rest; the floor keeps noise from being amplified.
        largest = max(1.0, float(np.percentile(np.abs(volumes.residual[volumes.brain]), 99.5)))
        return cls(float(dark), float(max(bright, dark + 1e-6)), largest)


def _draw(axes: Axes, row: str, volumes: FigureVolumes, z: int, scales: _Scales) -> Any:
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
    grey = np.where(inside, image[:, :, z], scales.dark)
    picture = show(grey, cmap="gray", vmin=scales.dark, vmax=scales.bright, interpolation="bilinear")

    def outline(mask: npt.NDArray[np.bool_], colour: str, width: float) -> None:
        if mask.any():
            # A margin closes the outline of what touches the border.
            padded, step = np.pad(mask, 1).T.astype(float), volumes.voxel_size
            around = (extent[0] - step[0], extent[1] + step[0], extent[2] - step[1], extent[3] + step[1])
            axes.contour(padded, levels=[0.5], colors=[colour], linewidths=width, origin="lower", extent=around)

    if row == "detected":
        strictest = min(volumes.masks)
        _paint(show, volumes.masks[strictest][:, :, z], _DETECTED[strictest], _TINT)
        for limit in sorted(volumes.masks, reverse=True):
            outline(volumes.masks[limit][:, :, z], _DETECTED[limit], 0.9 if limit == strictest else 0.6)
    if volumes.truth is not None and row in ("detected", "truth"):
        if row == "truth":
            _paint(show, volumes.truth[:, :, z], _TRUTH, 0.35)
        outline(volumes.truth[:, :, z], _TRUTH, 1.1)
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


def _legend(axes: Axes, volumes: FigureVolumes) -> None:
    from matplotlib.lines import Line2D

    axes.set_axis_off()
    handles: list[Any] = []
    for limit in sorted(volumes.masks):
        label = f"{100 * limit:g} %: {np.count_nonzero(volumes.masks[limit]) * volumes.voxel_ml:.1f} ml"
        if volumes.truth is not None:
            label += f"\nDice {dice(volumes.masks[limit], volumes.truth, volumes.brain):.2f}"
        handles.append(Line2D([], [], color=_DETECTED[limit], linewidth=1.5, label=label))
    if volumes.truth is not None:
        volume = np.count_nonzero(volumes.truth) * volumes.voxel_ml
        handles.append(Line2D([], [], color=_TRUTH, linewidth=1.5, label=f"true lesion\n{volume:.1f} ml"))
    legend = axes.legend(
        handles=handles, title="false positives\nallowed", loc="center left", bbox_to_anchor=(0, 0.5), frameon=False,
        labelcolor=_TEXT, fontsize=8.5, title_fontsize=9, handlelength=1.0, borderaxespad=0,
        alignment="left",
    )  # fmt: skip
    legend.get_title().set_color(_TEXT)


def _write_texts(figure: Figure, total: tuple[float, float], title: str, run: str, lines: Sequence[str]) -> None:
    figure.text(
        _LEFT / total[0], 1 - 0.24 / total[1], title, color=_TEXT, fontsize=12, fontweight="bold", va="center",
        parse_math=False,
    )  # fmt: skip
    figure.text(
        1 - 0.2 / total[0], 1 - 0.24 / total[1], run, color=_MUTED, fontsize=9, ha="right", va="center",
        parse_math=False,
    )  # fmt: skip
    for number, line in enumerate(reversed(lines)):
        height = (0.18 + _LINE * (number + 1)) / total[1]
        figure.text(
            _LEFT / total[0], height, line, color=_REMARK, fontsize=8, va="center", parse_math=False
        )  # fmt: skip
    figure.text(
        _LEFT / total[0], 0.18 / total[1],
        f"Neurological convention: the patient's left is on the left. {NOTE}",
        color=_MUTED, fontsize=8, va="center",
    )  # fmt: skip
