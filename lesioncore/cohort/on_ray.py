"""The engine on Ray: actors on one machine with several GPUs or on a cluster; others do what a lost one had in work."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Generic

from lesioncore.cohort.actor import Actor, Reply
from lesioncore.cohort.engines import JobT, Results, Work, at_stop
from lesioncore.cohort.machine import MEMORY_OF_PROCESS, MEMORY_PER_SCAN, MOST_SCANS

ATTEMPTS = 3
"""Actors that a job is given to, one after the other, when each is lost with it."""

_QUIET_SECONDS = 60.0
"""Without an actor at work, after which a warning says what is waited for."""

_CONNECTING_SECONDS = 10.0
_STOPPING_SECONDS = 5.0


def require_ray() -> None:
    """Raise ``ImportError`` with the name of the extra unless ray is installed."""
    if find_spec("ray") is None:
        raise ImportError("ray is not installed; pip install 'lesioncore[cluster]'")


@dataclass(frozen=True)
class RayEngine:
    """Does jobs in Ray's actors: one for each GPU, or for each share of CPU cores where there is no GPU.

    All machines have to see the same files under the same paths, and to have the same versions of Python, Ray and
    lesioncore.

    Attributes
    ----------
    address : str, optional
        Of a running cluster, as ``ray.init`` takes it. When absent the environment variable RAY_ADDRESS, else Ray is
        started on this machine for the time of the run, and can be reached from this machine alone.
    cores : int
        CPU cores of an actor; 0 shares those of a machine among its GPUs, or is up to four without any.
    workers : int
        Jobs in work at the same time in an actor; 0 for one on each of its cores, at most four.
    """

    address: str | None = None
    cores: int = 0
    workers: int = 0

    def run(self, jobs: Sequence[JobT], work: Work[JobT]) -> Results[JobT]:
        """Do all jobs.

        Raises
        ------
        ConnectionError
            If there is no cluster at the address.
        RuntimeError
            If no machine has room for an actor, or none can be started.
        """
        with self._connected() as ray:
            yield from _Cohort(ray, jobs, work, Share.of(ray.nodes(), self.cores, self.workers)).results()

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to Ray's makers
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
        if address == "local":
            # Read when ray is imported: without clusters its address is loopback, which no other machine can reach.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            # So is this, which keeps other users of this machine out; set later, only a part of Ray would know of it.
            if "ray" not in sys.modules:
                os.environ.setdefault("RAY_AUTH_MODE", "token")
            # Results are files, so that Ray's memory for objects may be small.
            options |= {"include_dashboard": False, "object_store_memory": 10**8}
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            _check_reachable(address)
            import ray

            ray.init(address, **options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise ConnectionError(f"--ray-address: no cluster of Ray can be used at {address!r}: {error}") from error
        if threading.current_thread() is threading.main_thread():  # Ray's own handler ends the process without a word
            signal.signal(signal.SIGTERM, on_sigterm)
        try:
            yield ray
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise ``OSError`` if nothing answers at an address ``HOST:PORT``; Ray itself would try again for many minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_CONNECTING_SECONDS).close()


@dataclass(frozen=True)
class Share:
    """What an actor has of a machine.

    Attributes
    ----------
    cores, gpus : int
        CPU cores and GPUs.
    slots : int
        Jobs in work at the same time.
    count : int
        Actors that a cluster has room for.
    """

    cores: int
    gpus: int
    slots: int
    count: int

    @property
    def memory(self) -> int:
        """Bytes of memory."""
        return int(MEMORY_OF_PROCESS + self.slots * MEMORY_PER_SCAN)

    def __str__(self) -> str:
        return f"{self.cores} CPU cores, {self.gpus} GPUs and {self.memory / 1e9:.1f} GB of memory"

    @classmethod
    def of(cls, nodes: Sequence[dict[str, Any]], cores: int, workers: int) -> Share:
        """Share out the machines of a cluster.

        Parameters
        ----------
        nodes : sequence of dict
            Machines, as ``ray.nodes`` gives them.
        cores, workers
            As for :class:`RayEngine`.

        Raises
        ------
        RuntimeError
            If none has room for an actor.
        """
        alive = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        with_gpus = [machine for machine in alive if machine.get("GPU", 0) >= 1]
        gpus, machines = (1, with_gpus) if with_gpus else (0, alive)
        if not cores:
            of_each = [machine["CPU"] // machine["GPU"] if gpus else MOST_SCANS for machine in machines]
            cores = max(1, int(min([*of_each, *(machine["CPU"] for machine in machines)], default=1)))
        shares = []
        for slots in [workers] if workers else range(1, min(MOST_SCANS, cores) + 1):
            needs = {"CPU": cores, "GPU": gpus, "memory": cls(cores, gpus, slots, 0).memory}
            room = [min(machine.get(name, 0) // need for name, need in needs.items() if need) for machine in machines]
            shares.append(cls(cores, gpus, slots, int(sum(room))))
        # No GPU is left idle so that others may have more scans at once.
        best = max(shares, key=lambda share: (share.count if gpus else share.count * share.slots, share.slots))
        if not best.count:
            have = "; ".join(
                f"{machine['CPU']:g} cores, {machine.get('GPU', 0):g} GPUs, {machine.get('memory', 0) / 1e9:.1f} GB"
                for machine in machines
            )
            raise RuntimeError(
                f"no machine of Ray's cluster has {shares[0]} for an actor, only {have or 'none'}; give fewer --workers"
                " or --actor-cores"
            )
        return best


@dataclass
class _Cohort(Generic[JobT]):
    """Hands jobs to actors, and takes their replies."""

    ray: Any
    jobs: Sequence[JobT]
    work: Work[JobT]
    share: Share
    calls: dict[Any, tuple[Any, int | None]] = field(default_factory=dict)
    """Actor and number of the job, or None for its start, of each call that has no answer yet."""
    idle: list[Any] = field(default_factory=list)
    """Actors, each as often as it has room for a job."""
    alive: list[Any] = field(default_factory=list)
    todo: deque[int] = field(default_factory=deque)
    losses: Counter[int] = field(default_factory=Counter)
    """Actors that were lost with a job, by its number."""
    failed_starts: int = 0

    def results(self) -> Results[JobT]:
        self.todo.extend(range(len(self.jobs)))
        replies: dict[int, Reply] = {}
        share = self.share
        at_stop.add(self._stop)
        try:
            for _ in range(min(share.count, -(-len(self.jobs) // share.slots))):
                self._start()
            for number, job in enumerate(self.jobs):
                while number not in replies:
                    self._give()
                    replies |= self._news()
                yield job, replies.pop(number).result
        finally:
            at_stop.discard(self._stop)
            self._stop()

    def _start(self) -> None:
        share = self.share
        remote = self.ray.remote(
            num_cpus=share.cores, num_gpus=share.gpus, memory=share.memory, max_concurrency=share.slots + 1
        )(Actor)
        actor = remote.remote(self.work, os.getcwd(), max(1, share.cores // share.slots))
        self.alive.append(actor)
        self.calls[actor.ready.remote()] = actor, None

    def _news(self) -> dict[int, Reply]:
        """Wait for an answer; gives the replies to jobs."""
        answered, _ = self.ray.wait(list(self.calls), timeout=_QUIET_SECONDS)
        if not answered and all(number is None for _, number in self.calls.values()):
            warnings.warn(f"Ray's cluster has no {self.share} free at present; still waiting", stacklevel=2)
        replies: dict[int, Reply] = {}
        errors = self.ray.exceptions
        for call in answered:
            actor, number = self.calls.pop(call)
            try:
                reply = self.ray.get(call)
            except (errors.RayActorError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
                replies |= self._lose(actor, number, error)
                continue
            if number is not None:
                replies[number] = reply
                self.idle.append(actor)
                continue
            reply.result()  # an actor that cannot do its work ends the run
            self.failed_starts = 0
            self.idle += [actor] * self.share.slots
        return replies

    def _give(self) -> None:
        """Hand out jobs as far as actors have room."""
        while self.todo and self.idle:
            actor, number = self.idle.pop(), self.todo.popleft()
            self.calls[actor.do.remote(self.jobs[number], self.losses[number] > 0)] = actor, number

    def _lose(self, actor: Any, number: int | None, error: Exception) -> dict[int, Reply]:
        """Take note of a lost actor; gives the reply to its job if that is given up."""
        if number is None:
            self.failed_starts += 1
            if self.failed_starts == ATTEMPTS:
                raise RuntimeError(f"Ray cannot start a worker: {error}") from error
        if actor in self.alive:
            self.ray.kill(actor)  # it may be there still, behind a network that is down, and hold what another needs
            self.alive.remove(actor)
            self.idle = [other for other in self.idle if other is not actor]
            self._start()
        if number is None:
            return {}
        self.losses[number] += 1
        if self.losses[number] < ATTEMPTS:
            self.todo.appendleft(number)
            return {}
        words = f"{ATTEMPTS} workers ended while they did it, each with {self.share}; is that enough? {error}"
        return {number: Reply(error=RuntimeError(words))}

    def _stop(self) -> None:
        """End the actors; those at work remove their temporary files."""
        busy = [actor for actor, number in self.calls.values() if number is not None]
        if calls := [actor.stop.remote() for actor in self.alive if actor in busy]:
            self.ray.wait(calls, num_returns=len(calls), timeout=_STOPPING_SECONDS)
        for actor in self.alive:
            self.ray.kill(actor)
        self.alive.clear()
