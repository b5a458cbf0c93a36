"""The part of the engine on Ray that runs in Ray's processes."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from lesioncore.cohort.engines import Work
from lesioncore.data.temporary import abandon

_warned: ContextVar[list[str] | None] = ContextVar("warned", default=None)
"""What the job of this thread has warned of."""


@dataclass(frozen=True)
class Reply:
    """What an actor answers.

    Attributes
    ----------
    facts : dict
        Result of a job.
    error : Exception or None
        What failed.
    warned : list of str
        What there was to warn of.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    warned: list[str] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """The facts, in the process of the command: warnings are given again, and a failure is raised."""
        for message in self.warned:
            warnings.warn(message, stacklevel=2)
        if self.error is not None:
            raise self.error
        return self.facts


class Actor:
    """Does jobs in a process that Ray started.

    Parameters
    ----------
    work : Work
        Does them.
    folder : str
        Working folder of the command, from which paths may start.
    threads : int
        CPU threads of each job.
    """

    def __init__(self, work: Work[Any], folder: str, threads: int) -> None:
        self._work = work
        self._folder = folder
        self._threads = threads

    def ready(self) -> Reply:
        """Open what the work needs, before the first job."""
        warnings.showwarning = _collect  # type: ignore[assignment]
        warnings.simplefilter("always", UserWarning)
        return _reply(self._open)

    def do(self, job: Any, again: bool) -> Reply:
        """Do a job."""
        return _reply(lambda: self._work(job, again))

    def stop(self) -> None:
        """End the process at once, without temporary files."""
        abandon()
        os._exit(0)

    def _open(self) -> dict[str, Any]:
        import torch

        try:
            os.chdir(self._folder)
        except OSError as error:
            raise FileNotFoundError(
                f"{self._folder}: is not there on {socket.gethostname()}; all machines of a cluster have to see the"
                " same files"
            ) from error
        torch.set_num_threads(self._threads)
        self._work.open()
        return {}


def _reply(do: Callable[[], dict[str, Any]]) -> Reply:
    warned: list[str] = []
    token = _warned.set(warned)
    try:
        return Reply(do(), warned=warned)
    except Exception as error:
        return Reply(error=_sendable(error), warned=warned)
    finally:
        _warned.reset(token)


def _sendable(error: Exception) -> Exception:
    """An error as it can be made again in another process, or its text where its class takes other arguments."""
    try:
        return type(error)(*error.args)
    except TypeError:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _collect(message: Warning | str, category: type[Warning], *details: Any) -> None:
    warned = _warned.get()
    if warned is not None:
        warned.append(str(message) if category is UserWarning else f"{category.__name__}: {message}")
