"""Tables that are there on request: figures by groups of people, and boxes that are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lesioncore.evaluation.form import number, percent, table, with_interval, with_sd


def strata(summary: Mapping[str, Any]) -> list[str]:
    """Markdown of a summary's ``strata``, a table for each column; nothing without."""
    parts = []
    for column in dict.fromkeys(row["by"] for row in summary["strata"]):
        rows = []
        for stratum in (row for row in summary["strata"] if row["by"] == column):
            people = [
                str(stratum[count]) + (f" ({stratum[scans]} scans)" if stratum[scans] > stratum[count] else "")
                for count, scans in (("people", "scans"), ("healthy_people", "healthy_scans"))
            ]
            for name, method in stratum["methods"].items():
                auc = with_interval(method, "auc")
                for row in method["at_limit"] or [None]:
                    cells = [percent(row["limit"]), *_means(row)] if row else [""] * 4
                    rows.append([stratum["stratum"], *people, name, auc, *cells])
        header = [column, "patients", "healthy", "method", "AUC (95 %)", "limit"]
        header += ["FPR of healthy people (95 %)", "FPR of patients (95 %)", "Dice (95 %)"]
        parts.append(table(header, rows))
    heading = "By groups of people: AUC of all voxels of patients, else means over scans, with intervals over people."
    return [heading, *parts] if parts else []


def boxes(summary: Mapping[str, Any]) -> list[str]:
    """Markdown of how well boxes are found; nothing without boxes or thresholds."""
    rows = [
        [
            name,
            percent(row["limit"]),
            f"{row['iou']:g}",
            number(row["average_precision"]),
            number(row["recall"]),
            f"{number(row['precision'])} ({row['detections']})",
            str(row["silent_scans"]),
            number(row["accuracy"]),
        ]
        for name, method in summary["methods"].items()
        for row in method["boxes"]
    ]
    if not rows:
        return []
    first = next(row for method in summary["methods"].values() for row in method["boxes"])
    heading = (
        f"Boxes: {first['boxes']} in {first['images']} images with one. A detection is true from the intersection over"
        " union (IoU) on; accuracy is the share of these images in which a box is found."
    )
    header = ["method", "limit", "IoU", "AP", "recall", "precision (detections)", "silent scans", "accuracy"]
    return [heading, table(header, rows)]


def _means(row: Mapping[str, Any]) -> list[str]:
    """Means with their intervals, in the order of the table's columns."""
    cells = []
    for key in ("healthy_fpr", "fpr", "dice"):
        mean, bounds = row[key], row[f"{key}_interval"]
        values = {"mean": None if mean is None else mean["mean"], "mean_interval": bounds}
        cells.append(with_interval(values, "mean") if bounds else with_sd(mean))
    return cells
