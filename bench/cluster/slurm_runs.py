"""Results of a cohort on Slurm, by job array and by Ray, cancelled and run again, against one process.

    eval "$(bench/cluster/one_node_slurm.sh start)"
    python bench/cluster/slurm_runs.py --work /tmp/slurm

Runs docs/how-to/slurm's job scripts on phantoms of 2 mm. Each is cancelled once while scans are in work, and given
again as the page says. Fails unless the results are those of one process to the byte. Writes ``slurm_runs.json``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.options import parser, started
from common.results import ROOT, write_json

SCRIPTS = ROOT / "docs" / "how-to" / "slurm"
OPTIONS = ["--prior", "phantom-t2", "--no-report"]
JOBS = {
    "array": ["--array=0-1", "--cpus-per-task=1", "--mem=5G", str(SCRIPTS / "array.sbatch")],
    "ray": ["--nodes=1", "--cpus-per-task=2", "--mem=12G", str(SCRIPTS / "ray.sbatch")],
}


def called(*words: str | Path) -> str:
    """Run a command that has to end well, and give what it printed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of the images; JSON files have seconds in them."""
    return {path.name: path.read_bytes() for path in folder.rglob("*.nii.gz")}


def on_slurm(kind: str, scans: Path, out: Path, logs: Path) -> dict[str, Any]:
    """Give a job, cancel it as soon as it has results, and give it again."""
    words = ["sbatch", "--parsable", f"--chdir={logs}", *JOBS[kind], str(scans), str(out), *OPTIONS]
    job = called(*words).strip()
    while not any(out.rglob("*_desc-restored_*.json")):
        if not called("squeue", "--noheader", f"--jobs={job}"):
            raise RuntimeError(f"{kind}: the job has ended without a result; see {logs}")
        time.sleep(0.2)
    called("scancel", job)
    asked = time.monotonic()
    while called("squeue", "--noheader", f"--jobs={job}"):
        time.sleep(0.2)
    ended = time.monotonic() - asked
    before = len(list(out.rglob("*_desc-restored_*.json")))
    left = len(list(out.rglob(".lesioncore-*")))
    begun = time.monotonic()
    called(*words[:1], "--wait", *words[1:])
    return {
        "job": kind,
        "scans done when cancelled": before,
        "seconds to end": round(ended, 1),
        "temporary files left by it": left,
        "temporary files at last": len(list(out.rglob(".lesioncore-*"))),
        "seconds of the second run": round(time.monotonic() - begun, 1),
    }


def main() -> int:
    options_of = parser(__doc__, writes="slurm_runs.json", work="folder for scans, results and logs")
    options_of.add_argument("--scans", type=int, default=8)
    options = options_of.parse_args()
    options.device = "cpu"
    facts = started(options)
    work = options.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    scans, logs = work / "scans", work / "logs"
    logs.mkdir(parents=True)
    called("lesioncore", "phantom", scans, "--subjects", str(options.scans), "--voxel-size", "2")
    begun = time.monotonic()
    called("lesioncore", "restore", scans, "-o", work / "local", *OPTIONS)
    seconds = time.monotonic() - begun
    jobs = []
    for kind in JOBS:
        jobs.append(on_slurm(kind, scans, work / kind, logs))
        jobs[-1]["same as one process"] = contents(work / kind) == contents(work / "local")
        print(jobs[-1], flush=True)
    version = called("sinfo", "--version").strip()
    write_json(
        options.out / "slurm_runs.json",
        {
            "environment": facts,
            "slurm": version,
            "scans": options.scans,
            "local seconds": round(seconds, 1),
            "jobs": jobs,
        },
    )
    return 0 if all(job["same as one process"] and not job["temporary files at last"] for job in jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
