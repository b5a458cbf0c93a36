"""Sections of the page on speed."""

from __future__ import annotations

from typing import Any

from tables.form import place, read, slashed, table

PORTS = {
    "backward": "plain port, `loss.backward()`",
    "grad": "plain port, `autograd.grad`",
    "folded": "the same, batch normalisation folded, channels last",
    "compiled": "torch.compile of that",
    "eager": "plain port",
}
SECONDS_AND_MEMORY = ("", "seconds", "peak memory, GB")


def loop_on_cpu() -> dict[str, Any]:
    facts = read("restore_speed_cpu")
    hours = facts["folder"]["volumes_per_hour"]
    return {
        "place": place(facts["environment"]),
        "batch": facts["steps"]["batch_size"],
        "steps": table(
            ("solver", "by", "ms", "times lesioncore", "error"),
            [(*row, f"{error:.0e}") for row, error in _steps(facts["steps"], 1)],
        ),
        "volumes": table(SECONDS_AND_MEMORY, _volumes(facts["volumes"], 1)),
        "scans": facts["folder"]["scans"],
        "hourly": f"{hours['default workers']:.0f}",
        "hourly_by_one": f"{hours['one worker']:.0f}",
    }


def loop_on_gpu() -> dict[str, Any]:
    facts = read("restore_speed_cuda")
    em, paper = read("limits_cuda")["volumes"]
    return {
        "place": place(facts["environment"]),
        "batch": facts["steps_tf32"]["batch_size"],
        "steps": table(("solver", "by", "ms", "times lesioncore"), [row for row, _ in _steps(facts["steps_tf32"], 3)]),
        "volumes": table(SECONDS_AND_MEMORY, _volumes(facts["volumes"], 2)),
        "em": f"{em['median']:.3f}",
        "em_p99": f"{em['p99']:.3f}",
        "em_volumes": em["volumes"],
        "paper_steps": paper["steps"],
        "paper": f"{paper['median']:.1f}",
    }


def _steps(found: dict[str, Any], digits: int) -> list[tuple[list[str], float]]:
    """Rows of a loop's steps, each with its error."""
    rows = []
    for solver in ("paper", "em"):
        own = found[solver]["lesioncore"]["ms_per_slice"]["median"]
        for name, row in found[solver].items():
            ms = row["ms_per_slice"]
            median, low, high = (f"{ms[key]:.{digits}f}" for key in ("median", "low", "high"))
            cells = [f"`{solver}`", PORTS.get(name, name), f"{median} ({low}–{high})", f"{ms['median'] / own:.2f}"]
            rows.append((cells, row["relative_error"]))
    return rows


def _volumes(found: dict[str, Any], digits: int) -> list[list[str]]:
    return [
        [
            f"{name}, {' x '.join(map(str, row['shape']))}",
            f"{row['seconds']['median']:.{digits}f}",
            f"{row['peak_gb']:.2f}",
        ]
        for name, row in found.items()
    ]


def operators() -> dict[str, Any]:
    facts = read("op_speed_cpu")
    rows = []
    for row in facts["rows"]:
        if row["shape"] == [150, 1, 200, 200]:
            times = (
                f"{row['ms'][k]['median']:.1f}" if k in row["ms"] else "–" for k in ("native", "eager", "compiled")
            )
            error = f"{row['max_error']:.1g} of {row['max_value']:.3g}"
            rows.append((f"`{row['op']}`", "isotropic" if row["isotropic"] else "anisotropic", *times, error))
    header = ("operator", "TV", "native", "eager torch", "torch.compile", "largest error")
    return {"place": place(facts["environment"]), "table": table(header, rows)}


def feature_maps() -> dict[str, Any]:
    facts = read("map_speed_cuda")
    rows = []
    for row in facts["rows"]:
        native, other = (row["ms"][name]["median"] for name in ("native", "torch"))
        rows.append(
            (
                row["op"],
                " to ".join(map(str, row["channels"])),
                f"{row['size']}²",
                row["dtype"],
                f"{native:.2f}",
                f"{other:.2f}",
                f"{other / native:.1f}",
                f"{row['fraction_of_copy']:.2f}",
                f"{row['relative_error']:.0e}",
            )
        )
    header = ("operator", "channels", "pixels", "type", "native", "torch", "times", "of a copy", "error")
    return {"place": place(facts["environment"]), "table": table(header, rows)}


