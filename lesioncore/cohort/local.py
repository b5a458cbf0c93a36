"""The engine of one process: a thread for each job that is in work."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lesioncore.cohort.engines import Doing, JobT, Results
from lesioncore.cohort.machine import cpu_cores, memory, scans_at_once


@dataclass(frozen=True)
class LocalEngine:
    """Does jobs in this process: while the device computes for one, others are read and written.

    Attributes
    ----------
    workers : int
        Jobs in work at the same time; 0 for one on each CPU core, at most four and at most what memory has room for.
    """

    workers: int = 0

    def run(self, jobs: Sequence[JobT], work: Doing[JobT]) -> Results[JobT]:
        """Do all jobs."""
        executor = ThreadPoolExecutor(self.workers or scans_at_once(cpu_cores(), memory()))
        try:
            for job, future in [(job, executor.submit(work, job)) for job in jobs]:
                yield job, future.result
        finally:
            executor.shutdown(cancel_futures=True)
