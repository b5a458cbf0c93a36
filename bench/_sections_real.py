"""Section of the results on real heads, as Markdown lines."""

from __future__ import annotations

from _bench import RESULTS
from _sections import place, read

_LIMITS = ("0.01", "0.05", "0.1")


def real() -> list[str]:
    found = {
        contrast: read(f"real_{contrast}")
        for contrast in ("T1w", "T2w", "FLAIR")
        if (RESULTS / f"real_{contrast}.json").exists()
    }
    first = next(iter(found.values()))
    lines = [
        "**Real heads** that neither prior nor calibration has seen (`python bench/real.py`, which says where such"
        f" scans come from; {place(first)}). Thresholds come from simulated people alone. Share of healthy people's"
        " voxels above each limit, in %, mean over people and the largest at 5 %; *in z-scores*: not divided by the"
        " scan's own spread:",
        "",
        "| prior, preprocessing | healthy people | method | 1 % | 5 % | 10 % | largest at 5 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for facts in found.values():
        for row in facts["priors"]:
            for group, healthy in row["healthy"].items():
                for method in ("MAP", "MAP, in z-scores"):
                    fpr = healthy["fpr"][method]
                    cells = " | ".join(f"{100 * fpr[limit]['mean']:.1f}" for limit in _LIMITS)
                    lines.append(
                        f"| {_name(row)} | {healthy['people']}, {group} | {method} | {cells} |"
                        f" {100 * fpr['0.05']['largest']:.1f} |"
                    )
    lines += [
        "",
        "Patients: real strokes' shapes implanted into these heads where those strokes were, dark on T1w and bright on"
        " T2w; and three people with multiple sclerosis (Open MS data), whose lesions are mostly smaller than what λ"
        " and smoothing are tuned to:",
        "",
        "| prior, preprocessing | patients | method | AUC | Dice at 1 / 5 / 10 % | best Dice (label-using) |",
        "|---|---|---|---|---|---|",
    ]
    for facts in found.values():
        for row in facts["priors"]:
            for kind, judged in row["patients"].items():
                for method, figures in judged["methods"].items():
                    dice = " / ".join(f"{at['dice']['mean']:.2f}" for at in figures["at_limit"])
                    low, high = figures["auc_interval"]
                    lines.append(
                        f"| {_name(row)} | {judged['scans']}, {kind} | {method} | {figures['auc']:.3f}"
                        f" ({low:.3f}–{high:.3f}) | {dice} | {figures['best_dice']:.2f} |"
                    )
    return lines


def _name(row: dict) -> str:
    return f"`{row['prior']}`, {', '.join(row['preprocess']) or 'none'}"
