"""What engines do: they give jobs to workers, and their results back in the jobs' order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

JobT = TypeVar("JobT")
JobT_contra = TypeVar("JobT_contra", contravariant=True)

Results: TypeAlias = Iterator[tuple[JobT, Callable[[], dict[str, Any]]]]
"""Jobs in their order, each with a function that waits for its result: it gives it, warns of what there was to warn of,
or raises what failed."""


class Doing(Protocol[JobT_contra]):
    """Does one job after another, several at the same time too."""

    def __call__(self, job: JobT_contra, /, again: bool = False) -> dict[str, Any]:
        """Do a job.

        Parameters
        ----------
        job
            What is to be done.
        again : bool
            It was given to a worker that was lost, and may have been done, or half.
        """
        ...


class Work(Doing[JobT_contra], Protocol[JobT_contra]):
    """Does jobs, also in other processes to which it is sent."""

    def open(self) -> None:
        """Open what it needs there, such as priors; called once in each process."""
        ...


class Engine(Protocol):
    """Where jobs are done."""

    def run(self, jobs: Sequence[JobT], work: Work[JobT]) -> Results[JobT]:
        """Do all jobs; one that fails does not stop the others."""
        ...


at_stop: set[Callable[[], None]] = set()
"""What ends the other processes of engines that are at work; for a command that is stopped."""
