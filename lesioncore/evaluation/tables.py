"""Tables of an evaluation: Markdown for reading, and CSV with one row for each scan, method and limit."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from lesioncore.about import NOTE
from lesioncore.data.table_cells import table_cell
from lesioncore.evaluation.case import CaseScore, LimitScore
from lesioncore.evaluation.form import MISSING, number, percent, table, with_interval, with_sd
from lesioncore.evaluation.option_tables import boxes, strata
from lesioncore.evaluation.protocol import Evaluation
from lesioncore.evaluation.summary import value_or_none
from lesioncore.words import people

_MAX_NAMED = 10  # scans in the list of unusual ones


def markdown(summary: Mapping[str, Any]) -> str:
    """Format a summary as tables: those of the paper (Tables 1 to 3), and further usual statistics.

    Parameters
    ----------
    summary : mapping
        From :meth:`Evaluation.summary`.

    Returns
    -------
    str
        Markdown text.
    """
    parts = ["# Evaluation", _scans(summary), *_unusual(summary)]
    if summary["subjects"]:
        parts += [*_pooled(summary), *_at_limits(summary), *_differences(summary)]
    if summary["healthy_subjects"]:
        parts += _healthy(summary)
    parts += [*strata(summary), *boxes(summary)]
    return "\n\n".join([*parts, NOTE]) + "\n"


def subjects_csv(evaluation: Evaluation) -> str:
    """Format scores as CSV: a row for each scan, method and limit, with empty cells for undefined values.

    Parameters
    ----------
    evaluation : Evaluation
        From :func:`evaluate`.

    Returns
    -------
    str
        CSV text with a header line.
    """
    rows = [
        {**_case_cells(method, case, healthy), **limit_cells}
        for healthy, scores in ((False, evaluation.patients), (True, evaluation.healthy))
        for method, cases in scores.items()
        for case in cases
        for limit_cells in [_limit_cells(limit, score) for limit, score in case.at_limit.items()] or [{}]
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: table_cell(str(cell)) for key, cell in row.items()} for row in rows)
    return text.getvalue()


def _scans(summary: Mapping[str, Any]) -> str:
    without_lesion = f" ({summary['without_lesion']} without lesion in the brain)" if summary["without_lesion"] else ""
    patients, healthy = (
        f"{summary[scans]}" + (f" of {people(summary[persons])}" if summary[persons] < summary[scans] else "")
        for scans, persons in (("subjects", "people"), ("healthy_subjects", "healthy_people"))
    )
    boxed = f" Scans with boxes: {summary['boxed_subjects']}." if summary["boxed_subjects"] else ""
    return f"Scans with lesion masks: {patients}{without_lesion}. Healthy scans: {healthy}.{boxed}"


def _unusual(summary: Mapping[str, Any]) -> list[str]:
    """List the scans that are unlike the calibration's; the CSV table says how they differ."""
    lines = []
    for name, method in summary["methods"].items():
        scans = [row["subject"] for row in method["unusual"]]
        if scans:
            more = f" and {len(scans) - _MAX_NAMED} more" if len(scans) > _MAX_NAMED else ""
            lines.append(f"- {name}: {len(scans)} ({', '.join(scans[:_MAX_NAMED])}{more})")
    heading = (
        "**Scans unlike the healthy ones of the calibration**, for which thresholds may not hold; the column remarks of"
        " subjects.csv says in what:"
    )
    return [heading, "\n".join(lines)] if lines else []


def _pooled(summary: Mapping[str, Any]) -> list[str]:
    """Tables of the statistics that need no thresholds, and of the Dice at the thresholds of methods that have them."""
    methods = summary["methods"]
    limits = dict.fromkeys(row["limit"] for method in methods.values() for row in method["at_limit"])
    first_rows, second_rows = [], []
    for name, method in methods.items():
        dice_at = {row["limit"]: row["dice"] for row in method["at_limit"]}
        dices = [with_sd(dice_at.get(limit)) for limit in limits]
        first_rows.append([name, with_interval(method, "auc"), *dices, with_sd(method["dice_at_youden"])])
        average_precision, best_dice = with_interval(method, "average_precision"), number(method["best_dice"])
        second_rows.append([name, average_precision, best_dice, f"{method['seconds']:.2f}"])
    dice_header = [f"Dice at {percent(limit)}" for limit in limits]
    return [
        "Voxels of all scans together; Dice is the mean ± deviation over scans.",
        table(["method", "AUC (95 %)", *dice_header, "Dice at best TPR - FPR*"], first_rows),
        table(["method", "AUPRC (95 %)", "largest pooled Dice*", "s per scan"], second_rows),
        "*This threshold was chosen with the labels: no result of an unsupervised method.",
    ]


