"""Sections of the results on speed, as Markdown lines."""

from __future__ import annotations

from typing import Any

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


NAMES = {
    "backward": "plain port, `loss.backward()`",
    "grad": "plain port, `autograd.grad`",
    "folded": "the same, batch normalisation folded, channels last",
    "compiled": "torch.compile of that",
    "eager": "plain port",
}


def loops(found: dict[str, Any], digits: int, *, errors: bool) -> list[str]:
    """The table of a loop's steps."""
    lines = [f"| solver | by | ms | times lesioncore |{' error |' * errors}", f"|---|---|---|---|{'---|' * errors}"]
    for solver in ("paper", "em"):
        own = found[solver]["lesioncore"]["ms_per_slice"]["median"]
        for name, row in found[solver].items():
            ms = row["ms_per_slice"]
            median, low, high = (f"{ms[key]:.{digits}f}" for key in ("median", "low", "high"))
            lines.append(
                f"| `{solver}` | {NAMES.get(name, name)} | {median} ({low}–{high}) | {ms['median'] / own:.2f} |"
                + f" {row['relative_error']:.0e} |" * errors
            )
    return lines


def volumes(found: dict[str, Any], digits: int) -> list[str]:
    """The table of whole volumes."""
    lines = ["| | seconds | peak memory, GB |", "|---|---|---|"]
    for name, row in found.items():
        shape = " x ".join(map(str, row["shape"]))
        lines.append(f"| {name}, {shape} | {row['seconds']['median']:.{digits}f} | {row['peak_gb']:.2f} |")
    return lines


def restoring() -> list[str]:
    facts = read("restore_speed_cpu")
    found, many = facts["steps"], facts["folder"]
    one, default = (many["volumes_per_hour"][name] for name in ("one worker", "default workers"))
    return [
        "**The restoration loop** at the paper's full size (200 x 200, six blocks, 512 latent channels), float32,"
        f" batches of {found['batch_size']}: milliseconds for a slice and step, median and quartiles of one"
        f" interleaved run (`python bench/restore_speed.py`; {place(facts['environment'])}). The error is against"
        " float64, relative to the step (`paper`) or the reconstruction (`em`); the weights are random, through which"
        " rounding grows far more than in a trained network (whose is under Number formats in"
        " [bench/results](bench/results/README.md)):",
        "",
        *loops(found, 1, errors=True),
        "",
        "Whole volumes with the default solver, from array to array:",
        "",
        *volumes(facts["volumes"], 1),
        "",
        f"A folder of {many['scans']} scans of 1 mm through `lesioncore restore`, files to files, with the embedded"
        f" prior: {default:.0f} volumes per hour, {one:.0f} with `--workers 1`.",
    ]


def restoring_on_gpu() -> list[str]:
    facts = read("restore_speed_cuda")
    em, paper = read("limits_cuda")["volumes"]
    return [
        f"**The same on a GPU** ({on_gpu(facts['environment'])}), in tf32, batches of"
        f" {facts['steps_tf32']['batch_size']}:",
        "",
        *loops(facts["steps_tf32"], 3, errors=False),
        "",
        "Whole volumes with the default solver, from array on the host to array, and the device's memory:",
        "",
        *volumes(facts["volumes"], 2),
        "",
        "With everything warm, 150 x 200 x 200 by the paper's network (`python bench/limits.py`): `em`"
        f" {em['median']:.3f} s (99th percentile of {em['volumes']}: {em['p99']:.3f}), {paper['steps']} steps of"
        f" `paper` {paper['median']:.1f} s.",
    ]


def limits(name: str = "limits_cpu") -> list[str]:
    facts = read(name)
    paper, at_best = facts["ms"]["paper"]["median"] / facts["slices"], facts["limit_ms"] / facts["slices"]
    prox, em = (100 * facts["share_of_prox"][name] for name in ("prox", "em"))
    volume = facts["volumes"][0]
    where = on_gpu(facts["environment"]) if "cuda" in facts["environment"] else place(facts["environment"])
    return [
        f"**The machine's limits** (`python bench/limits.py`; {where}, {facts['precision']}): copies move"
        f" {facts['copy_gb_per_s']:.0f} GB/s, products of matrices make {facts['tflops']:.3g} TFLOP/s. The"
        f" convolutions of a step of the paper's solver are {facts['gflop_per_slice']:.2f} GFLOP a slice and move at"
        f" least {1e3 * facts['gb_per_slice']:.0f} MB (with its share of the weights, for {facts['slices']} slices)."
        f" At these rates that takes {at_best:.3g} ms; measured"
        f" {paper:.3g} ms, {100 * facts['share_of_limit']:.0f} % of the limit. The prox of TV takes {prox:.0f} % of a"
        f" `prox` step and {em:.0f} % of an `em` step. {volume['volumes']} warm volumes of 150 x 200 x 200,"
        f" `{volume['solver']}`: median {volume['median']:.3g} s, 99th percentile {volume['p99']:.3g} s.",
    ]


def limits_on_gpu() -> list[str]:
    return limits("limits_cuda")


def maps_on_gpu() -> list[str]:
    facts = read("map_speed_cuda")
    lines = [
        "**Operators on feature maps**, at the sizes of the paper's network, 150 slices: milliseconds (median) against"
        " torch's own for the same (cuDNN, elementwise kernels, interpolation), the error relative to float64, and the"
        " bytes that must at least move as a share of what a copy moves in that time (`python bench/map_speed.py`;"
        f" {on_gpu(facts['environment'])}; the copy is that of `bench/limits.py`, minutes later). Networks use them on"
        " CUDA alone; from 16 channels on they are tensor cores' work, in tf32 where it is float32. Stride 2 in"
        " bfloat16 is left to cuDNN, which is faster. In float32 `enlarge` and `enlarge_adjoint` had four channels to a"
        " thread here; with eight, as they have now, they took .17 and .32 ms in another run of that day:",
        "",
        "| operator | channels | pixels | type | native | torch | times | of a copy | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in facts["rows"]:
        native, other = (row["ms"][name]["median"] for name in ("native", "torch"))
        first, last = row["channels"]
        lines.append(
            f"| {row['op']} | {first} to {last} | {row['size']}² | {row['dtype']} | {native:.2f} | {other:.2f} |"
            f" {other / native:.1f} | {row['fraction_of_copy']:.2f} | {row['relative_error']:.0e} |"
        )
    return lines


def on_gpu(facts: dict[str, Any]) -> str:
    return f"{facts['device']}, torch {facts['torch']}, driver {facts['driver']}"


def scaling() -> list[str]:
    facts = read("scaling_cpu")
    lines = [
        "**Scaling** of a restoration with the paper's network and the default solver: exponent of time against each of"
        " them, and how far it is off a straight line (`python bench/scaling.py`;"
        f" {place(facts['environment'])}; [plot](scaling_cpu.png)):",
        "",
        "| against | points | seconds | exponent | off the line | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    for axis, found in facts["axes"].items():
        points, seconds, peaks = (
            " / ".join(f"{row[key]:{form}}" for row in found["rows"])
            for key, form in ((axis, "g"), ("seconds", ".1f"), ("peak_gb", ".2f"))
        )
        off = 100 * found["off_the_line"]
        against = {"pixels": "pixels along a side", "width": "times the paper's channels"}.get(axis, axis)
        lines.append(f"| {against} | {points} | {seconds} | {found['exponent']:.2f} | {off:.0f} % | {peaks} |")
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
