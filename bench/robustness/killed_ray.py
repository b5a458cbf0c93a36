"""Results of cohorts on Ray whose workers, nodes or command are killed: whole, and the same.

    python bench/robustness/killed_ray.py               # 24 runs, some minutes
    python bench/robustness/killed_ray.py --runs 4 --out /tmp

A cluster of two of Ray's nodes, each with an actor, restores a cohort of small random scans, once without a disturbance
and then again and again while, at a random moment, an actor or a node with its actor is killed, or the command itself
by SIGKILL or SIGTERM. A command that was left alone has to end well by itself; one that was ended is given again with
``--resume``. Losses are

- a command that was left alone and does not end with 0, or one given again that does not;
- a scan that is called finished and is not, at any end;
- a SIGTERM that does not end the command within seconds, or leaves a temporary file;
- a file that differs in the end from the undisturbed run's, except in seconds, or a temporary file left for good.

Writes ``killed_ray.json``.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.options import parser, started
from common.results import write_json
from robustness.killed_runs import SECONDS, Cohort, contents, done, halves

from lesioncore.cli.output import STOPPED

ENDS = ("actor", "node", "command, SIGKILL", "command, SIGTERM")


class Machines:
    """A cluster of two nodes on this machine, of which one can be killed."""

    def __init__(self) -> None:
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self.nodes = [self._add(), self._add()]

    def _add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, memory=6 * 10**9, object_store_memory=10**8, include_dashboard=False)

    def kill_node(self) -> None:
        """Kill the second node's processes, as when a machine loses its power."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def repair(self) -> None:
        """Have two nodes again."""
        if len(self.nodes) < 2:
            self.nodes.append(self._add())
        self.cluster.wait_for_nodes()

    def command(self, cohort: Cohort, out: Path, *options: str) -> subprocess.Popen[str]:
        """Start the command."""
        words = ["restore", str(cohort.root / "raw"), "-o", str(out), "--prior", str(cohort.root / "prior")]
        words += ["--engine", "ray", "--ray-address", self.cluster.address, "--no-report", *options]
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "lesioncore", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cohort.root,
        )


def actors() -> list[int]:
    """Numbers of the processes that restore."""
    found = subprocess.run(["pgrep", "-f", "^ray::Actor"], capture_output=True, text=True, check=False).stdout
    return [int(number) for number in found.split()]


def wait_until_begun(command: subprocess.Popen[str], out: Path) -> None:
    """Wait until actors are at work, or the command has ended."""
    while not out.exists() and command.poll() is None:
        time.sleep(0.01)


def disturb(how: str, machines: Machines, command: subprocess.Popen[str]) -> None:
    """Kill what is to be killed."""
    if how == "node":
        machines.kill_node()
    elif how == "actor":
        for number in random.sample(actors(), 1) if actors() else []:
            os.kill(number, signal.SIGKILL)
    else:
        command.send_signal(signal.SIGKILL if "SIGKILL" in how else signal.SIGTERM)


def run(cohort: Cohort, machines: Machines, how: str, seconds: float, whole: dict[str, Any]) -> dict[str, Any]:
    """One cohort with a disturbance: what was lost."""
    out, losses = cohort.root / "out", []
    shutil.rmtree(out, ignore_errors=True)
    machines.repair()
    command = machines.command(cohort, out)
    wait_until_begun(command, out)
    time.sleep(random.uniform(0, seconds))
    alone = command.poll() is None
    if alone:
        disturb(how, machines, command)
    asked = time.monotonic()
    said = command.communicate(timeout=300)[0]
    took, code = time.monotonic() - asked, command.returncode
    losses += [f"half a result: {half}" for half in halves(out)]
    left = [path.name for path in out.rglob(".lesioncore-*")]
    ended = how.startswith("command") and alone
    # Once all is done the process is only taken down, and SIGTERM ends it as any other.
    at_last = code == -signal.SIGTERM and contents(out) == whole
    if ended and how.endswith("SIGTERM") and not at_last and (code != STOPPED or took > SECONDS or left):
        losses.append(f"SIGTERM: exit code {code} after {took:.1f} s, left {left}")
    if not ended and code != 0:
        losses.append(f"exit code {code}: {said}")
    if ended:
        machines.repair()
        command = machines.command(cohort, out, "--resume")
        said = command.communicate(timeout=300)[0]
        if command.returncode != 0:
            losses.append(f"given again: exit code {command.returncode}: {said}")
    found = contents(out)
    losses += [f"not the same: {name}" for name in sorted({*whole, *found}) if whole.get(name) != found.get(name)]
    return {"end": how, "disturbed": alone, "code": code, "seconds": round(took, 1), "losses": losses}


def main() -> int:
    options_of = parser(__doc__, writes="killed_ray.json")
    options_of.add_argument("--runs", type=int, default=24)
    options_of.add_argument("--seed", type=int, default=0)
    options = options_of.parse_args()
    options.device, options.threads = "cpu", 1
    facts = started(options)
    random.seed(options.seed)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        cohort = Cohort(Path(folder), scans=60)
        done(cohort.make)
        machines = Machines()
        try:
            out = cohort.root / "whole"
            command = machines.command(cohort, out)
            wait_until_begun(command, out)
            begun = time.monotonic()
            said = command.communicate(timeout=300)[0]
            seconds = time.monotonic() - begun
            if command.returncode != 0:
                raise RuntimeError(f"the undisturbed run ended with {command.returncode} and said: {said}")
            whole = contents(out)
            for number in range(options.runs):
                runs.append(run(cohort, machines, ENDS[number % len(ENDS)], seconds, whole))
                print(f"[{number + 1}/{options.runs}]", runs[-1], flush=True)
        finally:
            machines.cluster.shutdown()
    table = [
        {
            "killed": how,
            "runs": len(of_kind := [one for one in runs if one["end"] == how]),
            "disturbed": sum(one["disturbed"] for one in of_kind),
            "losses": sum(bool(one["losses"]) for one in of_kind),
        }
        for how in ENDS
    ]
    lost = [one for one in runs if one["losses"]]
    result = {"environment": facts, "runs": len(runs), "seed": options.seed, "killed": table, "lost": lost}
    write_json(options.out / "killed_ray.json", result)
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
