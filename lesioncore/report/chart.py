"""The chart of a scan's scores beside those of healthy people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lesioncore.calibration.healthy import LEVELS, HealthyScores
from lesioncore.restoration.figure import figure_bytes

_SCAN, _HEALTHY, _LIMIT = "#0b62a8", "#9aa5b1", "#5b6570"


def score_chart(scores: npt.NDArray[np.float32], healthy: HealthyScores, thresholds: dict[float, float]) -> str:
    """Draw the share of voxels above each score, for a scan and for healthy people.

    Parameters
    ----------
    scores : ndarray
        Scores of the brain's voxels, flat.
    healthy : HealthyScores
        The calibration's people.
    thresholds : dict of float to float
        Threshold at each false-positive rate.

    Returns
    -------
    str
        An SVG element.
    """
    from matplotlib.figure import Figure

    levels = np.array(LEVELS)
    own = np.quantile(scores, 1 - levels)
    people = np.array([subject.thresholds for subject in healthy.subjects])
    lower, middle, upper = np.quantile(people, [0.05, 0.5, 0.95], axis=0)
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_betweenx(100 * levels, lower, upper, color=_HEALTHY, alpha=0.45, lw=0, label="healthy people, 90 %")
    axes.plot(middle, 100 * levels, color=_LIMIT, lw=1.2, ls="--", label="median healthy person")
    axes.plot(own, 100 * levels, color=_SCAN, lw=2.2, label="this scan")
    for limit, threshold in thresholds.items():
        axes.plot(threshold, 100 * limit, "o", color=_LIMIT, ms=4)
        axes.annotate(
            f"{100 * limit:g} %", (threshold, 100 * limit), xytext=(-6, -4), textcoords="offset points", ha="right",
            va="top", fontsize=9, color=_LIMIT,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlim(min(0.0, float(lower.min())), 1.05 * max(float(own.max()), float(upper.max())))
    axes.set_ylim(0.01, 60)
    axes.set_yticks([0.01, 0.1, 1, 10], ["0.01 %", "0.1 %", "1 %", "10 %"])
    axes.set_xlabel("score")
    axes.set_ylabel("brain voxels above")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    text = figure_bytes(figure, "svg").decode("utf-8")
    return text[text.index("<svg") :]
