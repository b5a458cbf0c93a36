"""Options of commands that work on many scans: where they are in work, how many at a time, and which part of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import tyro

from lesioncore.choices import EngineName
from lesioncore.cli.output import Output, UsageError
from lesioncore.cohort.engines import Engine

JobT = TypeVar("JobT")


@dataclass(frozen=True)
class EngineOptions:
    """Where scans are in work.

    Parameters
    ----------
    engine : str
        local is this process. ray is one machine with several GPUs or a cluster, by the extra cluster: what a lost
        worker had in work is done again by others.
    workers : int
        Scans in work at the same time: while the device restores one, others are read and written. Each takes memory
        for a scan and its results. 0 is as many as there are CPU cores, but at most 4 and what memory has room for.
        With --engine ray in each of its actors.
    actor_cores : int
        CPU cores of each actor of --engine ray; 0 shares a machine's among its GPUs, or is up to 4 where there is none.
    ray_address : str, optional
        Running cluster of --engine ray. When absent the environment variable RAY_ADDRESS, else Ray runs on this machine
        for the time of the command, and nothing outside it can reach it.
    num_parts : int
        Parts into which the scans are divided, such as the tasks of a job array.
    part_id : int
        Part to work on, from 0 to --num-parts less 1. The parts together have each scan once.
    """

    engine: EngineName = "local"
    workers: int = 0
    actor_cores: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    ray_address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    num_parts: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    part_id: Annotated[int, tyro.conf.arg(metavar="I")] = 0

    def check(self) -> None:
        """Raise ``UsageError`` if an option is out of its range, contradicts another, or lacks its extra."""
        from lesioncore.cohort.on_ray import require_ray

        for name, value in (("workers", self.workers), ("actor-cores", self.actor_cores)):
            if value < 0:
                raise UsageError(f"--{name}: got {value}, expected 0 or more")
        if self.num_parts < 1:
            raise UsageError(f"--num-parts: got {self.num_parts}, expected 1 or more")
        if not 0 <= self.part_id < self.num_parts:
            raise UsageError(
                f"--part-id: got {self.part_id}, expected 0 to {self.num_parts - 1}, since --num-parts is"
                f" {self.num_parts}"
            )
        if self.engine == "ray":
            try:
                require_ray()
            except ImportError as error:
                raise UsageError(f"--engine: {error}") from error
        elif self.actor_cores or self.ray_address is not None:
            raise UsageError("--actor-cores, --ray-address: are for --engine ray")

    def part_of(self, jobs: Sequence[JobT], output: Output) -> Sequence[JobT]:
        """Return this part's jobs: every so many-th, so that parts are of like size; a note tells how many."""
        if self.num_parts == 1:
            return jobs
        part = jobs[self.part_id :: self.num_parts]
        output.note(f"part {self.part_id} of {self.num_parts} (from 0): {len(part)} of {len(jobs)} scans")
        return part

    def made(self) -> Engine:
        """Return the engine."""
        from lesioncore.cohort.local import LocalEngine
        from lesioncore.cohort.on_ray import RayEngine

        if self.engine == "ray":
            return RayEngine(self.ray_address, self.actor_cores, self.workers)
        return LocalEngine(self.workers)
