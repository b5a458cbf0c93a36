"""Sections of the results on speed, as Markdown lines."""

from __future__ import annotations

from _sections import place, read


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
