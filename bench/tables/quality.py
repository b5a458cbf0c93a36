"""Sections of the page on detection in simulated patients."""

from __future__ import annotations

from statistics import median
from typing import Any

from tables.form import both, interval, place, read, signed_interval, slashed, table

IN_ZSCORES = """

Scores are z-scores here (`--standardize False`), as they were when this was measured. In units of the scan's own
spread, but not yet about its centre, 16 such patients on the prior's grid had the same AUC within .001 and a Dice of
.45 / .25 for .53 / .29 (T1w) and .46 / .23 for .47 / .25 (T2w): the unit costs a little where all scans are of one
simulated scanner."""


def detection() -> dict[str, Any]:
    found = both("quality")
    first = found["T2w"]
    rows = []
    for method in first["methods"]:
        cells = []
        for facts in found.values():
            row = facts["methods"][method]
            dice = {at["limit"]: at["dice"]["mean"] for at in row["at_limit"]}
            cells += [
                interval(row["auc"], *row["auc_interval"]),
                f"{row['average_precision']:.2f}",
                slashed((dice[0.01], dice[0.05]), ".2f"),
            ]
        rows.append((method, *cells))
    header = ("method", "T2w, glioma-like: AUC", "AP", "Dice at 1 / 5 %")
    return {
        "place": place(first),
        **{name: first[name] for name in ("patients", "calibration_healthy", "new_healthy")},
        "voxel_size": f"{first['voxel_size']:g}",
        "unit": "" if first.get("standardize") else IN_ZSCORES,
        "methods": table((*header, "T1w, stroke-like: AUC", "AP", "Dice at 1 / 5 %"), rows),
        "limits": _at_limits(found),
        "tuning": " and ".join(
            f"λ {tuned['tv_weight']:g} with {tuned['smoothing']:g} mm of smoothing ({contrast})"
            for contrast, facts in found.items()
            for tuned in [facts["tuning"]["MAP"]]
        ),
        "seconds": f"{first['methods']['MAP']['seconds']:.1f}",
    }


def _at_limits(found: dict[str, Any]) -> str:
    rows = [
        (
            contrast,
            f"{100 * row['limit']:g} %",
            *(f"{row[key]['mean']:.3f} ± {row[key]['sd']:.3f}" for key in ("sensitivity", "fpr")),
            *(f"{row[key]:.2f}" for key in ("lesion_recall", "lesion_precision")),
            *(f"{row[key]:.4f}" for key in ("healthy_fpr", "healthy_fpr_largest")),
            f"{100 * row['healthy_above_limit']:.0f} %",
        )
        for contrast, facts in found.items()
        for row in facts["methods"]["MAP"]["at_limit"]
    ]
    header = ("", "limit", "sensitivity", "false-positive rate", "lesions found", "of detections")
    return table((*header, "in new healthy people", "largest", "above the limit"), rows)


def models() -> dict[str, Any]:
    found = both("models")
    first = found["T2w"]
    rows = []
    for contrast, facts in found.items():
        for name, row in facts["methods"].items():
            model = name.split(" (")[0].split(", projection")[0].split(", smoothed")[0]
            training = facts["training_seconds"].get(model)
            rows.append(
                (
                    contrast,
                    name,
                    len(row["auc_of_seeds"]),
                    interval(row["auc"], row["auc_low"], row["auc_high"]),
                    *(f"{row[f'dice_{x}']:.2f} ± {row[f'dice_sd_{x}']:.2f}" for x in ("0.01", "0.05", "0.1")),
                    "–" if training is None else f"{training:.0f}",
                    "as above" if name.endswith(", signed") else f"{row['seconds_per_volume']:.1f}",
                )
            )
    header = ("", "method", "seeds", "AUC (95 % over patients)", "Dice at 1 %", "5 %", "10 %")
    return {
        "place": place(first),
        **{name: first[name] for name in ("patients", "healthy_people", "slices_seen")},
        "table": table((*header, "training, s", "s per volume"), rows),
    }


def longer_training() -> dict[str, Any]:
    found = both("longer")
    rows = []
    for contrast, facts in found.items():
        projection = facts["methods"]["VAE, projection"]["auc"]
        for name, row in facts["methods"].items():
            seeds = ", ".join(f"{auc:.3f}" for auc in row["auc_of_seeds"])
            auc = interval(row["auc"], row["auc_low"], row["auc_high"])
            rows.append((contrast, name, auc, seeds, f"{row['auc'] - projection:+.3f}"))
    header = ("", "method", "AUC (95 % over patients)", "of the seeds", "above the projection")
    return {"place": place(found["T2w"]), "slices_seen": found["T2w"]["slices_seen"], "table": table(header, rows)}


