"""The two blocks of README: a chart of the loop's speed, and a short table of detection quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.results import ROOT

from tables.form import both, read, slashed, table
from tables.real import OUR_ROWS, real_results

CHART = ROOT / "docs" / "images" / "speed.svg"
BARS = {
    "paper": {
        "backward": "plain PyTorch",
        "folded": "PyTorch, tuned by hand",
        "compiled": "torch.compile of that",
        "lesioncore": "lesioncore",
    },
    "em": {"eager": "plain PyTorch", "lesioncore": "lesioncore"},
}
PANELS = {"steps_tf32": ("restore_speed_cuda", "tf32"), "steps": ("restore_speed_cpu", "float32")}


def machine(facts: dict[str, Any]) -> str:
    threads = "" if "cuda" in facts else f", {facts['threads']} threads"
    return facts["device"].replace("(R)", "") + threads


def chart_in_words() -> str:
    """The chart's figures as a sentence: its alternative text, and what tells a chart that is out of date."""
    parts = []
    for steps, (name, precision) in PANELS.items():
        facts = read(name)
        times = [
            f"{solver}: "
            + ", ".join(f"{label} {_milliseconds(facts[steps][solver][key]):.3g}" for key, label in bars.items())
            for solver, bars in BARS.items()
        ]
        parts.append(f"{machine(facts['environment'])}, {precision}; {'; '.join(times)}")
    return f"Milliseconds for one step of one 200 x 200 slice, by solver. {'. '.join(parts)}."


def draw_chart(path: Path = CHART) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lesioncore", "font.size": 9})
    rows = [(solver, key, label) for solver, bars in BARS.items() for key, label in bars.items()]
    places = [row + 0.6 * (solver == "em") for row, (solver, _, _) in enumerate(rows)]
    colours = ["#c44e52" if key == "lesioncore" else "#9aa7b8" for _, key, _ in rows]
    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(8.5, 2.6), sharey=True, constrained_layout=True)
    for panel, (steps, (name, precision)) in zip(panels, PANELS.items(), strict=True):
        facts = read(name)
        times = [_milliseconds(facts[steps][solver][key]) for solver, key, _ in rows]
        panel.barh(places, times, color=colours)
        for y, (solver, key, _), time in zip(places, rows, times, strict=True):
            ratio = time / _milliseconds(facts[steps][solver]["lesioncore"])
            panel.text(time, y, f" {time:.3g}" + f"  ({ratio:.1f}×)" * (key != "lesioncore"), va="center")
        panel.set_title(f"{machine(facts['environment'])}, {precision}", loc="left", fontsize=10)
        panel.set(xlim=(0, 1.5 * max(times)), xticks=[])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    panels[0].set_yticks(places, [f"{solver}: {label}" for solver, _, label in rows])
    panels[0].invert_yaxis()
    figure.supxlabel("milliseconds for a step of a slice (times lesioncore)", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None, "Description": chart_in_words()})
    pyplot.close(figure)


def _milliseconds(row: dict[str, Any]) -> float:
    return row["ms_per_slice"]["median"]


def speed() -> str:
    batches = [read(name)[steps]["batch_size"] for steps, (name, _) in PANELS.items()]
    return f"""![{chart_in_words()}](docs/images/speed.svg)

A step of restoration against PyTorch ports of the same network and mathematics, at the paper's full size, in batches of
{batches[0]} (GPU) and {batches[1]} (CPU) slices; medians of interleaved runs (`python bench/restore_speed.py`).
[More on speed](docs/benchmarks/speed.md)."""


def quality() -> str:
    rows = []
    for contrast, facts in both("quality").items():
        found = [facts["methods"][name or method] for method, name in OUR_ROWS.items()]
        rows.append(_row(f"simulated {facts['lesion']}s, {contrast}", facts["patients"], found))
    for contrast, facts in real_results().items():
        for kind, judged in facts["priors"][0]["patients"].items():
            where = f"real heads, {kind}" if kind.startswith("implanted") else f"real patients, {kind}"
            found = [judged["methods"][method] for method in OUR_ROWS]
            rows.append(_row(f"{where}, {contrast}", judged["scans"], found))
    header = ["scans", "number"]
    for name in ("MAP", "projection, smoothed", "intensity, smoothed"):
        header += [f"{name}: AUC", "Dice at 1 / 5 %"]
    return f"""{table(header, rows)}

All methods know whether lesions are bright or dark, and have their thresholds from healthy people: Dice is the mean
at the limits of 1 and 5 % false positives. Simulated patients are scored with `phantom-*`, real heads with `real-*`.
More: [simulated patients](docs/benchmarks/quality.md), [real scans](docs/benchmarks/real.md)."""


def _row(name: str, number: int, methods: list[dict[str, Any]]) -> list[object]:
    cells: list[object] = [name, number]
    for row in methods:
        cells += [f"{row['auc']:.3f}", slashed((at["dice"]["mean"] for at in row["at_limit"][:2]), ".2f")]
    return cells


BLOCKS = {"speed": speed, "quality": quality}
