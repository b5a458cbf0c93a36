"""Sections of the results on other cohorts than the phantom's, as Markdown lines."""

from __future__ import annotations

from typing import Any

from _sections import both, place

METHODS = ("MAP", "MAP, signed", "one TV prox", "smoothed projection", "smoothed intensity, signed")


def robustness() -> list[str]:
    found = both("robustness")
    first = found["T2w"]
    lines = [
        "**Other cohorts than the prior's**: AUC with weight, smoothing and thresholds from the unchanged phantom's"
        f" healthy people, on {first['patients']} patients for each condition, the same people in all of the phantom's;"
        f" one group of its parameters changes at a time (`python bench/robustness.py`; {place(first)}). *Margin*: MAP"
        " minus whichever of the three baselines is best on these very patients, with a paired 95 % interval over"
        " patients; *signed*: MAP and all baselines know whether lesions are bright or dark, as the intensity threshold"
        " always does."
        " *Foreign*: another generator, which shares the mean anatomy alone (`bench/foreign.py`). Sensitivity and"
        " false-positive rate are MAP's at the 5 % limit, means over patients.",
        "",
        "| | condition | lesion, ml | MAP | signed | TV prox | projection, smoothed | intensity, smoothed | margin |"
        " margin, signed | sensitivity | false positives |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        for condition, row in facts["conditions"].items():
            aucs = " | ".join(f"{row['methods'][name]['auc']:.3f}" for name in METHODS)
            at = row["methods"]["MAP"]["at_limit_shipped"]
            lines.append(
                f"| {contrast} | {condition} | {row['lesion_ml']:.1f} | {aucs} | {_margin(row['margin'])} |"
                f" {_margin(row['margin_signed'])} | {at['sensitivity']:.2f} | {at['fpr']:.3f} |"
            )
    return [*lines, "", *_foreign(found)]


def _margin(row: dict[str, Any]) -> str:
    low, high = row["auc_interval"]
    return f"{row['auc']:+.3f} ({low:+.3f} to {high:+.3f})"


def _foreign(found: dict[str, dict[str, Any]]) -> list[str]:
    """How far thresholds from the phantom hold on the foreign generator's people, and those from its own."""
    first = found["T2w"]
    lesions = [name for name in first["conditions"] if name.startswith("foreign: ")]
    lines = [
        f"MAP's thresholds on {first['foreign_new_healthy']} healthy people of the foreign generator, as shipped and"
        f" recalibrated on {first['foreign_calibration_healthy']} others of it, λ and smoothing as they were:",
        "",
        "| | thresholds | false-positive rate at 1 / 5 / 10 % | largest at 5 % | sensitivity at 5 %: "
        + " / ".join(name.removeprefix("foreign: ") for name in lesions)
        + " |",
        "|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        for of, rows in facts["foreign_healthy"]["MAP"].items():
            rates = " / ".join(f"{row['fpr']:.3f}" for row in rows)
            largest = next(row["largest"] for row in rows if row["limit"] == facts["limit"])
            detected = [facts["conditions"][name]["methods"]["MAP"][f"at_limit_{of}"] for name in lesions]
            shares = " / ".join(f"{row['sensitivity']:.2f}" for row in detected)
            lines.append(f"| {contrast} | {of} | {rates} | {largest:.3f} | {shares} |")
    return lines
