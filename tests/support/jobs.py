"""Jobs that engines do in tests; other processes import them from here."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotPicklable(Exception):
    """An error that cannot be sent to another process as it is."""

    def __init__(self, words: str, what: str) -> None:
        super().__init__(f"{words}: {what}")


@dataclass(frozen=True)
class Errand:
    """Work in which a job is the word for what happens to it."""

    notes: Path
    """A file that gets a line for each job that is begun."""

    def open(self) -> None:
        """There is nothing to open."""

    def __call__(self, job: str, /, again: bool = False) -> dict[str, Any]:
        """Do a job."""
        with self.notes.open("a") as file:
            file.write(f"{job}\n")
        if job == "warns":
            warnings.warn("something is unusual", stacklevel=2)
        if job == "fails":
            raise ValueError("got a bad scan")
        if job == "fails oddly":
            raise NotPicklable("odd", "an error")
        if job == "always kills its worker" or (job == "kills its first worker" and not again):
            os._exit(1)
        return {"job": job, "again": again}


class Unopened(Errand):
    """Work that cannot be opened."""

    def open(self) -> None:
        """Fail."""
        raise FileNotFoundError("--prior: is not there")