def _at_limits(summary: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            name,
            percent(row["limit"]),
            with_sd(row["sensitivity"]),
            f"{with_sd(row['precision'])} ({row['precision_scans']})",
            str(row["silent_scans"]),
            with_sd(row["fpr"]),
            number(row["lesion_recall"]),
            f"{number(row['lesion_precision'])} ({row['detections']})",
            number(row["lesion_f1"]),
            MISSING if row["hausdorff_mm"] is None else f"{row['hausdorff_mm']:.1f} ({row['hausdorff_scans']})",
        ]
        for name, method in summary["methods"].items()
        for row in method["at_limit"]
    ]
    header = ["method", "limit", "sensitivity", "precision (scans)", "silent scans", "FPR", "lesions found"]
    header += ["lesion precision (detections)", "lesion F1"]
    healthy = {name: method["detector"]["calibration_subjects"] for name, method in summary["methods"].items()}
    counts = ", ".join(f"{name}: {count}" for name, count in healthy.items() if count is not None)
    parts = [
        f"At the thresholds from healthy people ({counts}); the mean sensitivity is over the scans with a lesion, the"
        " mean precision over those on which something is detected, and silent scans are those on which nothing is;"
        " lesion-wise figures of all scans together; HD95 is the median over the scans with a lesion and a detection.",
        table([*header, "HD95, mm (scans)"], rows),
    ]
    return parts if rows else []


def _differences(summary: Mapping[str, Any]) -> list[str]:
    differences = summary["differences"]
    limits = dict.fromkeys(row["limit"] for difference in differences for row in difference["at_limit"])
    rows = []
    for difference in differences:
        row_at = {row["limit"]: row for row in difference["at_limit"]}
        dices = [with_interval(row_at.get(limit, {}), "dice", "+.3f") for limit in limits]
        methods = f"{difference['method']} minus {difference['versus']}"
        rows.append([methods, with_interval(difference, "auc", "+.3f"), *dices])
    parts = [
        "Paired differences with 95 % bootstrap intervals over people:",
        table(["methods", "AUC", *(f"Dice at {percent(limit)}" for limit in limits)], rows),
    ]
    return parts if rows else []


def _healthy(summary: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            name,
            percent(row["limit"]),
            f"{row['healthy_fpr']:.4f}",
            with_sd(row["healthy_fpr_of_subjects"], ".4f"),
            f"{row['healthy_fpr_largest']:.4f}",
            percent(row["healthy_above_limit"]),
        ]
        for name, method in summary["methods"].items()
        for row in method["at_limit"]
    ]
    header = ["method", "limit", "FPR of all voxels", "of scans", "largest", "scans above the limit"]
    return ["Healthy people:", table(header, rows)] if rows else ["No method has thresholds to try on healthy people."]


def _case_cells(method: str, case: CaseScore, healthy: bool) -> dict[str, Any]:
    return {
        "method": method,
        "subject": case.subject,
        "person": case.person,
        "healthy": int(healthy),
        "lesion_ml": f"{case.lesion_ml:.3f}",
        "contrast": number(case.contrast, ".3f", ""),
        "brain_ml": f"{case.brain_ml:.1f}",
        "seconds": f"{case.seconds:.2f}",
        "auc": number(value_or_none(case.histogram.auc), ".5f", ""),
        "remarks": "; ".join(case.remarks),
    }


def _limit_cells(limit: float, score: LimitScore) -> dict[str, Any]:
    names = ("dice", "sensitivity", "precision", "fpr")
    return {
        "limit": limit,
        **{name: number(value_or_none(getattr, score.confusion, name), ".5f", "") for name in names},
        "lesions_found": score.lesions.found,
        "lesions_missed": score.lesions.missed,
        "detections_true": score.lesions.true_detections,
        "detections_false": score.lesions.false_detections,
        "hausdorff_mm": number(score.hausdorff, ".2f", ""),
    }
