"""Fuzzing of everything that reads files of others: scans, prior directories, tables, sidecars of results.

    pip install atheris
    python bench/robustness/fuzzing.py --work /tmp/fuzzing                           # an hour
    python bench/robustness/fuzzing.py --work /tmp/fuzzing --targets scans --seconds 60

Each target (``bench/robustness/fuzz``) reads files made of the fuzzer's bytes, which atheris, a libFuzzer for Python,
steers by the branches of lesioncore and nibabel. The promise: a valid object, or ``ValueError`` or ``OSError`` whose
message names the file, within 1 GiB beside what the process has anyway and within 10 seconds. Anything else is a
finding; of each kind one input is kept, and fuzzing goes on. The folder of work keeps inputs and logs, so that the next
run begins with what this one reached. Findings are used again in the end, which tells those that are mended.

Writes ``fuzzing.json``: executions, seconds and findings of all runs whose logs are in the folder of work. Fails if a
finding is left.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.options import parser, started
from common.results import ROOT, write_json

HARNESS = Path(__file__).parent / "fuzz" / "harness.py"
NAMES = ("scans", "prior-configuration", "prior-calibration", "prior-weights", "tables", "sidecars")
SLOWEST = 10  # seconds for one input
DONE = re.compile(r"^Done (\d+) runs? in (\d+) second", re.MULTILINE)


def main() -> int:
    """Fuzz the targets, one after another."""
    arguments = parser(__doc__, writes="fuzzing.json", work="folder of inputs, logs and findings")
    arguments.add_argument("--targets", nargs="+", default=list(NAMES), choices=list(NAMES))
    arguments.add_argument("--seconds", type=int, default=600, help="for each target; 0 looks at the findings alone")
    options = arguments.parse_args()
    options.device = "cpu"
    facts = started(options)
    for name in options.targets:
        if options.seconds > 0:
            fuzz(name, options.work / name, options.seconds)
    targets = {name: figures(name, options.work / name) for name in NAMES if (options.work / name).is_dir()}
    total = {key: sum(one[key] for one in targets.values()) for key in ("executions", "seconds", "findings", "open")}
    print(json.dumps({**targets, "total": total}, indent=1))
    content = {
        "command": "python bench/robustness/fuzzing.py",
        "environment": facts,
        "total": total,
        "targets": targets,
    }
    write_json(options.out / "fuzzing.json", content)
    return int(total["open"] > 0)


def fuzz(name: str, work: Path, seconds: int) -> None:
    """Fuzz a target for some time; inputs that end the process, as by their time, are findings, too."""
    work.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    while (left := round(end - time.monotonic())) > 0:
        limits = [f"-max_total_time={left}", f"-timeout={SLOWEST}", "-rss_limit_mb=4096"]
        with open(work / f"log.{time.time_ns()}", "w") as log:
            command = [sys.executable, str(HARNESS), name, str(work), *limits, f"-artifact_prefix={work}/findings/"]
            code = subprocess.run(command, stdout=log, stderr=log, cwd=ROOT, check=False).returncode
        print(f"{name}: ended with code {code}", flush=True)


def figures(name: str, work: Path) -> dict[str, Any]:
    """Executions, seconds, and kinds of findings of a target by its logs; which of the findings are left."""
    runs = [match for log in work.glob("log.*") for match in DONE.finditer(log.read_text(errors="replace"))]
    found = sorted(path for path in (work / "findings").iterdir() if path.suffix != ".json")
    command = [sys.executable, str(HARNESS), name, str(work)]
    replayed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    left = re.findall(r"^OPEN .*", replayed.stderr, re.MULTILINE)
    if replayed.returncode != len(left):
        raise RuntimeError(f"{name}: the findings could not be used again:\n{replayed.stderr[-3000:]}")
    if left:
        print(replayed.stderr, flush=True)
    return {
        "executions": sum(int(run[1]) for run in runs),
        "seconds": sum(int(run[2]) for run in runs),
        "findings": len(found),
        "open": len(left),
        "inputs": sum(1 for _ in (work / "corpus").iterdir()),
        "kinds": sorted(kind(path) for path in found),
    }


def kind(path: Path) -> str:
    """What a finding was; those that ended the process are named by libFuzzer, such as ``timeout-...``."""
    notes = path.with_suffix(".json")
    return json.loads(notes.read_text())["kind"] if notes.exists() else path.name.split("-")[0]


if __name__ == "__main__":
    sys.exit(main())
