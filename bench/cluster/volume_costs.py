"""Cost of a volume from file to file, by its size: CPU seconds, peak memory, bytes read and written.

    python bench/cluster/volume_costs.py head_T1w.nii.gz brain_T2w.nii.gz

Each scan is restored by ``lesioncore restore`` in a process of its own, by the embedded prior of its contrast, with and
without its report. CPU seconds are those of all threads: on busy machines they are steadier than seconds on the clock.
Importing the libraries, which a process does once, is measured by itself and taken off. Writes ``volume_costs.json``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import nibabel as nib
from common.options import parser, started
from common.results import write_json

STARTED = (
    "import lesioncore.cli.restore_scan, lesioncore.models as m; [m.load_prior(n) for n in ('real-t1', 'real-t2')]"
)


def measured(words: list[str]) -> dict[str, float]:
    """CPU seconds and peak memory of a command."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}")
    return {"cpu seconds": round(usage.ru_utime + usage.ru_stime, 1), "peak GB": round(usage.ru_maxrss / 1e6, 2)}


def cost(scan: Path, start: float, *options: str) -> dict[str, Any]:
    """Cost of one scan."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["lesioncore", "restore", str(scan), "-o", folder, "--workers", "1", *options]
        facts = measured([sys.executable, "-m", *words])
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    facts["cpu seconds"] = round(facts["cpu seconds"] - start, 1)
    return {**facts, "MB written": round(written / 1e6, 1)}


def main() -> int:
    options_of = parser(__doc__, writes="volume_costs.json")
    options_of.add_argument("scans", type=Path, nargs="+")
    options = options_of.parse_args()
    options.device = "cpu"
    facts = started(options)
    begin = measured([sys.executable, "-c", STARTED])
    print("start of a process:", begin, flush=True)
    rows = []
    for scan in options.scans:
        image = nib.load(scan)
        row = {
            "scan": scan.name,
            "voxels": list(image.shape),
            "mm": [round(float(size), 2) for size in image.header.get_zooms()[:3]],
            "MB read": round(scan.stat().st_size / 1e6, 1),
            "with report": cost(scan.resolve(), begin["cpu seconds"]),
            "without": cost(scan.resolve(), begin["cpu seconds"], "--no-report"),
        }
        print(row, flush=True)
        rows.append(row)
    write_json(options.out / "volume_costs.json", {"environment": facts, "start of a process": begin, "scans": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
