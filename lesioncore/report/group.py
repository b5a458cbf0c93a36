"""The page of a group: all reports of a folder in one sortable table, with thumbnails and distributions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from lesioncore.about import NOTE
from lesioncore.data.files import replace_atomically
from lesioncore.report.page import environment, read_summary, template_text
from lesioncore.report.saved import visible
from lesioncore.restoration.figure import figure_bytes

_CHARTED = 5  # scans from which on a chart shows more than the table
_MOST_THUMBNAILS = 500  # of some 20 kB: browsers are slow with a page of more than 10 MB

INDEX = "index.html"
"""Name of a group's page."""


def write_group_page(folder: Path, path: Path | None = None) -> Path:
    """Write the page of all reports in a folder and below.

    Parameters
    ----------
    folder : Path
        Where the reports are.
    path : Path, optional
        The HTML file, replaced by one rename; ``index.html`` in `folder` when absent. It links to the reports by
        relative paths.

    Returns
    -------
    Path
        The file written; of more than 500 scans without their thumbnails.

    Raises
    ------
    FileNotFoundError
        If there is no report.
    """
    path = folder / INDEX if path is None else path
    rows: list[dict[str, Any]] = []
    for page in sorted(visible(folder, "*.html")):
        summary = read_summary(page)
        if summary is not None:
            rows.append({**summary, "href": quote(Path(os.path.relpath(page, path.parent)).as_posix())})
            if len(rows) > _MOST_THUMBNAILS:  # a page of so many pictures would be too large to open
                for row in rows[0 if len(rows) == _MOST_THUMBNAILS + 1 else -1 :]:
                    row["thumbnail"] = None
    if not rows:
        raise FileNotFoundError(f"{folder}: holds no report")
    limits = _limits(rows)
    charted = [row for row in rows if not row["not_valid"]]
    text = (
        environment()
        .get_template("group.html")
        .render(
            rows=rows,
            limits=limits,
            title=folder.resolve().name,
            disclaimer=NOTE,
            style=template_text("style.css").replace("{{ gradient }}", "none"),
            script=template_text("group.js"),
            chart=_distributions(charted) if len(charted) >= _CHARTED else None,
            uncharted=len(rows) - len(charted),
        )
    )
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _limits(rows: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({limit for row in rows for limit in row["detected_ml"]}, key=float)


def _distributions(rows: Sequence[dict[str, Any]]) -> str:
    """One strip of dots for each of the volumes, as an SVG element; every dot is a scan."""
    from matplotlib.figure import Figure

    groups: list[tuple[str, list[float], float | None]] = [("brain, ml", [row["brain_ml"] for row in rows], None)]
    for limit in _limits(rows):
        values = [row["detected_ml"][limit] for row in rows if limit in row["detected_ml"]]
        allowed = [row["allowed_ml"][limit] for row in rows if limit in row["allowed_ml"]]
        groups.append((f"detected at {limit} %, ml", values, float(np.median(allowed))))
    figure = Figure(figsize=(9.0, 0.75 * len(groups) + 0.3), layout="constrained")
    for axes, (name, values, expected) in zip(np.atleast_1d(figure.subplots(len(groups), 1)), groups, strict=True):
        # Dots of like values are set apart by their order alone, so that the same scans give the same picture.
        offsets = np.empty(len(values))
        offsets[np.argsort(values, kind="stable")] = np.arange(len(values)) % 5 - 2.0
        axes.plot(values, offsets, "o", color="#0b62a8", alpha=0.65, ms=5, mew=0)
        if expected is not None:
            axes.axvline(expected, color="#9a5200", lw=1.2, ls="--")
        axes.set_xlim(left=0)
        axes.set_ylim(-4, 4)
        axes.set_yticks([])
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(labelsize=8)
    text = figure_bytes(figure, "svg").decode("utf-8")
    return text[text.index("<svg") :]
