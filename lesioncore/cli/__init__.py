"""The ``lesioncore`` command: one dataclass for each subcommand, read by tyro.

Exit codes: 0 success, 1 failure with one line on stderr, 2 a command line that cannot be understood.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import tyro

from lesioncore.cli.calibrate import Calibrate
from lesioncore.cli.demo import Demo
from lesioncore.cli.evaluate import Evaluate
from lesioncore.cli.info import Info
from lesioncore.cli.output import CommandError, Output, UsageError
from lesioncore.cli.phantom import PhantomDataset
from lesioncore.cli.preprocess import Preprocess
from lesioncore.cli.restore import Restore
from lesioncore.cli.train import Train

_DESCRIPTION = (
    "Unsupervised lesion detection in brain MRI by image restoration with a normative prior. Research software, not a"
    " medical device. Try: lesioncore demo"
)

Command = (
    Annotated[Restore, tyro.conf.subcommand("restore")]
    | Annotated[Preprocess, tyro.conf.subcommand("preprocess")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[PhantomDataset, tyro.conf.subcommand("phantom")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    args : sequence of str, optional
        Command-line arguments without the program's name; those of this process when absent.

    Returns
    -------
    int
        Exit code: 0, 1 or 2.
    """
    try:
        return _run(list(sys.argv[1:] if args is None else args))
    except BrokenPipeError:
        # The reader of our output has left (such as `| head`): nothing more to say, also not at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: list[str]) -> int:
    output = Output("--json" in arguments)
    if arguments == ["--version"]:
        output.say(f"lesioncore {version('lesioncore')}")
        return 0
    try:
        command: Command = tyro.cli(
            Command,
            prog="lesioncore",
            description=_DESCRIPTION,
            args=arguments or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except SystemExit as stop:
        sys.stdout.flush()  # the help, while a reader that has left can still be told from success
        # Without any argument the help is shown, but nothing was done that a script could have wanted.
        return 2 if not arguments else int(stop.code or 0)
    except ValueError as error:
        # A configuration's own check; tyro reports those of some fields and lets others pass.
        output.fail(error)
        return 2
    try:
        with output:
            report = command.run(output)
        output.finish(report.facts)
        return 0 if report.complete else 1
    except UsageError as error:
        output.fail(error)
        return 2
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        output.fail(CommandError("interrupted"))
        return 1
    except Exception as error:
        output.fail(error)
        return 1
