"""Write README's section "Measured" from the files in bench/results: ``python bench/readme.py``."""

from __future__ import annotations

import json
from typing import Any

from _bench import RESULTS, ROOT

BEGIN, END = "<!-- measured: python bench/readme.py writes this -->", "<!-- end of measured -->"


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def place(facts: dict[str, Any]) -> str:
    return f"{facts['device']}, {facts['threads']} thread{'s' * (facts['threads'] > 1)}, torch {facts['torch']}"


def quality() -> list[str]:
    found = {contrast: read(f"quality_{contrast}") for contrast in ("T2w", "T1w")}
    first = found["T2w"]
    lines = [
        f"**Detection** on {first['patients']} simulated patients for each contrast that neither the prior nor its"
        f" calibration has seen, {first['voxel_size']:g} mm, on the scans' own voxels (`python bench/quality.py`;"
        f" {place(first)}). Every method got its weight, smoothing and thresholds from the same"
        f" {first['calibration_healthy']} healthy people. AUC is that of all voxels, with a bootstrap 95 % interval"
        " over patients; Dice is the mean over patients at the 1 % and the 5 % limit; *signed*: lesions known to be"
        " bright (T2w) or dark (T1w).",
        "",
        "| method | T2w, glioma-like: AUC | Dice at 1 / 5 % | T1w, stroke-like: AUC | Dice at 1 / 5 % |",
        "|---|---|---|---|---|",
    ]
    for method in first["methods"]:
        cells = []
        for facts in found.values():
            row = facts["methods"][method]
            at = {one["limit"]: one["dice"]["mean"] for one in row["at_limit"]}
            low, high = row["auc_interval"]
            cells += [f"{row['auc']:.3f} ({low:.3f}–{high:.3f})", f"{at[0.01]:.2f} / {at[0.05]:.2f}"]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"MAP at the thresholds from healthy people, means over patients, and the rate in {first['new_healthy']}"
        " healthy people whom no calibration has seen:",
        "",
        "| | limit | sensitivity | false-positive rate | lesions found | in new healthy people | largest |",
        "|---|---|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        for row in facts["methods"]["MAP"]["at_limit"]:
            cells = " | ".join(f"{row[key]['mean']:.3f} ± {row[key]['sd']:.3f}" for key in ("sensitivity", "fpr"))
            lines.append(
                f"| {contrast} | {100 * row['limit']:g} % | {cells} | {row['lesion_recall']:.2f} |"
                f" {row['healthy_fpr']:.4f} | {row['healthy_fpr_largest']:.4f} |"
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


def solvers() -> list[str]:
    found = {contrast: read(f"solvers_{contrast}") for contrast in ("T2w", "T1w")}
    lines = [
        "**The solvers** on the same slices at the same λ, each slice alone and without smoothing, as the paper does"
        f" (`python bench/solvers.py`; {place(found['T2w'])}; the paper's ran while the machine had more other work, so"
        " its times are too long):",
        "",
        "| solver | contrast | λ | objective per slice | AUC | ms per slice |",
        "|---|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        for solver, row in facts["solvers"].items():
            lines.append(
                f"| {solver} | {contrast} | {facts['tv_weight']:g} | {row['objective_per_slice']:.1f} |"
                f" {row['auc']:.3f} | {row['milliseconds_per_slice']:.0f} |"
            )
    return lines


def real_input() -> list[str]:
    facts = read("real_input")
    fpr, tissue = facts["fpr_at_limit"], facts["fpr_at_5_percent_by_tissue"]
    lines = [
        "**A real image**: the ICBM152 T1 template (an average of 152 people) in its own space through `lesioncore"
        f" restore` with `phantom-t1` (`python bench/real_input.py`). False-positive rate at the 1 / 5 / 10 % limit:"
        f" {100 * fpr['01']:.1f} / {100 * fpr['05']:.1f} / {100 * fpr['10']:.1f} %; at the 5 % limit"
        f" {100 * tissue['white matter']:.1f} % in white matter, {100 * tissue['rest']:.1f} % elsewhere. A dark ball in"
        " the white matter:",
        "",
        "| radius | AUC | sensitivity at 5 % (same place before) | Dice at 5 % |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {row['radius_mm']:g} mm | {row['auc']:.3f} | {row['sensitivity_at_5_percent']:.2f}"
        f" ({row['same_place_before']:.2f}) | {row['dice_at_5_percent']:.2f} |"
        for row in facts["implants"]
    ]


def operators() -> list[str]:
    facts = read("op_speed_cpu")
    lines = [
        "**Operators**, float32, 150 x 1 x 200 x 200, milliseconds (median), in one run, and the largest error of the"
        f" first 8 slices against the float64 reference (`python bench/op_speed.py`; {place(facts['environment'])}):",
        "",
        "| operator | TV | native | eager torch | torch.compile | largest error |",
        "|---|---|---|---|---|---|",
    ]
    for row in facts["rows"]:
        if row["shape"] == [150, 1, 200, 200]:
            name = "isotropic" if row["isotropic"] else "anisotropic"
            times = " | ".join(
                f"{row['ms'][k]['median']:.1f}" if k in row["ms"] else "–" for k in ("native", "eager", "compiled")
            )
            lines.append(f"| `{row['op']}` | {name} | {times} | {row['max_error']:.1g} of {row['max_value']:.3g} |")
    return lines


def demos() -> list[str]:
    lines = ["**`lesioncore demo`**, one simulated patient at 1 mm from scan to figure, on two idle cores:", ""]
    lines += [
        "| | lesion | AUC | Dice at 5 % | sensitivity | false-positive rate | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for contrast in ("T2w", "T1w"):
        row = read(f"demo_{contrast}")
        lines.append(
            f"| {contrast} | {row['lesion']}-like, {row['lesion_ml']:.1f} ml | {row['auc']:.3f} | {row['dice']:.3f} |"
            f" {row['sensitivity']:.3f} | {row['false_positive_rate']:.3f} | {sum(row['seconds'].values()):.0f} |"
        )
    return lines


def recipes() -> list[str]:
    found = {contrast: read(f"recipes_{contrast}") for contrast in ("T2w", "T1w")}
    first = found["T2w"]
    lines = [
        f"**What makes a prior better**, at the same training budget ({first['slices_seen']} slices,"
        f" {first['precision']}): pooled AUC on 16 simulated patients of the split `validation`, every third slice,"
        " mean over training seeds; λ from healthy people for the `em` solver (`python bench/recipes.py`). The shape is"
        " that of the coarsest latent map; *corrupted*: coarse noise in the encoder's input while training; *smoothed*:"
        " 6 mm; `prox` runs with the same λ.",
        "",
        "| | recipe | seeds | parameters | ELBO, nats | error in brain | projection | smoothed | one TV prox |"
        " MAP, `em` | signed | MAP, `prox` |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        for name, row in facts["variants"].items():
            aucs = " | ".join(
                f"{row[key]:.3f}"
                for key in (
                    "projection",
                    "smoothed_projection",
                    "map_one_step",
                    "map",
                    "map_signed",
                    "map_by_elbo_gradient",
                )
            )
            lines.append(
                f"| {contrast} | {name} | {len(row['map_of_seeds'])} | {row['parameters'] / 1e6:.2f} M |"
                f" {row['elbo']:.0f} | {row['error_in_brain']:.2f} | {aucs} |"
            )
    return lines


def models() -> list[str]:
    found = {contrast: read(f"models_{contrast}") for contrast in ("T2w", "T1w")}
    first = found["T2w"]
    lines = [
        f"**The paper's models** (its Tables 1 and 2) on {first['patients']} simulated patients of the split `test`,"
        f" on the scans' own voxels; thresholds from {first['healthy_people']} healthy people, {first['slices_seen']}"
        " slices seen in training (a quarter of them by f-AnoGAN), means over training seeds; MAP as the paper does it,"
        " each slice alone, the score its `|D|`; *smoothed*: 6 mm in the slice"
        f" (`python bench/models.py`; {place(first)}):",
        "",
        "| | method | seeds | AUC (95 % over patients) | Dice at 1 % | 5 % | 10 % | training, s | s per volume |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        for name, row in facts["methods"].items():
            dices = " | ".join(f"{row[f'dice_{x}']:.2f} ± {row[f'dice_sd_{x}']:.2f}" for x in ("0.01", "0.05", "0.1"))
            model = name.split(" (")[0].split(", projection")[0].split(", smoothed")[0]
            training = facts["training_seconds"].get(model)
            lines.append(
                f"| {contrast} | {name} | {len(row['auc_of_seeds'])} | {row['auc']:.3f} ({row['auc_low']:.3f}–"
                f"{row['auc_high']:.3f}) | {dices} | {'–' if training is None else f'{training:.0f}'} |"
                f" {'as above' if name.endswith(', signed') else format(row['seconds_per_volume'], '.1f')} |"
            )
    return lines


def training_speed() -> list[str]:
    facts = read("training_speed_cpu")
    lines = [
        "**Training** at the paper's full size (200 x 200, six blocks, 512 latent channels), slices per second, median"
        f" and range of {facts['rounds']} rounds, batches of {facts['batch_size']} (`python bench/training_speed.py`;"
        f" {place(facts)}):",
        "",
        "| model, precision, layout | slices/s |",
        "|---|---|",
    ]
    return lines + [
        f"| {name} | {row['median']:.2f} ({row['low']:.2f}–{row['high']:.2f}) |"
        for name, row in facts["slices_per_second"].items()
    ]


def main() -> None:
    path = ROOT / "README.md"
    before, rest = path.read_text().split(BEGIN)
    after = rest.split(END)[1]
    parts = [quality, solvers, recipes, real_input, operators, training_speed, demos]
    if (RESULTS / "models_T2w.json").exists() and (RESULTS / "models_T1w.json").exists():  # hours of work
        parts.insert(3, models)
    sections = ["\n".join(part()) for part in parts]
    path.write_text(before + BEGIN + "\n\n" + "\n\n".join(sections) + "\n\n" + END + after)


if __name__ == "__main__":
    main()
