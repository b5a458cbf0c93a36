"""An evaluation as tables: for people in Markdown, for programs as one row for each scan, method and limit."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from lesioncore.about import NOTE
from lesioncore.evaluation.case import CaseScore, LimitScore
from lesioncore.evaluation.protocol import Evaluation
from lesioncore.evaluation.summary import defined

_NONE = "–"
_MOST_NAMED = 10


def markdown(summary: Mapping[str, Any]) -> str:
    """The paper's tables (its Tables 1 to 3) and what the field compares by, of :meth:`Evaluation.summary`."""
    parts = ["# Evaluation", _scans(summary), *_unusual(summary)]
    if summary["subjects"]:
        parts += [*_pooled(summary), *_at_limits(summary), *_differences(summary)]
    if summary["healthy_subjects"]:
        parts += _healthy(summary)
    return "\n\n".join([*parts, NOTE]) + "\n"


def subjects_csv(evaluation: Evaluation) -> str:
    """One row for each scan, method and limit; cells without a value are empty."""
    rows = [
        {**_facts(method, case, healthy), **at_limit}
        for healthy, scores in ((False, evaluation.patients), (True, evaluation.healthy))
        for method, cases in scores.items()
        for case in cases
        for at_limit in [_cells(limit, score) for limit, score in case.at_limit.items()] or [{}]
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def percent(share: float) -> str:
    """``0.05`` as ``5 %``."""
    return f"{100 * share:.3g} %"


def _scans(summary: Mapping[str, Any]) -> str:
    empty = f" ({summary['without_lesion']} without lesion in the brain)" if summary["without_lesion"] else ""
    ill, healthy = (
        f"{summary[scans]}" + (f" of {summary[people]} people" if summary[people] < summary[scans] else "")
        for scans, people in (("subjects", "people"), ("healthy_subjects", "healthy_people"))
    )
    return f"Scans with lesion masks: {ill}{empty}. Healthy scans: {healthy}."


def _unusual(summary: Mapping[str, Any]) -> list[str]:
    """Which scans are unlike the calibration's; in what is in the table of scans."""
    lines = []
    for name, found in summary["methods"].items():
        scans = [row["subject"] for row in found["unusual"]]
        if scans:
            more = f" and {len(scans) - _MOST_NAMED} more" if len(scans) > _MOST_NAMED else ""
            lines.append(f"- {name}: {len(scans)} ({', '.join(scans[:_MOST_NAMED])}{more})")
    head = (
        "**Scans unlike the healthy ones of the calibration**, for which thresholds may not hold; the column remarks of"
        " subjects.csv says in what:"
    )
    return [head, "\n".join(lines)] if lines else []


def _pooled(summary: Mapping[str, Any]) -> list[str]:
    """What does not need thresholds, and the Dice at those that a method has."""
    methods = summary["methods"]
    limits = dict.fromkeys(row["limit"] for found in methods.values() for row in found["at_limit"])
    first, second = [], []
    for name, found in methods.items():
        at = {row["limit"]: row["dice"] for row in found["at_limit"]}
        dices = [_with_sd(at.get(limit)) for limit in limits]
        first.append([name, _with_interval(found, "auc"), *dices, _with_sd(found["dice_at_youden"])])
        seconds = f"{found['seconds']:.2f}"
        second.append([name, _with_interval(found, "average_precision"), _number(found["best_dice"]), seconds])
    return [
        "Voxels of all scans together; Dice is the mean ± deviation over scans.",
        _table(["method", "AUC (95 %)", *(f"Dice at {percent(x)}" for x in limits), "Dice at best TPR - FPR*"], first),
        _table(["method", "AUPRC (95 %)", "largest pooled Dice*", "s per scan"], second),
        "*This threshold was chosen with the labels: no result of an unsupervised method.",
    ]


def _at_limits(summary: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            name,
            percent(row["limit"]),
            *(_with_sd(row[key]) for key in ("sensitivity", "precision", "fpr")),
            *(_number(row[f"lesion_{key}"]) for key in ("recall", "precision", "f1")),
            _NONE if row["hausdorff_mm"] is None else f"{row['hausdorff_mm']:.1f} ({row['hausdorff_scans']})",
        ]
        for name, found in summary["methods"].items()
        for row in found["at_limit"]
    ]
    head = ["method", "limit", "sensitivity", "precision", "FPR", "lesions found", "lesion precision", "lesion F1"]
    people = {name: found["detector"]["calibration_subjects"] for name, found in summary["methods"].items()}
    whose = ", ".join(f"{name}: {count}" for name, count in people.items() if count is not None)
    text = [
        f"At the thresholds from healthy people ({whose}); lesion-wise figures of all scans together; HD95 is the"
        " median over the scans with a lesion and a detection.",
        _table([*head, "HD95, mm (scans)"], rows),
    ]
    return text if rows else []


