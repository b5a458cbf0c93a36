"""Pictures of an evaluation: ROC curves, and detection against the lesion's size (paper Fig. 4, 7 and 8)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from lesioncore.evaluation.case import CaseScore
from lesioncore.evaluation.form import percent
from lesioncore.evaluation.protocol import Evaluation
from lesioncore.evaluation.summary import pooled, value_or_none
from lesioncore.restoration.figure import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which most colour-blind readers can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_SIZE = (5.6, 4.4)


def roc_figure(evaluation: Evaluation) -> Figure:
    """ROC curves of all methods, over the voxels of all scans (paper Fig. 4), up to a false-positive rate of 0.5.

    Returns
    -------
    matplotlib.figure.Figure
        Not tied to pyplot or to a display; write it with :func:`lesioncore.restoration.figure.save_figure`.

    Raises
    ------
    UndefinedMetricError
        If no scan has a lesion voxel.
    ImportError
        If matplotlib, the extra `figures`, is missing.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=150, layout="constrained")
    axes = figure.add_subplot()
    limits = dict.fromkeys(limit for cases in evaluation.patients.values() for limit in cases[0].at_limit)
    markers = dict(zip(limits, cycle("osD^v"), strict=False))
    for index, (name, cases) in enumerate(evaluation.patients.items()):
        histogram = pooled(cases)
        curve = histogram.roc()
        colour, style = _COLOURS[index % len(_COLOURS)], ("-", "--", ":")[index // len(_COLOURS) % 3]
        axes.plot(curve.fpr, curve.tpr, style, color=colour, label=f"{name} ({histogram.auc():.3f})")
        for limit in cases[0].at_limit:
            confusions = [case.at_limit[limit].confusion for case in cases]
            total = sum(confusions[1:], confusions[0])
            axes.plot(total.fpr, total.sensitivity, markers[limit], color=colour, markersize=5)
    for limit, marker in markers.items():
        axes.plot([], [], marker, color="0.4", markersize=5, label=f"threshold at {percent(limit)}")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, 0.5), ylim=(0, 1), xlabel="false-positive rate", ylabel="sensitivity")
    axes.set_title("Voxels of all scans; thresholds are from healthy people", fontsize=9)
    legend = axes.legend(title="method (AUC)", fontsize=8, title_fontsize=8, loc="lower right")
    for text in legend.get_texts():
        text.set_parse_math(False)  # names are no formulas, whatever dollar signs they have
    return figure


def size_figure(method: str, cases: Sequence[CaseScore], limit: float) -> Figure:
    """Dice and false-positive rate of each scan against its lesion's volume (paper Fig. 7 and 8).

    A scan without lesion voxels is not shown, since the axis of volumes is logarithmic.

    Parameters
    ----------
    method : str
        Name for the title.
    cases : sequence of CaseScore
        Scans with lesions, scored at `limit`.
    limit : float
        False-positive-rate limit of the threshold.

    Returns
    -------
    matplotlib.figure.Figure
        As for :func:`roc_figure`.

    Raises
    ------
    ImportError
        If matplotlib, the extra `figures`, is missing.
    """
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(2 * _SIZE[0], _SIZE[1]), dpi=150, layout="constrained")
    volumes = np.array([case.lesion_ml for case in cases])
    panels = figure.subplots(1, 2)
    panels[1].axhline(limit, color=_COLOURS[1], linewidth=0.8, label="limit")
    panels[1].legend(fontsize=8)
    for axes, statistic, label in zip(panels, ("dice", "fpr"), ("Dice", "false-positive rate"), strict=True):
        values = [value_or_none(getattr, case.at_limit[limit].confusion, statistic) for case in cases]
        axes.plot(volumes, np.array(values, float), "o", color=_COLOURS[0], alpha=0.7)
        axes.set(xscale="log", xlabel="lesion volume, ml", ylabel=label, ylim=(0, 1 if statistic == "dice" else None))
        axes.xaxis.set_major_formatter(LogFormatter())  # plain numbers, no powers of ten
        axes.xaxis.set_minor_formatter(LogFormatter())
    figure.suptitle(f"{method}, threshold at {percent(limit)}", fontsize=10, parse_math=False)
    return figure
