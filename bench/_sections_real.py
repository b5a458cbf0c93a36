"""Section of the results on real heads, as Markdown lines."""

from __future__ import annotations

from statistics import median

from _bench import RESULTS
from _sections import place, read

_LIMITS = ("0.01", "0.05", "0.1")


def real() -> list[str]:
    found = {
        contrast: read(f"real_{contrast}")
        for contrast in ("T1w", "T2w", "FLAIR")
        if (RESULTS / f"real_{contrast}.json").exists()
    }
    places = "; ".join(dict.fromkeys(place(facts) for facts in found.values()))
    lines = [
        "**Real heads** whose scans neither prior nor calibration has seen (`python bench/real.py`, which says where"
        f" such scans come from; {places}). Thresholds come from simulated people and people on simulated"
        " scanners, on T1w from real heads of trained people as well. *Signed*, and `MAP` of `real-*`: bright lesions"
        " on T2w and FLAIR, dark ones on T1w. Share of healthy people's voxels above each limit, in %, mean over people"
        " and the largest at 5 %:",
        "",
        "| prior, preprocessing | healthy people | method | 1 % | 5 % | 10 % | largest at 5 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for facts in found.values():
        for row in facts["priors"]:
            for group, healthy in row["healthy"].items():
                for method, fpr in healthy["fpr"].items():
                    if not method.startswith("MAP"):
                        continue
                    cells = " | ".join(f"{100 * fpr[limit]['mean']:.1f}" for limit in _LIMITS)
                    lines.append(
                        f"| {_name(row)} | {healthy['people']}, {group} | {method} | {cells} |"
                        f" {100 * fpr['0.05']['largest']:.1f} |"
                    )
    lines += [
        "",
        "Patients: real strokes' shapes implanted into these heads where those strokes were, dark on T1w and bright"
        " otherwise; the phantom's gliomas implanted into them (4 to 160 ml; on T1w much of them looks like grey"
        " matter); and three people with multiple sclerosis (Open MS data), whose lesions are mostly smaller than what"
        " λ and smoothing are tuned to. `phantom-*` were measured before the bias correction's latest form. All methods"
        " of a prior have its unit, kind of map and asymmetry (*lesions of both sides*: `--asymmetry 0`); MAP's"
        " smoothing keeps edges, the projection's where it says so:",
        "",
        "| prior, preprocessing | patients | method | AUC | Dice at 1 / 5 / 10 % | % above, outside lesions |"
        " best Dice (label-using) |",
        "|---|---|---|---|---|---|---|",
    ]
    for facts in found.values():
        for row in facts["priors"]:
            for kind, judged in row["patients"].items():
                for method, figures in judged["methods"].items():
                    dice = " / ".join(f"{at['dice']['mean']:.2f}" for at in figures["at_limit"])
                    false = " / ".join(f"{100 * at['fpr']['mean']:.1f}" for at in figures["at_limit"])
                    low, high = figures["auc_interval"]
                    lines.append(
                        f"| {_name(row)} | {judged['scans']}, {kind} | {method} | {figures['auc']:.3f}"
                        f" ({low:.3f}–{high:.3f}) | {dice} | {false} | {figures['best_dice']:.2f} |"
                    )
    for file, section in (("real_changes", changed), ("extraction", extraction), ("bias", bias)):
        if (RESULTS / f"{file}.json").exists():
            lines += section()
    return lines


def extraction() -> list[str]:
    facts, tool = read("extraction"), read("extraction_deepbet")
    lines = [
        "",
        "**Brain extraction** of heads that its training has not seen (`python bench/extraction.py IXI_FOLDER --every"
        " 10 --offset 9`): Dice of the conventional mask and of the core, which detection uses, mean and the worst"
        " head; the core's volume relative to the true one. The reference is a network's masks and regions on T1w;"
        " *rendered*: the same anatomy in a contrast and on a scanner that are simulated. Beside it the mask of deepbet"
        " 1.0.2, which is made for T1w heads as scanners store them (`--tool deepbet`):",
        "",
        "| T1w heads | number | mask | core | core's volume | deepbet's mask |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in facts["summary"].items():
        mask, core, other = figures["dice_mask"], figures["dice_core"], tool["summary"][name]["dice_mask"]
        ratio = [row["core_volume"] / row["true_core_volume"] for row in facts["scans"][name]]
        lines.append(
            f"| {name} | {len(ratio)} | {mask['mean']:.3f} ({mask['worst']:.3f}) |"
            f" {core['mean']:.3f} ({core['worst']:.3f}) | {sum(ratio) / len(ratio):.2f} |"
            f" {other['mean']:.3f} ({other['worst']:.3f}) |"
        )
    return lines


def bias() -> list[str]:
    lines = [
        "",
        "**Bias correction of healthy heads** (`python bench/bias.py`, which says what is measured and how N4 is set):"
        " spread of white matter's level over the brain, as a standard deviation of the logarithm; share of a known"
        " field that stays; share of a large ball's contrast that is taken off with the field, the median head and the"
        " worst, and of implanted gliomas' (heads that have one above 25 ml); seconds of one correction:",
        "",
        "| | heads | method | white matter | field left | ball's contrast lost | gliomas' | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for contrast, rows in read("bias")["contrasts"].items():
        for name, row in rows.items():
            lost = " | ".join(
                f"{100 * median(row[key]):.0f} % ({100 * max(row[key], key=abs):.0f} %)" if row.get(key) else "–"
                for key in ("lost", "glioma")
            )
            lines.append(
                f"| {contrast} | {len(row['left'])} | {name} | {median(row['white_matter']):.3f} |"
                f" {100 * median(row['left']):.0f} % | {lost} | {median(row['seconds']):.1f} |"
            )
    return lines


def changed() -> list[str]:
    facts = read("real_changes")
    lines = [
        "",
        "**The same head, changed** (`python bench/real_changes.py`, before the bias correction's latest form): raw"
        " heads with an implant through `lesioncore restore`; the volume detected at the 5 % limit relative to that of"
        " the unchanged head, of each head; Dice of both detections, and with the implant, medians:",
        "",
        "| | change | volume relative to unchanged | Dice with unchanged | Dice with implant |",
        "|---|---|---|---|---|",
    ]
    for contrast, rows in facts["contrasts"].items():
        for name, row in rows.items():
            each = " / ".join(f"{ratio:.2f}" for ratio in row["relative_of_each"])
            lines.append(
                f"| {contrast} | {name} | {each} | {row['dice_with_unchanged']:.2f} | {row['dice_with_implant']:.2f} |"
            )
    return lines


def _name(row: dict) -> str:
    return f"`{row['prior']}`, {', '.join(row['preprocess']) or 'none'}"