def gmvae_size() -> dict[str, Any]:
    facts = read("table3_T2w")
    latents = (32, 64, 128)
    rows = []
    for c in (1, 3, 6, 9):
        found = [facts["methods"][f"c = {c}, dim_z = {z}"] for z in latents]
        rows.append((c, *(interval(row["auc"], row["auc_low"], row["auc_high"]) for row in found)))
    return {
        "place": place(facts),
        **{name: facts[name] for name in ("patients", "slices_seen")},
        "table": table(("components", *(f"dim_z = {z}" for z in latents)), rows),
    }


def solvers() -> dict[str, Any]:
    found = both("solvers")
    first = found["T2w"]
    default = first["default"]
    rows: list[tuple[object, ...]] = []
    for contrast, facts in found.items():
        of_default = facts["solvers"][default]
        start = of_default["objective_at_observation"]
        rows.append((contrast, "(the observation)", "–", "–", f"{start:.1f}", "–", "–"))
        for solver, row in facts["solvers"].items():
            difference = signed_interval(row["auc"] - of_default["auc"], *row["auc_minus_default"].values(), 3)
            rows.append(
                (
                    contrast,
                    solver,
                    f"{row['milliseconds_per_slice']:.0f}",
                    f"{row['seconds']:.1f}",
                    f"{row['objective_per_slice']:.1f}",
                    f"{row['auc']:.3f}",
                    "–" if solver == default else difference,
                )
            )
    header = ("", "solver", "ms per slice", "seconds", "objective per slice", "AUC", "minus the default's")
    return {
        "place": place(first),
        **{name: first[name] for name in ("patients", "turns", "default")},
        "weight": f"{first['tv_weight']:g}",
        "slices": " and ".join(f"{facts['solvers'][default]['slices']} ({name})" for name, facts in found.items()),
        "table": table(header, rows),
    }


def number_formats() -> dict[str, Any]:
    facts = read("precision_cpu")
    rows = []
    for contrast, found in facts["contrasts"].items():
        for name, row in found.items():
            difference = signed_interval(row["auc_difference"], *row["auc_difference_interval"], 5)
            rows.append(
                (
                    contrast,
                    name,
                    f"{row['auc']:.4f}",
                    "–" if name == "float64" else difference,
                    f"{row['largest_difference_of_one']:.5f}",
                    f"{row['score_error']:.1g}",
                    slashed(row["healthy_above"], ".4f"),
                )
            )
    header = ("", "format", "AUC", "difference", "largest of one patient", "error of a voxel's score, RMS")
    own = "by the processor's own instructions" if facts["bfloat16_instructions"] else "computed in software"
    return {
        "place": place(facts),
        **{name: facts[name] for name in ("patients", "healthy")},
        "bfloat16": own,
        "table": table((*header, "healthy voxels above the 1 / 5 / 10 % thresholds"), rows),
    }


def demo() -> dict[str, Any]:
    facts = read("demo")
    rows = []
    for row in facts["rows"]:
        found = row["found"]
        at_limits = [[list(one["at_limit"].values())[limit] for one in found] for limit in range(3)]
        dice = [median(one["dice"] for one in limit) for limit in at_limits]
        false = [100 * median(one["false_positive_rate"] for one in limit) for limit in at_limits]
        auc, seconds = [one["auc"] for one in found], [sum(one["seconds"].values()) for one in found]
        volumes = [one["lesion_ml"] for one in found]
        rows.append(
            (
                f"{len(found)} of {row['patient']}, {row['contrast']}",
                f"{min(volumes):.0f} to {max(volumes):.0f}",
                f"{median(auc):.3f} ({min(auc):.3f})",
                slashed(dice, ".2f"),
                slashed(false, ".1f"),
                f"{median(seconds):.0f} ({max(seconds):.0f})",
            )
        )
    header = ("patients", "lesions, ml", "AUC", "Dice at 1 / 5 / 10 %", "other voxels above, %", "seconds")
    return {"place": place(facts), "voxel_size": f"{facts['voxel_size']:g}", "table": table(header, rows)}


SECTIONS = (detection, models, longer_training, gmvae_size, solvers, number_formats, demo)
