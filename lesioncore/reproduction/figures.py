"""The paper's Figures 4 to 11 from what the evaluations and calibrations of a reproduction have left."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lesioncore.choices import ReproductionResult
from lesioncore.data.files import replace_atomically
from lesioncore.models.io import load_model
from lesioncore.models.prior import metadata_of
from lesioncore.reproduction.plan import NEEDS, PATIENTS, Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES: dict[ReproductionResult, str] = {
    "figure4": "roc.png",
    "figure5": "examples/*_slices.png",
    "figure6": "examples/*_slices.png",
    "figure7": "size_fpr05.png",
    "figure8": "size_fpr05.png",
    "figure9": "examples/*_neighbours.png",
    "figure10": "curves.png",
    "figure11": "curves.png",
}
"""Pictures of an evaluation that a figure is made of."""


def write_figures(plan: Plan) -> list[Path]:
    """Copy or draw the wanted figures into the folder ``figures``.

    Parameters
    ----------
    plan : Plan
        Its evaluations and calibrations are done.

    Returns
    -------
    list of Path
        The files, such as ``figure4_brats17.png``.

    Raises
    ------
    FileNotFoundError
        If an evaluation has not drawn what a figure is made of.
    ImportError
        If matplotlib, the extra `figures`, is missing.
    """
    from lesioncore.restoration.figure import save_figure

    folder, files = Path(plan.out) / "figures", list[Path]()
    folder.mkdir(parents=True, exist_ok=True)
    for name, pattern in PICTURES.items():
        if name not in plan.wanted:
            continue
        for contrast in NEEDS[name]:
            found = sorted(Path(plan.evaluation(contrast)).glob(pattern))
            if not found:
                raise FileNotFoundError(
                    f"{name}: no {pattern} in {plan.evaluation(contrast)}; do the step evaluate with {name} among what"
                    " is wanted"
                )
            for number, picture in enumerate(found, start=1):
                part = f"_{number}" if len(found) > 1 else ""
                files.append(folder / f"{name}_{PATIENTS[contrast]}{part}.png")
                with replace_atomically(files[-1]) as temporary:
                    shutil.copyfile(picture, temporary)
            if pattern == "curves.png":
                files.append(folder / f"{name}_{PATIENTS[contrast]}_change.png")
                save_figure(change_figure({of: plan.prior(of, contrast) for of in NEEDS[name][contrast]}), files[-1])
    return files


def change_figure(priors: Mapping[str, str]) -> Figure:
    """Mean change of healthy images against the weight λ, of each GMVAE (paper Fig. 10a and 11a).

    Parameters
    ----------
    priors : mapping of str to str
        Folders of priors that were calibrated by it, by their names.

    Returns
    -------
    matplotlib.figure.Figure
        Not tied to pyplot or to a display.
    """
    from lesioncore.restoration.figure import require_matplotlib

    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name, folder in priors.items():
        calibration = metadata_of(load_model(folder)).calibration
        assert calibration is not None  # it comes from the command calibrate
        assert calibration.tv_weight is not None
        weights = [row["tv_weight"] for row in calibration.curve]
        changes = [row["change"] for row in calibration.curve]
        (line,) = axes.plot(weights, changes, "o-", markersize=4, label=name)
        axes.axvline(calibration.tv_weight, color=line.get_color(), linewidth=0.8)
    axes.set(xlabel="data-consistency weight λ", ylabel="mean change of healthy pixels, z-scores")
    legend = axes.legend(title="prior; the line is its λ", fontsize=8, title_fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names are no formulas
    return figure
