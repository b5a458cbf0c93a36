"""Sections of the results on detection quality, as Markdown lines."""

from __future__ import annotations

from statistics import median

import numpy as np
from _sections import both, place, read

IN_ZSCORES = (
    " Scores are z-scores here (`--standardize False`), as they were when this was measured. In units of the scan's own"
    " spread, but not yet about its centre, 16 such patients on the prior's grid had the same AUC within .001 and a"
    " Dice of .45 / .25 for .53 / .29 (T1w) and .46 / .23 for .47 / .25 (T2w): the unit costs a little where all scans"
    " are of one simulated scanner."
)


def quality() -> list[str]:
    found = both("quality")
    first = found["T2w"]
    lines = [
        f"**Detection** on {first['patients']} simulated patients for each contrast that neither the prior nor its"
        f" calibration has seen, {first['voxel_size']:g} mm, on the scans' own voxels (`python bench/quality.py`;"
        f" {place(first)}). Every method got its weight, smoothing and thresholds from the same"
        f" {first['calibration_healthy']} healthy people. AUC is that of all voxels, with a bootstrap 95 % interval"
        " over patients; AP is the average precision of all voxels; Dice is the mean over patients at the 1 % and the"
        " 5 % limit; *signed*: lesions known to be bright (T2w) or dark (T1w)."
        + ("" if first.get("standardize") else IN_ZSCORES),
        "",
        "| method | T2w, glioma-like: AUC | AP | Dice at 1 / 5 % | T1w, stroke-like: AUC | AP | Dice at 1 / 5 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in first["methods"]:
        cells = []
        for facts in found.values():
            row = facts["methods"][method]
            at = {one["limit"]: one["dice"]["mean"] for one in row["at_limit"]}
            low, high = row["auc_interval"]
            cells += [
                f"{row['auc']:.3f} ({low:.3f}–{high:.3f})",
                f"{row['average_precision']:.2f}",
                f"{at[0.01]:.2f} / {at[0.05]:.2f}",
            ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"MAP at the thresholds from healthy people, means over patients, and the rate in {first['new_healthy']}"
        " healthy people whom no calibration has seen. *Of detections*: the share of connected detections that are"
        " lesion; the limit holds for healthy people as a whole, so that about half of them may be above it:",
        "",
        "| | limit | sensitivity | false-positive rate | lesions found | of detections | in new healthy people"
        " | largest | above the limit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        for row in facts["methods"]["MAP"]["at_limit"]:
            cells = " | ".join(f"{row[key]['mean']:.3f} ± {row[key]['sd']:.3f}" for key in ("sensitivity", "fpr"))
            lines.append(
                f"| {contrast} | {100 * row['limit']:g} % | {cells} | {row['lesion_recall']:.2f} |"
                f" {row['lesion_precision']:.2f} | {row['healthy_fpr']:.4f} | {row['healthy_fpr_largest']:.4f} |"
                f" {100 * row['healthy_above_limit']:.0f} % |"
            )
    tuned = [facts["tuning"]["MAP"] for facts in found.values()]
    lines += [
        "",
        "MAP was tuned to "
        + " and ".join(
            f"λ {row['tv_weight']:g} with {row['smoothing']:g} mm of smoothing ({contrast})"
            for contrast, row in zip(found, tuned, strict=True)
        )
        + f"; it takes {first['methods']['MAP']['seconds']:.1f} s for a scan.",
    ]
    return lines


def real_input() -> list[str]:
    facts = read("real_input")
    fpr, tissue = facts["fpr_at_limit"], facts["fpr_at_5_percent_by_tissue"]
    lines = [
        "**A real image**: the ICBM152 T1 template (an average of 152 people) in its own space through `lesioncore"
        f" restore` with `phantom-t1` (`python bench/real_input.py`). False-positive rate at the 1 / 5 / 10 % limit:"
        f" {100 * fpr['01']:.1f} / {100 * fpr['05']:.1f} / {100 * fpr['10']:.1f} %; at the 5 % limit"
        f" {100 * tissue['white matter']:.1f} % in white matter, {100 * tissue['rest']:.1f} % elsewhere. A dark ball in"
        " the white matter; *finer*: λ 0.75 and 1 mm of smoothing:",
        "",
        "| radius | AUC | finer | sensitivity at 5 % (same place before) | Dice at 5 % |",
        "|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['radius_mm']:g} mm | {row['auc']:.3f} | {row['auc_finer']:.3f} | {row['sensitivity_at_5_percent']:.2f}"
        f" ({row['same_place_before']:.2f}) | {row['dice_at_5_percent']:.2f} |"
        for row in facts["implants"]
    ]


def demos() -> list[str]:
    facts = read("demo")
    lines = [
        f"**`lesioncore demo`** from scan to figure at {facts['voxel_size']:g} mm (`python bench/demo.py`;"
        f" {place(facts)}), its first patients: medians, for the AUC and the seconds with the worst. *template*: the"
        " ICBM152 average brain in a simulated head, by `real-t1` with all its preprocessing; *phantom*: simulated"
        " brains, by `phantom-*`:",
        "",
        "| patients | lesions, ml | AUC | Dice at 1 / 5 / 10 % | other voxels above, % | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in facts["rows"]:
        found = row["found"]
        at_limits = [[list(one["at_limit"].values())[limit] for one in found] for limit in range(3)]
        dice = " / ".join(f"{median(one['dice'] for one in limit):.2f}" for limit in at_limits)
        false = " / ".join(f"{100 * median(one['false_positive_rate'] for one in limit):.1f}" for limit in at_limits)
        auc, seconds = [one["auc"] for one in found], [sum(one["seconds"].values()) for one in found]
        volumes = [one["lesion_ml"] for one in found]
        lines.append(
            f"| {len(found)} of {row['patient']}, {row['contrast']} | {min(volumes):.0f} to {max(volumes):.0f} |"
            f" {median(auc):.3f} ({min(auc):.3f}) | {dice} | {false} | {median(seconds):.0f} ({max(seconds):.0f}) |"
        )
    return lines


def postprocessing() -> list[str]:
    facts = read("postprocessing")
    lines = [
        f"**Post-processing** of the embedded priors' detections on {facts['patients']} simulated patients and as many"
        f" healthy people whom no calibration has seen, {facts['voxel_size']:g} mm (`python bench/postprocessing.py`;"
        f" {place(facts)}). At the 1 / 5 / 10 % limit; components are connected ones without a tenth of lesion, in each"
        " scan; *from*: smaller components removed; lesions are glioma-like (T2w) and stroke-like (T1w).",
        "",
        "| | cleaned by | Dice | sensitivity | lesions found | false components | in healthy people | their rate, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    columns = (
        ("dice", ".2f", 1),
        ("sensitivity", ".3f", 1),
        ("lesions_found", "d", 1),
        ("false_components", ".1f", 1),
        ("healthy_components", ".1f", 1),
        ("healthy_fpr", ".2f", 100),
    )
    for contrast, rows in facts["contrasts"].items():
        for setting in dict.fromkeys(row["setting"] for row in rows):
            at = [row for row in rows if row["setting"] == setting]
            cells = [" / ".join(format(factor * row[key], form) for row in at) for key, form, factor in columns]
            cells[2] += f" of {at[0]['lesions']}"
            lines.append(f"| {contrast} | {setting} | " + " | ".join(cells) + " |")
    return lines


def scores() -> list[str]:
    found = both("scores")
    first = found["T2w"]
    lines = [
        f"**What each part of the score is worth**: MAP on {first['patients']} simulated patients, each row with the"
        f" weight (and smoothing) from {first['healthy']} healthy people, one part added after the other"
        f" (`python bench/scores.py`; {place(first)}). AUC (scores are told apart to .006 here, worth up to .003 AUC"
        " without smoothing); Dice at the 1 / 5 % limit.",
        "",
        "| prior | score | T2w: AUC | Dice | T1w: AUC | Dice |",
        "|---|---|---|---|---|---|",
    ]
    for prior, runs in first["priors"].items():
        for score in runs[0]["rows"]:
            cells = []
            for contrast in found.values():
                rows = [run["rows"][score] for run in contrast["priors"][prior]]
                auc, *dices = np.mean([[row["auc"], *row["dice"]] for row in rows], axis=0)
                cells += [f"{auc:.3f}", f"{dices[0]:.2f} / {dices[1]:.2f}"]
            lines.append(f"| {prior} | {score} | " + " | ".join(cells) + " |")
    return lines


def weights() -> list[str]:
    found = both("weights")
    first = found["T2w"]
    lines = [
        "**The weight that healthy people choose** (anomalies implanted into their scans), beside what"
        f" {first['patients']} patients would have chosen in hindsight from all that was tried. MAP with TV across"
        f" slices; {first['slices_seen']} slices seen in training by VAE and GMVAE, {first['healthy_people']} healthy"
        f" people (`python bench/weights.py`; {place(first)}). First λ alone, the score `|D|` itself; then λ together"
        " with the smoothing, as `calibrate` does it. AUC, and how much of it is lost.",
        "",
        "| | prior | seed | λ chosen | AUC | best λ | AUC | lost | λ, mm chosen | AUC | best | AUC | lost |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        for row in facts["priors"]:
            cells = []
            for alone in (True, False):
                tried = [one for one in row["patients"] if one["smoothing"] == 0 or not alone]
                auc = {(one["tv_weight"], one["smoothing"]): one["auc"] for one in tried}
                implants = {(one["tv_weight"], one["smoothing"]): one["implant_auc"] for one in row["implants"]}
                chosen, best = max(auc, key=implants.__getitem__), max(auc, key=auc.__getitem__)
                for pair in (chosen, best):
                    cells += [f"{pair[0]:g}" + f", {pair[1]:g}" * (not alone), f"{auc[pair]:.3f}"]
                cells.append(f"{auc[best] - auc[chosen]:.3f}")
            lines.append(f"| {contrast} | {row['model']} | {row['seed']} | " + " | ".join(cells) + " |")
    return lines


def changes() -> list[str]:
    facts = read("changes_T2w")
    tried = sorted({row["tv_weight"] for row in facts["rows"]})
    lines = [
        "**The paper's criterion** (Eq. 7): mean change ε(λ) of healthy T2w images, one VAE,"
        f" {facts['slices']} slices, each alone (`python bench/weights.py --changes`; {place(facts)}).",
        "",
        "| solver | " + " | ".join(f"λ = {weight:g}" for weight in tried) + " |",
        "|---|" + "---|" * len(tried),
    ]
    for solver in ("paper", "prox", "em"):
        values = {row["tv_weight"]: row["change"] for row in facts["rows"] if row["solver"] == solver}
        lines.append(f"| {solver} | " + " | ".join(f"{values[weight]:.3f}" for weight in tried) + " |")
    return lines


def resolution() -> list[str]:
    facts = read("resolution")
    lines = [
        f"**Other resolutions**: rate of false positives in {facts['people']} new healthy people at the 1 / 5 / 10 %"
        f" limits of the calibration's scans of {facts['calibrated_at']:g} mm, and in the person with most at 5 %"
        f" (`python bench/resolution.py`; {place(facts)}).",
        "",
        "| voxel size | T2w | largest | T1w | largest |",
        "|---|---|---|---|---|",
    ]
    for size in facts["rates"]["T2w"]:
        cells = []
        for rates in facts["rates"].values():
            rows = rates[size]
            cells.append(" / ".join(f"{row['mean']:.3f}" for row in rows))
            cells += [f"{row['largest']:.3f}" for row in rows if row["limit"] == 0.05]
        lines.append(f"| {size} mm | " + " | ".join(cells) + " |")
    return lines


def precision() -> list[str]:
    facts = read("precision_cpu")
    lines = [
        "**Number formats** of the prior's network: MAP with the embedded priors, default solver, on"
        f" {facts['patients']} patients and {facts['healthy']} healthy people that no calibration has seen, the same"
        " ones in each; weight, smoothing and thresholds as shipped, found in float32 (`python bench/precision.py`;"
        f" {place(facts)}). Differences from float64, with a paired 95 % interval over patients. *Emulated*: the"
        " factors of each convolution rounded to TF32's ten bits, summed in float32; no GPU was used."
        + (
            " bfloat16 by the processor's own instructions."
            if facts["bfloat16_instructions"]
            else " bfloat16 is computed in software."
        ),
        "",
        "| | format | AUC | difference | largest of one patient | error of a voxel's score, RMS |"
        " healthy voxels above the 1 / 5 / 10 % thresholds |",
        "|---|---|---|---|---|---|---|",
    ]
    for contrast, rows in facts["contrasts"].items():
        for name, row in rows.items():
            low, high = row["auc_difference_interval"]
            above = " / ".join(f"{share:.4f}" for share in row["healthy_above"])
            difference = "–" if name == "float64" else f"{row['auc_difference']:+.5f} ({low:+.5f} to {high:+.5f})"
            lines.append(
                f"| {contrast} | {name} | {row['auc']:.4f} | {difference} | {row['largest_difference_of_one']:.5f} |"
                f" {row['score_error']:.1g} | {above} |"
            )
    return lines