def _differences(summary: Mapping[str, Any]) -> list[str]:
    differences = summary["differences"]
    limits = dict.fromkeys(row["limit"] for found in differences for row in found["at_limit"])
    rows = []
    for found in differences:
        at = {row["limit"]: row for row in found["at_limit"]}
        dices = [_with_interval(at.get(limit, {}), "dice", "+.3f") for limit in limits]
        rows.append([f"{found['method']} minus {found['versus']}", _with_interval(found, "auc", "+.3f"), *dices])
    text = [
        "Paired differences with 95 % bootstrap intervals over people:",
        _table(["methods", "AUC", *(f"Dice at {percent(limit)}" for limit in limits)], rows),
    ]
    return text if rows else []


def _healthy(summary: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            name,
            percent(row["limit"]),
            f"{row['healthy_fpr']:.4f}",
            _with_sd(row["healthy_fpr_of_subjects"], ".4f"),
            f"{row['healthy_fpr_largest']:.4f}",
            percent(row["healthy_above_limit"]),
        ]
        for name, found in summary["methods"].items()
        for row in found["at_limit"]
    ]
    head = ["method", "limit", "FPR of all voxels", "of scans", "largest", "scans above the limit"]
    return ["Healthy people:", _table(head, rows)] if rows else ["No method has thresholds to try on healthy people."]


def _facts(method: str, case: CaseScore, healthy: bool) -> dict[str, Any]:
    return {
        "method": method,
        "subject": case.subject,
        "person": case.person,
        "healthy": int(healthy),
        "lesion_ml": f"{case.lesion_ml:.3f}",
        "brain_ml": f"{case.brain_ml:.1f}",
        "seconds": f"{case.seconds:.2f}",
        "auc": _number(defined(case.histogram.auc), ".5f", ""),
        "remarks": "; ".join(case.remarks),
    }


def _cells(limit: float, score: LimitScore) -> dict[str, Any]:
    names = ("dice", "sensitivity", "precision", "fpr")
    return {
        "limit": limit,
        **{name: _number(defined(getattr, score.confusion, name), ".5f", "") for name in names},
        "lesions_found": score.lesions.found,
        "lesions_missed": score.lesions.missed,
        "detections_true": score.lesions.true_detections,
        "detections_false": score.lesions.false_detections,
        "hausdorff_mm": _number(score.hausdorff, ".2f", ""),
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *cells])


def _number(value: float | None, digits: str = ".3f", none: str = _NONE) -> str:
    return none if value is None else format(value, digits)


def _with_sd(found: Mapping[str, float] | None, digits: str = ".3f") -> str:
    return _NONE if found is None else f"{found['mean']:{digits}} ± {found['sd']:{digits}}"


def _with_interval(found: Mapping[str, Any], name: str, digits: str = ".3f") -> str:
    interval = found.get(f"{name}_interval")
    return _number(found.get(name), digits) + (
        f" ({interval[0]:{digits}} to {interval[1]:{digits}})" if interval else ""
    )
