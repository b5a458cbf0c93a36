"""An evaluation as tables: for people in Markdown, for programs as one row for each scan, method and limit."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from lesioncore.evaluation.protocol import Evaluation
from lesioncore.evaluation.summary import per_subject
from lesioncore.metrics import UndefinedMetricError

NOTE = "Research software, not a medical device."


def markdown(summary: Mapping[str, Any], *, title: str = "Evaluation") -> str:
    """The paper's table (its Tables 1 to 3) and what the field compares by, of :meth:`Evaluation.summary`."""
    methods = summary["methods"]
    parts = [f"# {title}", f"{summary['subjects']} scans with lesions, {summary['healthy_subjects']} healthy ones."]
    if summary["subjects"]:
        limits = [row["limit"] for row in max((m["at_limit"] for m in methods.values()), key=len)]
        head = ["method", "AUC (95 %)", *(f"Dice at {percent(x)}" for x in limits), "Dice at TPR - FPR largest*"]
        rows = []
        for name, found in methods.items():
            at = {row["limit"]: row["dice"] for row in found["at_limit"]}
            dices = [_spread(at.get(limit)) for limit in limits]
            rows.append([name, _interval(found, "auc"), *dices, _spread(found["dice_at_youden"])])
        parts += ["Voxels of all scans together; Dice is the mean ± deviation over scans.", table(head, rows)]
        head = ["method", "AUPRC (95 %)", "largest pooled Dice*", "s per scan"]
        rows = [
            [name, _interval(m, "average_precision"), f"{m['best_dice']:.3f}", f"{m['seconds']:.2f}"]
            for name, m in methods.items()
        ]
        parts += [table(head, rows), "*This threshold was chosen with the labels: no result of an unsupervised method."]
        head = ["method", "limit", "sensitivity", "precision", "FPR", "lesions found", "lesion precision", "lesion F1"]
        rows = [
            [
                name,
                percent(row["limit"]),
                *(_spread(row[key]) for key in ("sensitivity", "precision", "fpr")),
                *(number(row[f"lesion_{key}"]) for key in ("recall", "precision", "f1")),
                "–" if row["hausdorff_mm"] is None else f"{row['hausdorff_mm']:.1f} ({row['hausdorff_scans']})",
            ]
            for name, found in methods.items()
            for row in found["at_limit"]
        ]
        if rows:
            parts += [
                "At the thresholds from healthy people; lesion-wise figures of all scans together; HD95 is the median"
                " over the scans with a detection.",
                table([*head, "HD95, mm (scans)"], rows),
            ]
        if summary.get("differences"):
            parts += ["Paired differences with 95 % bootstrap intervals over scans:", _differences(summary)]
    if summary["healthy_subjects"]:
        head = ["method", "limit", "FPR of all voxels", "of scans", "largest", "scans above the limit"]
        rows = [
            [
                name,
                percent(row["limit"]),
                f"{row['healthy_fpr']:.4f}",
                _spread(row["healthy_fpr_of_subjects"], 4),
                f"{row['healthy_fpr_largest']:.4f}",
                percent(row["healthy_above_limit"]),
            ]
            for name, found in methods.items()
            for row in found["at_limit"]
        ]
        parts += ["Healthy people:", table(head, rows)]
    return "\n\n".join([*parts, NOTE]) + "\n"


def subjects_csv(evaluation: Evaluation) -> str:
    """One row for each scan, method and limit; cells without a value are empty."""
    rows: list[dict[str, Any]] = []
    for healthy, scores in ((False, evaluation.patients), (True, evaluation.healthy)):
        for method, cases in scores.items():
            for case in cases:
                facts = {"method": method, "subject": case.subject, "healthy": int(healthy)}
                facts |= {"lesion_ml": f"{case.lesion_ml:.3f}", "brain_ml": f"{case.brain_ml:.1f}"}
                facts |= {"seconds": f"{case.seconds:.2f}", "auc": _auc(case.histogram)}
                rows += [
                    {
                        **facts,
                        "limit": limit,
                        **{k: f"{per_subject(score, k):.5f}" for k in ("dice", "sensitivity", "precision", "fpr")},
                        "lesions_found": score.lesions.found,
                        "lesions_missed": score.lesions.missed,
                        "detections_true": score.lesions.true_detections,
                        "detections_false": score.lesions.false_detections,
                        "hausdorff_mm": "" if score.hausdorff is None else f"{score.hausdorff:.2f}",
                    }
                    for limit, score in case.at_limit.items()
                ] or [facts]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value == "nan" else value for key, value in row.items()} for row in rows)
    return text.getvalue()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def percent(share: float) -> str:
    """``0.05`` as ``5 %``."""
    return f"{100 * share:.3g} %"


def number(value: float | None) -> str:
    """Three decimals; a dash for what has no value."""
    return "–" if value is None else f"{value:.3f}"


def _spread(found: Mapping[str, float] | None, digits: int = 3) -> str:
    return "–" if found is None else f"{found['mean']:.{digits}f} ± {found['sd']:.{digits}f}"


def _interval(found: Mapping[str, Any], name: str) -> str:
    interval = found.get(f"{name}_interval")
    return f"{found[name]:.3f}" + ("" if interval is None else f" ({interval[0]:.3f}–{interval[1]:.3f})")


def _differences(summary: Mapping[str, Any]) -> str:
    keys = [key for key in summary["differences"][0] if f"{key}_interval" in summary["differences"][0]]
    titles = ["AUC" if key == "auc" else f"Dice at {percent(float(key.split('_')[1]))}" for key in keys]
    rows = []
    for row in summary["differences"]:
        cells = []
        for key in keys:
            interval = row.get(f"{key}_interval")
            cells.append("–" if interval is None else f"{row[key]:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})")
        rows.append([f"{row['method']} minus {row['versus']}", *cells])
    return table(["methods", *titles], rows)


def _auc(histogram: Any) -> str:
    try:
        return f"{histogram.auc():.5f}"
    except UndefinedMetricError:
        return ""
