"""Sections of the page on real scans."""

from __future__ import annotations

from statistics import mean, median
from typing import Any

from lesioncore.reproduction.paper import SUPERVISED_DICE, TABLE_1, TABLE_2
from tables.form import both, interval, place, read, slashed, table

LIMITS = ("0.01", "0.05", "0.1")
OUR_ROWS = {"MAP": "MAP, signed", "projection, smoothed, signed": "", "intensity, smoothed, signed": ""}
"""Rows of real scans that have one of the simulated patients beside them, and its name where that is another."""


def real_results() -> dict[str, dict[str, Any]]:
    return {contrast: read(f"real_{contrast}") for contrast in ("T1w", "T2w", "FLAIR")}


def scans() -> dict[str, Any]:
    found = real_results()
    rows = [row for facts in found.values() for row in facts["priors"]]
    healthy, patients = [], []
    for row in rows:
        name = f"`{row['prior']}`, {', '.join(row['preprocess']) or 'none'}"
        for group, judged in row["healthy"].items():
            for method, fpr in judged["fpr"].items():
                if method.startswith("MAP"):
                    above = [f"{100 * fpr[limit]['mean']:.1f}" for limit in LIMITS]
                    largest = f"{100 * fpr['0.05']['largest']:.1f}"
                    healthy.append((name, f"{judged['people']}, {group}", method, *above, largest))
        for kind, judged in row["patients"].items():
            for method, figures in judged["methods"].items():
                patients.append(
                    (
                        name,
                        f"{judged['scans']}, {kind}",
                        method,
                        interval(figures["auc"], *figures["auc_interval"]),
                        slashed((at["dice"]["mean"] for at in figures["at_limit"]), ".2f"),
                        slashed((100 * at["fpr"]["mean"] for at in figures["at_limit"]), ".1f"),
                        f"{figures['best_dice']:.2f}",
                    )
                )
    header = ("prior, preprocessing", "patients", "method", "AUC", "Dice at 1 / 5 / 10 %", "% above, outside lesions")
    return {
        "place": "; ".join(dict.fromkeys(place(facts) for facts in found.values())),
        "healthy": table(
            ("prior, preprocessing", "healthy people", "method", "1 %", "5 %", "10 %", "largest at 5 %"), healthy
        ),
        "patients": table((*header, "best Dice (label-using)"), patients),
    }


def beside_the_paper() -> dict[str, Any]:
    """The paper's figures, those of simulated patients, and those of implants in real heads."""
    models, simulated, real = both("models"), both("quality"), real_results()
    rows = []
    for contrast, published in (("T2w", TABLE_1), ("T1w", TABLE_2)):
        for row in published:
            ours = models[contrast]["methods"][row.label]
            rows.append(
                (
                    contrast,
                    row.label,
                    f"{row.auc:.2f}",
                    slashed((mean for mean, _ in row.dice[:3]), ".2f"),
                    f"{ours['auc']:.3f}",
                    slashed((ours[f"dice_{limit}"] for limit in LIMITS), ".2f"),
                    "–",
                    "–",
                )
            )
        supervised = models[contrast]["methods"]["U-Net"]
        rows.append(
            (
                contrast,
                "U-Net, supervised",
                "–",
                f"{SUPERVISED_DICE[contrast]:.2f}, no limit",
                f"{supervised['auc']:.3f}",
                slashed((supervised[f"dice_{limit}"] for limit in LIMITS), ".2f"),
                "–",
                "–",
            )
        )
        implants = "implanted gliomas" if contrast == "T2w" else "implanted strokes"
        on_real = real[contrast]["priors"][0]["patients"][implants]["methods"]
        for method, name in OUR_ROWS.items():
            both_kinds = [simulated[contrast]["methods"][name or method], on_real[method]]
            rows.append((contrast, f"lesioncore: {name or method}", "–", "–", *_auc_and_dice(both_kinds)))
    header = ("", "method", "paper: AUC", "Dice at 1 / 5 / 10 %", "simulated: AUC", "Dice", "implants: AUC", "Dice")
    return {"table": table(header, rows)}


def _auc_and_dice(found: list[dict[str, Any]]) -> list[str]:
    cells = []
    for row in found:
        cells += [f"{row['auc']:.3f}", slashed((at["dice"]["mean"] for at in row["at_limit"]), ".2f")]
    return cells


def changed_heads() -> dict[str, Any]:
    rows = []
    for contrast, found in read("real_changes")["contrasts"].items():
        for name, row in found.items():
            dice = (f"{row[f'dice_with_{other}']:.2f}" for other in ("unchanged", "implant"))
            rows.append((contrast, name, slashed(row["relative_of_each"], ".2f"), *dice))
    header = ("", "change", "volume relative to unchanged", "Dice with unchanged", "Dice with implant")
    return {"table": table(header, rows)}


def extraction() -> dict[str, Any]:
    facts, tool = read("extraction"), read("extraction_deepbet")
    rows = []
    for name, figures in facts["summary"].items():
        scans = facts["scans"][name]
        dice = (figures["dice_mask"], figures["dice_core"], tool["summary"][name]["dice_mask"])
        mask, core, other = (f"{one['mean']:.3f} ({one['worst']:.3f})" for one in dice)
        volume = mean(row["core_volume"] / row["true_core_volume"] for row in scans)
        rows.append((name, len(scans), mask, core, f"{volume:.2f}", other))
    return {"table": table(("T1w heads", "number", "mask", "core", "core's volume", "deepbet's mask"), rows)}


def bias() -> dict[str, Any]:
    rows = []
    for contrast, found in read("bias")["contrasts"].items():
        for name, row in found.items():
            lost = [
                f"{100 * median(row[key]):.0f} % ({100 * max(row[key], key=abs):.0f} %)" if row.get(key) else "–"
                for key in ("lost", "glioma")
            ]
            left = f"{100 * median(row['left']):.0f} %"
            white = f"{median(row['white_matter']):.3f}"
            rows.append((contrast, len(row["left"]), name, white, left, *lost, f"{median(row['seconds']):.1f}"))
    header = ("", "heads", "method", "white matter", "field left", "ball's contrast lost", "gliomas'", "s")
    return {"table": table(header, rows)}


def registration() -> dict[str, Any]:
    facts = read("registration")
    kinds = {
        "heads": "T1w heads",
        "contrasts": "other contrasts of the same person",
        "poses": "turned by 10 to 180 degrees and moved by 30 mm",
        "voxels": "in voxels of 1 to 6 mm, turned by 20 degrees",
        "masks": "mask one voxel (2 mm) tighter or looser",
        "lesions": "230 ml made brighter or darker",
        "wrong": "must be refused: wrong poses, halves, noise, whole heads",
    }
    rows = []
    for kind, name in kinds.items():
        found = [row for row in facts["rows"] if row["kind"] == kind and row.get("mean_mm") != 0]
        moved = [(row["mean_mm"], row["max_mm"]) for row in found if "mean_mm" in row]
        overlaps = [row["overlap"] for row in found]
        rows.append(
            (
                name,
                f"{sum(row['accepted'] for row in found)} of {len(found)}",
                f"{min(overlaps):.2f} to {max(overlaps):.2f}",
                f"{median(one for one, _ in moved):.2f}" if moved else "–",
                f"{max(most for _, most in moved):.1f}" if moved else "–",
            )
        )
    header = ("", "accepted", "overlap", "displacement, median of means, mm", "largest, mm")
    return {"place": place(facts["environment"]), "table": table(header, rows)}


SECTIONS = (scans, beside_the_paper, changed_heads, extraction, bias, registration)
