"""Scans in work at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


def in_order(
    jobs: Sequence[JobT], work: Callable[[JobT], ResultT], workers: int
) -> Iterator[tuple[JobT, Callable[[], ResultT]]]:
    """Give the jobs in their order, each with what waits for its result while others are in work.

    Parameters
    ----------
    jobs : sequence
        What is to be done.
    work : callable
        Does one job, in a thread of its own.
    workers : int
        Jobs in work at the same time; 0 for one on each CPU core, at most 4.
    """
    executor = ThreadPoolExecutor(workers or min(4, len(os.sched_getaffinity(0))))
    try:
        for job, future in [(job, executor.submit(work, job)) for job in jobs]:
            yield job, future.result
    finally:
        executor.shutdown(cancel_futures=True)
