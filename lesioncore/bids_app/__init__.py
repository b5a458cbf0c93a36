"""The ``lesioncore-bids`` command: lesioncore on a BIDS dataset, with the command line of all BIDS Apps."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from lesioncore.bids_app.command import PROGRAM, BidsApp
from lesioncore.cli import answer


def main(args: Sequence[str] | None = None) -> int:
    """Run the app.

    Parameters
    ----------
    args : sequence of str, optional
        Command-line arguments without the program's name; those of this process when absent.

    Returns
    -------
    int
        Exit code, as for the command ``lesioncore``.
    """
    return answer(PROGRAM, parse, args)


def parse(arguments: list[str]) -> BidsApp:
    """Make the command of its arguments; ``SystemExit`` after the help and where they are not understood."""
    return tyro.cli(BidsApp, prog=PROGRAM, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
