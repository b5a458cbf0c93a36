"""Sections of the results on priors, baselines and solvers, as Markdown lines."""

from __future__ import annotations

from _sections import both, place, read


def solvers() -> list[str]:
    found = both("solvers")
    first = found["T2w"]
    default = first["default"]
    slices = " and ".join(f"{facts['solvers'][default]['slices']} ({contrast})" for contrast, facts in found.items())
    lines = [
        f"**The solvers** against time, on the same {slices} slices of {first['patients']} simulated patients at λ"
        f" {first['tv_weight']:g}, each slice alone and without smoothing, as the paper does (`python"
        f" bench/solvers.py`; {place(first)}; [plot](solvers.png)). The slices were solved in {first['turns']} turns by"
        " all solvers; ms are the median of the turns, seconds their sum. AUC less that of the default,"
        f" *{default}*, with a paired bootstrap 95 % interval over patients:",
        "",
        "| | solver | ms per slice | seconds | objective per slice | AUC | minus the default's |",
        "|---|---|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        of_default = facts["solvers"][default]
        start = of_default["objective_at_observation"]
        lines.append(f"| {contrast} | (the observation) | – | – | {start:.1f} | – | – |")
        for solver, row in facts["solvers"].items():
            low, high = row["auc_minus_default"].values()
            difference = f"{row['auc'] - of_default['auc']:+.3f} ({low:+.3f} to {high:+.3f})"
            lines.append(
                f"| {contrast} | {solver} | {row['milliseconds_per_slice']:.0f} | {row['seconds']:.1f} |"
                f" {row['objective_per_slice']:.1f} | {row['auc']:.3f} | {'–' if solver == default else difference} |"
            )
    return lines


def recipes() -> list[str]:
    found = both("recipes")
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
    found = both("models")
    first = found["T2w"]
    lines = [
        f"**The paper's models** (its Tables 1 and 2) on {first['patients']} simulated patients of the split `test`,"
        f" on the scans' own voxels; thresholds from {first['healthy_people']} healthy people, {first['slices_seen']}"
        " slices seen in training (a quarter of them by AnoGAN and f-AnoGAN), means over training seeds; AnoGAN"
        " searches 100 steps, not 500; MAP as the paper does it, each slice alone, the score its `|D|`; *smoothed*: 6"
        " mm in the slice"
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


def longer() -> list[str]:
    found = both("longer")
    first = found["T2w"]
    lines = [
        f"The VAE after {first['slices_seen']} slices of training, otherwise as above (`python bench/models.py --models"
        f" VAE --slices {first['slices_seen']} --name longer`; {place(first)}):",
        "",
        "| | method | AUC (95 % over patients) | of the seeds | above the projection |",
        "|---|---|---|---|---|",
    ]
    for contrast, facts in found.items():
        projection = facts["methods"]["VAE, projection"]["auc"]
        for name, row in facts["methods"].items():
            seeds = ", ".join(f"{auc:.3f}" for auc in row["auc_of_seeds"])
            lines.append(
                f"| {contrast} | {name} | {row['auc']:.3f} ({row['auc_low']:.3f}–{row['auc_high']:.3f}) | {seeds} |"
                f" {row['auc'] - projection:+.3f} |"
            )
    return lines


def table_3() -> list[str]:
    facts = read("table3_T2w")
    latents = (32, 64, 128)
    lines = [
        f"**The GMVAE's size** (the paper's Table 3) at 64 x 64 pixels, T2w: AUC on {facts['patients']} simulated"
        f" patients (95 % over them), one training seed, {facts['slices_seen']} slices seen in training, MAP slice by"
        f" slice (`python bench/models.py --table 3`; {place(facts)}):",
        "",
        "| components | " + " | ".join(f"dim_z = {z}" for z in latents) + " |",
        "|---|" + "---|" * len(latents),
    ]
    for c in (1, 3, 6, 9):
        rows = [facts["methods"][f"c = {c}, dim_z = {z}"] for z in latents]
        cells = " | ".join(f"{row['auc']:.3f} ({row['auc_low']:.3f}–{row['auc_high']:.3f})" for row in rows)
        lines.append(f"| {c} | {cells} |")
    return lines
