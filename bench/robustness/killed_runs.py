"""Results of runs that were killed, stopped, out of space or robbed of a scan, after a second run: whole, and the same.

    python bench/robustness/killed_runs.py               # 100 runs, some minutes
    python bench/robustness/killed_runs.py --runs 10 --out /tmp

A cohort of small random scans is restored by a small random network, once without a disturbance, and then again and
again in a process that ends badly at a random moment: half of the time after a random time, else at a random call that
flushes, renames or removes a file. Then the same command goes on (``restore --resume``, ``preprocess --resume``, or
``lesioncore-bids`` as it is). Losses are

- a scan whose JSON file is there after the bad end, but another file is missing or not as it lists it;
- a second run that fails, or makes again what was finished, or leaves a temporary file;
- a SIGTERM that does not end the run within seconds and without a temporary file;
- a file that differs in the end from the undisturbed run's. Left out of the comparison: the seconds that are in JSON
  files and on reports, since no two runs take the same time; logs, which tell of each run by itself.

Writes ``killed_runs.json``.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import nibabel as nib
import numpy as np
import torch
from common.options import parser, started
from common.results import write_json

import lesioncore as lc
from lesioncore.bids_app import main as bids
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.cli import main as lesioncore
from lesioncore.cli.output import STOPPED
from lesioncore.data.files import difference

SECONDS = 10.0  # in which a run has to end after SIGTERM
SECONDS_ON_PAGE = re.compile(rb"(?<=econds&#34;: )[0-9.]+")
ENDS = ("SIGKILL", "SIGTERM", "disk full", "scan vanishes")
COMMANDS = ("restore", "restore --overwrite", "preprocess", "lesioncore-bids")


@dataclass(frozen=True)
class Cohort:
    """Scans, a prior, and the folder that all of it is in."""

    root: Path
    scans: int = 3

    def make(self) -> int:
        """Write the scans and the prior; gives an exit code."""
        root = self.root
        random_numbers = np.random.default_rng(0)
        shape, affine = (22, 18, 11), np.diag([4.0, 4.0, 4.0, 1.0])
        axes = np.meshgrid(*(np.linspace(-1.3, 1.3, length) for length in shape), indexing="ij")
        brain = sum(axis**2 for axis in axes) < 1
        for number in range(self.scans):
            path = root / "raw" / f"sub-{number}" / "anat" / f"sub-{number}_T2w.nii.gz"
            path.parent.mkdir(parents=True)
            values = 400 + 60 * np.sin(sum(3 * axis for axis in axes)) + 20 * random_numbers.standard_normal(shape)
            values = np.where(brain, values, 0)
            nib.save(nib.Nifti1Image(values.astype(np.float32), affine), path)
        description = {"Name": "noise", "BIDSVersion": "1.10.0"}
        (root / "raw" / "dataset_description.json").write_text(json.dumps(description))
        torch.manual_seed(0)
        intensity = lc.IntensityScale.fit(torch.from_numpy(values[brain]))
        metadata = lc.PriorMetadata("noise", "T2w", lc.SliceGrid(4.0, (24, 20)), intensity)
        prior = lc.VAE(lc.VAEConfig((24, 20), (4, 6), 3), metadata).eval()
        people = merged([HealthyScores.of(torch.arange(1, 101) * scale) for scale in (0.005, 0.01)])
        calibration = lc.Calibration(lc.RestoreConfig().for_prior(prior).settings(), 0.5, people)
        prior.metadata = metadata.with_calibration(calibration)
        lc.save_model(prior, root / "prior", card="A random network.\n")
        return 0

    def run(self, command: str, out: Path, *, again: bool) -> int:
        """Run a command; `again` goes on with it."""
        raw, prior = str(self.root / "raw"), str(self.root / "prior")
        if command != "restore":  # reports take most of the time
            sys.modules["matplotlib.figure"] = None  # type: ignore[assignment]
        if command == "lesioncore-bids":
            return bids([raw, str(out), "participant", "--prior", prior, "--skip-bids-validation"])
        options = ["--overwrite"] * ("--overwrite" in command) + ["--resume"] * again
        if command == "preprocess":
            return lesioncore(["preprocess", raw, "-o", str(out), "--steps", "extract", *options])
        return lesioncore(["restore", raw, "-o", str(out), "--prior", prior, "--workers", "2", *options])


@dataclass(frozen=True)
class Undisturbed:
    """A whole run: the folder that it starts from, what it writes, its seconds, and its calls that change folders."""

    start: Path | None
    contents: dict[str, Any]
    seconds: float
    calls: int


def in_process(work: Callable[[], int], end: Callable[[int], None] | None = None) -> tuple[int, str]:
    """Do work in a process that is forked, so that torch is loaded once; `end` is handed its number.

    Gives its exit code, negative for a signal, and what it said.
    """
    sys.stdout.flush()
    with tempfile.TemporaryFile() as said:
        process = os.fork()
        if process == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            warnings.simplefilter("ignore")
            torch.set_num_threads(1)  # makes torch's pool of threads anew, which several threads at once cannot
            code = 70
            try:
                code = work()
            finally:
                os._exit(code)
        if end is not None:
            end(process)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said.seek(0)
        return code, said.read().decode(errors="replace")


def done(work: Callable[[], int]) -> None:
    """Do work that has to end well in a process of its own."""
    code, said = in_process(work)
    if code != 0:
        raise RuntimeError(f"an undisturbed run ended with {code} and said: {said}")


def at_call(number: int, act: Callable[[], None]) -> Counter[str]:
    """Have something done at the so many-th call of what flushes, renames or removes a file; gives the calls' count."""
    calls = Counter[str]()

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls["all"] += 1
            if calls["all"] == number:
                act()
            return function(*arguments, **options)

        return call

    for name in ("fsync", "replace", "rename", "unlink", "mkdir"):
        setattr(os, name, wrapped(getattr(os, name)))
    return calls


