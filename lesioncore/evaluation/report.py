"""Files of an evaluation: JSON, tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lesioncore.about import NOTE
from lesioncore.data.files import replace_together
from lesioncore.evaluation.protocol import Evaluation
from lesioncore.evaluation.tables import markdown, subjects_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(evaluation: Evaluation, folder: Path, *, figures: bool = True) -> dict[str, Path]:
    """Write ``metrics.json``, ``subjects.csv``, ``tables.md`` and, if wanted, the figures.

    Parameters
    ----------
    evaluation : Evaluation
        From :func:`evaluate`.
    folder : Path
        Created when absent. The files appear in it together, ``metrics.json`` last, and replace those of their names.
    figures : bool
        Draw ROC curves (``roc.png``) and, for the first method that has thresholds, Dice and false-positive rate
        against lesion volume at each limit (such as ``size_fpr05.png``). Nothing is drawn if no scan has a lesion, and
        no ROC curve if lesions fill all brains.

    Returns
    -------
    dict of str to Path
        The files by name.

    Raises
    ------
    ImportError
        If figures are wanted and matplotlib, the extra `figures`, is missing.
    """
    summary = evaluation.summary()
    texts = {
        "metrics.json": json.dumps({**summary, "note": NOTE}, indent=1, allow_nan=False) + "\n",
        "subjects.csv": subjects_csv(evaluation),
        "tables.md": markdown(summary),
    }
    pictures = (folder / "roc.png", *folder.glob("size_fpr*.png"))  # an earlier evaluation's are of other figures
    with replace_together(folder, "metrics.json", earlier=pictures) as made:
        for name, text in texts.items():
            (made / name).write_text(text, encoding="utf-8")
        names = [*texts]
        if figures and summary["subjects"] > summary["without_lesion"]:
            roc = all(row["auc"] is not None for row in summary["methods"].values())
            names += _draw(evaluation, made, roc=roc)
    return {name: folder / name for name in names}


def _draw(evaluation: Evaluation, folder: Path, *, roc: bool) -> list[str]:
    from lesioncore.evaluation.figures import roc_figure, size_figure
    from lesioncore.restoration.figure import save_figure

    pictures: dict[str, Figure] = {"roc.png": roc_figure(evaluation)} if roc else {}
    name = next((name for name, cases in evaluation.patients.items() if cases[0].at_limit), None)
    if name is not None:
        cases = evaluation.patients[name]
        pictures |= {f"size_fpr{100 * limit:02g}.png": size_figure(name, cases, limit) for limit in cases[0].at_limit}
    for file, figure in pictures.items():
        save_figure(figure, folder / file)
    return [*pictures]