def machine_limits() -> dict[str, Any]:
    machines = [read("limits_cpu"), read("limits_cuda")]
    columns = [_limits(facts) for facts in machines]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    header = ("", *(place(facts["environment"]) for facts in machines))
    return {"table": table(header, rows)}


def _limits(facts: dict[str, Any]) -> dict[str, str]:
    slices, volume = facts["slices"], facts["volumes"][0]
    prox, em = (f"{100 * facts['share_of_prox'][name]:.0f} %" for name in ("prox", "em"))
    return {
        "number format": facts["precision"],
        "copies move, GB/s": f"{facts['copy_gb_per_s']:.0f}",
        "products of matrices make, TFLOP/s": f"{facts['tflops']:.3g}",
        "slices at once": f"{slices}",
        "convolutions of a `paper` step, GFLOP a slice": f"{facts['gflop_per_slice']:.2f}",
        "at least moved with them, MB a slice": f"{1e3 * facts['gb_per_slice']:.0f}",
        "limit of a step, ms a slice": f"{facts['limit_ms'] / slices:.3g}",
        "measured, ms a slice": f"{facts['ms']['paper']['median'] / slices:.3g}",
        "share of the limit": f"{100 * facts['share_of_limit']:.0f} %",
        "TV prox, share of a `prox` / `em` step": f"{prox} / {em}",
        "warm volumes of 150 x 200 x 200": f"{volume['volumes']}, `{volume['solver']}`",
        "their median / 99th percentile, s": f"{volume['median']:.3g} / {volume['p99']:.3g}",
    }


def scaling() -> dict[str, Any]:
    facts = read("scaling_cpu")
    names = {"pixels": "pixels along a side", "width": "times the paper's channels"}
    rows = []
    for axis, found in facts["axes"].items():
        points, seconds, peaks = (
            slashed((row[key] for row in found["rows"]), form)
            for key, form in ((axis, "g"), ("seconds", ".1f"), ("peak_gb", ".2f"))
        )
        off = f"{100 * found['off_the_line']:.0f} %"
        rows.append((names.get(axis, axis), points, seconds, f"{found['exponent']:.2f}", off, peaks))
    header = ("against", "points", "seconds", "exponent", "off the line", "peak memory, GB")
    return {"place": place(facts["environment"]), "table": table(header, rows)}


def training() -> dict[str, Any]:
    facts = read("training_speed_cpu")
    rows = [
        (name, f"{row['median']:.2f} ({row['low']:.2f}–{row['high']:.2f})")
        for name, row in facts["slices_per_second"].items()
    ]
    return {
        "place": place(facts),
        "rounds": facts["rounds"],
        "batch": facts["batch_size"],
        "table": table(("model, precision, layout", "slices/s"), rows),
    }


def cohorts() -> dict[str, Any]:
    scans, steps = read("many_scans"), read("many_subjects")["steps"]
    names = {"memory_mb": "resident memory, MB", "files": "open files", "threads": "threads"}
    names["temporary"] = "temporary files"
    flat = [
        (names[name], *(f"{row[key]:g}" for key in ("first", "last", "largest", "per_100_scans")))
        for name, row in scans["flat"].items()
    ]
    rows = []
    for step in steps:
        seconds, peaks = (slashed((row[key] for row in step["counts"]), ".1f") for key in ("seconds", "peak_mb"))
        subjects = " / ".join(f"{row['subjects']:,}" for row in step["counts"])
        rows.append((step["step"], subjects, seconds, f"{step['exponent']:.2f}", peaks))
    return {
        "place": place(scans["environment"]),
        "scans": scans["scans"],
        "shape": " x ".join(map(str, scans["shape"])),
        "voxel_size": f"{scans['voxel_size']:g}",
        "cpu": f"{scans['seconds_per_scan']['restore --workers 1']['cpu']:.2f}",
        "loop": slashed((one["cpu"] for one in scans["seconds_per_scan"]["loops"]), ".2f"),
        "share": f"{scans['cpu_of_loop']:.2f}",
        "flat": table(("", "after a fifth", "at the end", "largest", "more for 100 scans"), flat),
        "steps": table(("", "subjects", "seconds of the CPU", "exponent", "peak memory, MB"), rows),
    }


SECTIONS = (loop_on_cpu, loop_on_gpu, operators, feature_maps, machine_limits, scaling, cohorts, training)
