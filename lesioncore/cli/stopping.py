"""An orderly end on Ctrl-C and SIGTERM: within seconds, whatever is being computed, and without temporary files."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from lesioncore.cli.output import STOPPED, CommandError, Output
from lesioncore.cohort.engines import at_stop
from lesioncore.data.temporary import abandon


@contextmanager
def stoppable(output: Output, goes_on: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end this process with the exit code :data:`lesioncore.cli.output.STOPPED`.

    Threads cannot be interrupted while they compute, so that the process ends without them. What they have finished is
    in its place or is put there first; the rest is removed. In other threads than the main one, where signals cannot be
    caught, and where they are ignored, all stays as it is.

    Parameters
    ----------
    output : Output
        Says that the command was stopped.
    goes_on : str
        How to go on, as the end of a sentence.
    """
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for number in signals}
    previous = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

    def end() -> None:
        with suppress(OSError):  # the terminal may be closed
            output.last(CommandError(f"stopped; {goes_on}"))
        for child in multiprocessing.active_children():
            child.terminate()
        for stop_workers in tuple(at_stop):
            stop_workers()
        abandon()
        os._exit(STOPPED)

    def stop(number: int, frame: FrameType | None) -> None:
        # Another thread, since this one may hold what has to be waited for.
        threading.Thread(target=end, daemon=True).start()

    for number in previous:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
