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
        local works on the scans in this process. ray spreads them over a machine's GPUs or a cluster, in processes that
        are called actors; the scans of an actor that is lost are given to others. It needs the extra cluster.
    workers : int
        Scans in work at the same time, with --engine ray in each of its actors: while the device restores one, others
        are read and written. Each takes memory for a scan and its results. 0 is as many as there are CPU cores, but at
        most 4 and what memory has room for.
    actor_cores : int
        CPU cores of each actor of --engine ray. With 0, the actors of a machine, one for each GPU, share its cores;
        without GPUs an actor has up to 4.
    ray_address : str, optional
        HOST:PORT of a running cluster for --engine ray. When absent, that of the environment variable RAY_ADDRESS;
        without it Ray runs on this machine for the time of the command, and no other machine can reach it.
    num_parts : int
        Parts into which the scans are divided, such as the tasks of a job array; each run works on one, by --part-id.
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
                f" {self.num_parts}; give --num-parts the number of all parts"
            )
        if self.engine == "ray":
            try:
                require_ray()
            except ImportError as error:
                raise UsageError(f"--engine: {error}") from error
        elif self.actor_cores or self.ray_address is not None:
            name = "--actor-cores" if self.actor_cores else "--ray-address"
            raise UsageError(
                f"{name}: is for --engine ray, got --engine {self.engine}; give --engine ray, or leave it out"
            )

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
