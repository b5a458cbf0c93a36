"""The paper's Tables 1 to 3 with the figures of a reproduction, and the published ones beside them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lesioncore.data.files import replace_atomically
from lesioncore.evaluation.form import MISSING, number, table, with_sd
from lesioncore.metrics.limits import LIMITS
from lesioncore.reproduction.paper import SUPERVISED_DICE, TABLE_1, TABLE_2, TABLE_3, Row
from lesioncore.reproduction.plan import PATIENTS, QUICK, Plan

TABLES: dict[str, tuple[str, Sequence[Row]]] = {
    "table1": ("T2w", TABLE_1),
    "table2": ("T1w", TABLE_2),
    "table3": ("T2w", TABLE_3),
}
"""Contrast and published rows."""

_HEADER = ("AUC", "DSC1", "DSC5", "DSC10", "DSC_AUC", "lambda")
_SIMULATED = "Simulated people stand in place of the paper's data, and models are smaller: figures are not comparable."
_QUICK = "Made with --quick: models are tiny and hardly trained, and figures mean nothing."


def write_tables(plan: Plan) -> list[Path]:
    """Write the wanted tables as Markdown and CSV into the folder ``tables``.

    Parameters
    ----------
    plan : Plan
        Its evaluations are done.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    FileNotFoundError
        If an evaluation has not been done.
    """
    folder, files = Path(plan.out) / "tables", []
    folder.mkdir(parents=True, exist_ok=True)
    for name, (contrast, published) in TABLES.items():
        if name not in plan.wanted:
            continue
        methods = json.loads((Path(plan.evaluation(contrast)) / "metrics.json").read_text())["methods"]
        rows = [[row.label, *_beside(methods.get(row.name), row)] for row in published]
        if name != "table3":
            # The paper has one Dice of it, in the last column, and no other figure.
            rows.append(["U-Net (supervised)", *[MISSING] * 9, f"{SUPERVISED_DICE[contrast]:.2f}", *[MISSING] * 2])
        header = ["method", *(f"{column}{of}" for column in _HEADER for of in ("", " (paper)"))]
        title = f"# Table {name[-1]}: {PATIENTS[contrast] if plan.sources else 'simulated people'}"
        note = "DSC is the mean ± standard deviation over people; DSC_AUC has its threshold from the labels."
        warnings = [_SIMULATED] * (not plan.sources) + [_QUICK] * (plan.size == QUICK)
        texts = {
            ".md": "\n\n".join([title, note, *warnings, table(header, rows)]) + "\n",
            ".csv": _csv([header, *rows]),
        }
        for ending, text in texts.items():
            files.append(folder / f"{name}{ending}")
            with replace_atomically(files[-1]) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return files


def _beside(ours: Mapping[str, Any] | None, paper: Row) -> list[str]:
    """Cells of a row: each figure of the reproduction, and the published one."""
    published = [number(paper.auc, ".2f")]
    published += [f"{mean:.2f} ± {sd:.2f}" for mean, sd in paper.dice] or [MISSING] * 4
    published.append(number(paper.tv_weight, "g"))
    own = [MISSING] * len(published)
    if ours is not None:
        dice = {row["limit"]: row["dice"] for row in ours["at_limit"]}
        own = [number(ours["auc"], ".2f"), *(with_sd(dice.get(limit), ".2f") for limit in LIMITS)]
        own += [with_sd(ours["dice_at_youden"], ".2f"), number(ours["detector"]["tv_weight"], "g")]
    return [cell for pair in zip(own, published, strict=True) for cell in pair]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
