"""Which steps of a plan are done, with the same inputs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lesioncore
import lesioncore.phantom
from lesioncore.data.files import write_json
from lesioncore.datasets.search import walk
from lesioncore.reproduction.plan import Step
from lesioncore.subjects import source_hash


class Records:
    """Remembers the steps that were done, and of what.

    A step is kept if its command, its inputs and the steps that it builds on are the same, and for evaluations the code
    of the package, too: trained models are kept when the code changes, as by ``lesioncore train``. An import is kept
    when the folder that it read is there no more.

    Parameters
    ----------
    folder : Path
        Where it is remembered; made with the first step.
    steps : sequence of Step
        The plan.
    simulated : bool
        People are simulated, so that results depend on the code that simulates them.
    """

    def __init__(self, folder: Path, steps: Sequence[Step], *, simulated: bool) -> None:
        self._folder, self._keys = folder, dict[str, str]()
        package = Path(lesioncore.__file__).parent
        people = source_hash(package / "phantom") if simulated else ""
        for step in steps:
            code = source_hash(package) if step.kind == "evaluate" else ""
            before = [self._keys[name] for name in step.needs]
            facts = [_without_device(step.words), before, _listing(step.source), people, code]
            self._keys[step.name] = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
            if step.source and not Path(step.source).is_dir():
                # What was imported stays when the download is removed.
                found = self._read(step)
                if found["command"] == step.command:
                    self._keys[step.name] = found["key"]

    def done(self, step: Step) -> bool:
        """Whether a step was done with the same inputs."""
        found = self._read(step)
        # What an import, a training or a calibration makes appears when it is complete.
        whole = found["done"] or (step.kind != "evaluate" and _complete(step))
        return found["key"] == self._keys[step.name] and whole and Path(step.made).exists()

    def stale(self, step: Step) -> bool:
        """Whether the step's folder holds what another command, or other data, have made."""
        return step.kind != "evaluate" and _complete(step) and not self.done(step)

    def write(self, step: Step, *, done: bool) -> None:
        """Remember that a step begins, or is done."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file(step), {"command": step.command, "key": self._keys[step.name], "done": done}, indent=1)

    def _file(self, step: Step) -> Path:
        return self._folder / f"{step.name.replace(' ', '_')}.json"

    def _read(self, step: Step) -> dict[str, Any]:
        file = self._file(step)
        return json.loads(file.read_text()) if file.exists() else {"command": None, "key": None, "done": False}


def _without_device(words: Sequence[str]) -> list[str]:
    """A command but for where it computes, so that one who has trained on a GPU can go on without."""
    place = words.index("--device") if "--device" in words else len(words)
    return [*words[:place], *words[place + 2 :]]


def _complete(step: Step) -> bool:
    made = Path(step.made)
    return (made / "model" / "config.json" if step.kind == "train" else made).exists()


def _listing(source: str) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files that an import reads, whose content would take long to read."""
    folder = Path(source)
    if not source or not folder.is_dir():
        return []
    files = [(name, os.stat(folder / name)) for name, reason in walk(folder) if reason is None]
    return [(name, facts.st_size, facts.st_mtime_ns) for name, facts in files]
