"""Orderly end of a run on Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests(*, enabled: bool = True) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into an event, so that the update can be finished and saved.

    A second one ends the program at once, as usual. Outside the main thread, where signals cannot be caught, the event
    is never set.
    """
    asked = threading.Event()
    caught = (
        (signal.SIGINT, signal.SIGTERM) if enabled and threading.current_thread() is threading.main_thread() else ()
    )
    previous = {number: signal.getsignal(number) for number in caught}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        for restored, handler in previous.items():
            signal.signal(restored, handler)

    try:
        for number in caught:
            signal.signal(number, ask)
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