def ended_badly(
    cohort: Cohort, command: str, out: Path, how: str, seconds: float, calls: int
) -> tuple[int, str, float]:
    """Run a command that ends badly at a random moment.

    Gives its exit code, what it said, and the seconds since the signal if that came at a time.
    """
    at, moment = random.randint(1, calls), random.uniform(0, seconds)
    scan = cohort.root / "raw" / "sub-1" / "anat" / "sub-1_T2w.nii.gz"
    away = scan.with_suffix(".away")
    number = signal.SIGKILL if how == "SIGKILL" else signal.SIGTERM
    by_call = random.random() < 0.5
    asked = float("inf")

    def work() -> int:
        if how == "disk full" and by_call:
            resource.setrlimit(resource.RLIMIT_FSIZE, (random.randint(1, 4000), resource.RLIM_INFINITY))
        elif how == "disk full":
            at_call(at, no_space)
        elif how == "scan vanishes" and by_call:
            at_call(at, lambda: scan.rename(away))
        elif by_call:
            at_call(at, lambda: os.kill(os.getpid(), number))
        return cohort.run(command, out, again=False)

    def end(process: int) -> None:
        nonlocal asked
        if by_call or how == "disk full":
            return
        time.sleep(moment)
        if how == "scan vanishes":
            scan.rename(away)
        else:
            asked = time.monotonic()
            os.kill(process, number)

    code, said = in_process(work, end)
    if away.exists():
        away.rename(scan)
    return code, said, max(0.0, time.monotonic() - asked)


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def contents(out: Path) -> dict[str, Any]:
    """Each file of a folder: what JSON files and pages say without their seconds, else the bytes."""
    found: dict[str, Any] = {}
    for path in out.rglob("*"):
        name = path.relative_to(out).as_posix()
        if path.is_dir() or name.startswith("logs/"):
            continue
        if path.suffix == ".json":
            found[name] = without_seconds(json.loads(path.read_text()))
        else:
            found[name] = SECONDS_ON_PAGE.sub(b"", path.read_bytes())
    return found


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(part) for key, part in value.items() if key.lower() != "seconds"}
    return [without_seconds(part) for part in value] if isinstance(value, list) else value


def finished(out: Path) -> dict[Path, int]:
    """JSON files that say that a scan is finished, with their times."""
    names = ("*_desc-restored_*.json", "*_desc-preproc_*.json")
    return {path: path.stat().st_mtime_ns for name in names for path in visible(out, name)}


def visible(out: Path, pattern: str) -> list[Path]:
    return [path for path in out.rglob(pattern) if ".lesioncore-" not in str(path.relative_to(out))]


def halves(out: Path) -> list[str]:
    """Scans that are called finished and are not."""
    listed = [(path, json.loads(path.read_text())["Files"]) for path in finished(out)]
    return [f"{path.name}: {reason}" for path, files in listed if (reason := difference(path.parent, files))]


