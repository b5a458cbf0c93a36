"""Throughput of one process over 200 simulated scans, and whether memory, files, threads and temporary files stay flat.

    python bench/robustness/many_scans.py                # some minutes
    python bench/robustness/many_scans.py --scans 20 --out /tmp

`lesioncore phantom` simulates people at 4 mm, and a small random network restores them at 4 mm, so that what is around
the computation weighs much. `lesioncore restore --workers 1` does all of them in one process, which is looked at from
outside: resident memory, open files, threads, and hidden files in the output and in the folder for temporary files,
against the number of finished scans. The first fifth, in which buffers are made, is left out of the slopes.
A loop of `lesioncore.restore` and `save` over a quarter of the scans runs before and after, in a process of its own.
Seconds are those of the CPU for each scan, which other work on the machine hardly changes; those of the wall are given,
too.

Writes ``many_scans.json``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import nibabel as nib
import numpy as np
import torch
from common.options import parser, started
from common.results import write_json

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.cli import main as lesioncore

VOXEL_SIZE = 4.0
LEFT_OUT, LOOPED = 5, 4  # a fifth of the scans, and a quarter
PROGRAM = "import sys; from lesioncore.cli import main; sys.exit(main())"
TICKS = os.sysconf("SC_CLK_TCK")


def make(root: Path, scans: int) -> list[Path]:
    """Write the scans and the prior."""
    command = ["phantom", str(root / "raw"), "--subjects", str(scans), "--voxel-size", str(VOXEL_SIZE)]
    if lesioncore([*command, "--contrast", "T2w"]) != 0:
        raise RuntimeError("the phantoms could not be made")
    paths = sorted((root / "raw").glob("sub-*/anat/*_T2w.nii.gz"))
    values = np.asarray(nib.load(paths[0]).dataobj, np.float32)
    torch.manual_seed(0)
    metadata = lc.PriorMetadata(
        "noise", "T2w", lc.SliceGrid(VOXEL_SIZE, (48, 56)), lc.IntensityScale.fit(torch.from_numpy(values[values > 0]))
    )
    prior = lc.VAE(lc.VAEConfig((48, 56), (8, 16), 8), metadata).eval()
    people = merged([HealthyScores.of(torch.arange(1, 101) * scale) for scale in (0.005, 0.01)])
    settings = lc.RestoreConfig().for_prior(prior).settings()
    prior.metadata = metadata.with_calibration(lc.Calibration(settings, 0.5, people))
    lc.save_model(prior, root / "prior", card="A random network.\n")
    return paths


def command_line(root: Path, interval: float) -> list[dict[str, float]]:
    """Restore all scans in one process; gives what was seen of it from time to time."""
    out, work = root / "out", root / "work"
    work.mkdir()
    words = ["restore", root / "raw", "-o", out, "--prior", root / "prior", "--no-report", "--workers", "1"]
    environment = {**os.environ, "TMPDIR": str(work), "OMP_NUM_THREADS": "1"}
    seen: list[dict[str, float]] = []
    with open(root / "said", "w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, words)], stdout=said, stderr=said, env=environment
        )
        while process.poll() is None:
            row = look(process.pid, out, work)
            if row is not None:
                seen.append(row)
            time.sleep(interval)
    if process.returncode != 0:
        raise RuntimeError(f"restore ended with {process.returncode} and said: {(root / 'said').read_text()[-2000:]}")
    left = hidden(out) + len([*work.iterdir()])
    if left:
        raise RuntimeError(f"{left} temporary files were left")
    return seen


def look(pid: int, out: Path, work: Path) -> dict[str, float] | None:
    """What can be seen of a process; None when it has ended."""
    place = Path("/proc") / str(pid)
    try:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        times = (place / "stat").read_text().rpartition(")")[2].split()
        return {
            "scans": sum(1 for _ in out.rglob("*_desc-restored_*.json")),
            "memory_mb": int(status["VmRSS"].split()[0]) * 1024 / 1e6,
            "files": len(os.listdir(place / "fd")),
            "threads": int(status["Threads"]),
            "temporary": hidden(out) + sum(1 for _ in work.iterdir()),
            "cpu": (int(times[11]) + int(times[12])) / TICKS,
            "wall": time.monotonic(),
        }
    except (OSError, KeyError):
        return None


def hidden(folder: Path) -> int:
    return sum(1 for _ in folder.rglob(".lesioncore-*"))


def loop(root: Path, paths: list[Path], name: str) -> dict[str, float]:
    """Seconds for each scan of a loop in a process of its own."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        torch.set_num_threads(1)
        prior = lc.load_prior(root / "prior")
        lc.restore(paths[0], prior).save(root / name)  # buffers
        cpu, wall = time.process_time(), time.monotonic()
        for path in paths:
            lc.restore(path, prior).save(root / name)
        sender.send(((time.process_time() - cpu) / len(paths), (time.monotonic() - wall) / len(paths)))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    cpu, wall = receiver.recv()
    process.join()
    return {"cpu": round(cpu, 4), "wall": round(wall, 4)}


def slopes(seen: list[dict[str, float]]) -> dict[str, Any]:
    """For each figure its values at first and last, its largest, and its slope for 100 scans, by least squares."""
    found = {}
    scans = np.array([row["scans"] for row in seen])
    for name in ("memory_mb", "files", "threads", "temporary"):
        values = np.array([row[name] for row in seen])
        slope = float(np.polyfit(scans, values, 1)[0])
        found[name] = {
            **{"first": round(float(values[0]), 1), "last": round(float(values[-1]), 1)},
            **{"largest": round(float(values.max()), 1), "per_100_scans": round(100 * slope, 3)},
        }
    return found


def main() -> int:
    options_of = parser(__doc__, writes="many_scans.json")
    options_of.add_argument("--scans", type=int, default=200)
    options_of.add_argument("--interval", type=float, default=0.5, help="seconds between two looks")
    options = options_of.parse_args()
    options.device, options.threads = "cpu", 1
    facts = started(options)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = make(root, options.scans)
        part = paths[: max(1, len(paths) // LOOPED)]
        loops = [loop(root, part, "before")]
        seen = command_line(root, options.interval)
        loops.append(loop(root, part, "after"))
        shape = list(nib.load(paths[0]).shape)
    seen = [row for row in seen if row["scans"] > len(paths) / LEFT_OUT]
    scans = seen[-1]["scans"] - seen[0]["scans"]
    per_scan = {name: round((seen[-1][name] - seen[0][name]) / scans, 4) for name in ("cpu", "wall")}
    cpu = sum(one["cpu"] for one in loops) / len(loops)
    result = {
        "environment": facts,
        "scans": len(paths),
        "shape": shape,
        "voxel_size": VOXEL_SIZE,
        "seconds_per_scan": {"restore --workers 1": per_scan, "loops": loops},
        "cpu_of_loop": round(per_scan["cpu"] / cpu, 3),
        "flat": slopes(seen),
    }
    print(json.dumps(result, indent=1))
    write_json(options.out / "many_scans.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