def losses_of(cohort: Cohort, command: str, how: str, undisturbed: Undisturbed) -> dict[str, Any]:
    """A run that ends badly, and one that goes on: what was lost."""
    out, start, whole = cohort.root / "out", undisturbed.start, undisturbed.contents
    shutil.rmtree(out, ignore_errors=True)
    if start is not None:
        shutil.copytree(start, out)
    code, said, took = ended_badly(cohort, command, out, how, undisturbed.seconds, undisturbed.calls)
    losses = [f"half a result: {half}" for half in halves(out)] if out.exists() else []
    left = [str(path) for path in out.rglob(".lesioncore-*")]
    if code == STOPPED and left:
        losses.append(f"left after SIGTERM: {left}")
    begun = out.exists() and (start is None or contents(out) != contents(start))
    if (code == -signal.SIGTERM and begun) or (how == "SIGTERM" and took > SECONDS):
        losses.append(f"SIGTERM: exit code {code} after {took:.1f} s")
    before = {path: at for path, at in finished(out).items() if start is None} if out.exists() else {}
    if code == STOPPED and "goes on" not in said:
        losses.append(f"SIGTERM without a word on how to go on: {said}")
    again, said = in_process(lambda: cohort.run(command, out, again=True))
    if again != 0:
        losses.append(f"the second run ended with {again} and said: {said}")
    after = finished(out)
    losses += [f"made twice: {path.name}" for path, at in before.items() if after.get(path) != at]
    losses += [f"left for good: {path.name}" for path in out.rglob(".lesioncore-*")]
    found = contents(out)
    losses += [f"not the same: {name}" for name in sorted({*whole, *found}) if whole.get(name) != found.get(name)]
    bad = code != 0
    return {"command": command, "end": how, "code": code, "disturbed": bad, "left": len(left), "losses": losses}


def main() -> int:
    options_of = parser(__doc__, writes="killed_runs.json")
    options_of.add_argument("--runs", type=int, default=100)
    options_of.add_argument("--seed", type=int, default=0)
    options = options_of.parse_args()
    options.device, options.threads = "cpu", 1
    facts = started(options)
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        cohort = Cohort(Path(folder))
        done(cohort.make)
        runs = all_runs(cohort, options.runs)
    lost = [run for run in runs if run["losses"]]
    table = [
        {
            "end": how,
            "runs": len(of_kind := [run for run in runs if run["end"] == how]),
            "disturbed": sum(run["disturbed"] for run in of_kind),
            "losses": sum(bool(run["losses"]) for run in of_kind),
        }
        for how in ENDS
    ]
    for row in table:
        print("{end}: {runs} runs, {disturbed} of them ended badly, {losses} with losses".format(**row), flush=True)
    result = {"environment": facts, "runs": len(runs), "seed": options.seed, "ends": table, "lost": lost}
    write_json(options.out / "killed_runs.json", result)
    return bool(lost)


def all_runs(cohort: Cohort, count: int) -> list[dict[str, Any]]:
    """The undisturbed runs of each command, and the others."""
    undisturbed: dict[str, Undisturbed] = {}
    runs = []
    for number in range(count):
        command, how = COMMANDS[number % len(COMMANDS)], ENDS[number // len(COMMANDS) % len(ENDS)]
        if command not in undisturbed:
            undisturbed[command] = measured(cohort, command)
        runs.append(losses_of(cohort, command, how, undisturbed[command]))
        print(f"[{number + 1}/{count}] {command}, {how}: code {runs[-1]['code']}", *runs[-1]["losses"], flush=True)
    return runs


def measured(cohort: Cohort, command: str) -> Undisturbed:
    out, start, noted = cohort.root / "out", None, cohort.root / "noted.json"
    shutil.rmtree(out, ignore_errors=True)
    if command.endswith("--overwrite"):
        start = cohort.root / "start"
        other = ["--prior", str(cohort.root / "prior"), "--tv-weight", "2"]
        done(lambda: lesioncore(["restore", str(cohort.root / "raw"), "-o", str(start), *other]))
        shutil.copytree(start, out)

    def work() -> int:
        calls = at_call(0, no_space)
        code = cohort.run(command, out, again=False)
        noted.write_text(json.dumps({"calls": calls["all"], "modules": [*sys.modules]}))
        return code

    done(work)
    for module in json.loads(noted.read_text())["modules"]:  # so that no further process has to
        with suppress(ImportError):
            import_module(module)
    shutil.rmtree(out)
    if start is not None:
        shutil.copytree(start, out)
    begun = time.monotonic()
    done(work)
    return Undisturbed(start, contents(out), time.monotonic() - begun, json.loads(noted.read_text())["calls"])


if __name__ == "__main__":
    sys.exit(main())
