"""The ``lesioncore`` command: one dataclass for each subcommand, read by tyro.

Exit codes: 0 success, 1 failure with one line on stderr, 2 a command line that cannot be understood, 3 some scans
done and others failed, 130 stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from functools import reduce
from importlib import import_module
from importlib.metadata import version
from operator import or_
from typing import Annotated, Any, Protocol

import tyro

from lesioncore.cli.missing import check_named
from lesioncore.cli.output import FAILURE, STOPPED, SUCCESS, USAGE, CommandError, Outcome, Output, UsageError
from lesioncore.cli.stopping import stoppable
from lesioncore.cli.usage import usage
from lesioncore.cohort.machine import keep_to_quota

_DESCRIPTION = (
    "Unsupervised lesion detection in brain MRI by image restoration with a normative prior. Research software, not a"
    " medical device. Try: lesioncore demo"
)

COMMANDS = {
    "restore": "Restore scans and write the residuals, scores and lesion masks as NIfTI files.",
    "preprocess": "Extract the brain, take off the bias field and register to the ICBM152 2009a template, as restore"
    " does.",
    "train": "Train a model on healthy scans (or a supervised one on patients), calibrate it, and write its directory.",
    "calibrate": "Find a prior's data-consistency weight, smoothing and thresholds on healthy scans, and write them"
    " with it.",
    "evaluate": "Compare detectors on scans with known lesions, and write figures, tables and pictures.",
    "report": "Write an HTML page for each saved restoration and one for all of them.",
    "phantom": "Simulate a population with ground truth and write it as a BIDS dataset of NIfTI files.",
    "import": "Make a BIDS data set of a public data set, as it was downloaded: scans, lesion masks, people, split.",
    "reproduce": "Make the paper's Tables 1 to 3 and Figures 4 to 11 of its data sets, as they were downloaded.",
    "push": "Upload a model to the Hugging Face hub, with a card of its contrast, grid, calibration and licence.",
    "info": "Show versions, what is built, processor, GPU and priors; with --full, what of it loads, or why not.",
    "demo": "Find a simulated lesion in a head or brain that no prior has seen, and show how well that went.",
}
"""Descriptions of the commands. Each repeats the first line of the docstring of the command's dataclass, such as
``Restore`` in ``restore.py``, so that the help of ``lesioncore`` need not import them."""

_MODULES = {"import": "import_dataset"}
"""Modules of commands whose names are words of Python."""


class Command(Protocol):
    """A subcommand, whose dataclass fields are its options.

    One may have an attribute ``GOES_ON``, a text that says how to go on after it was stopped.
    """

    def run(self, output: Output) -> Outcome: ...


def command_class(name: str) -> type[Command]:
    """The dataclass of a command."""
    return getattr(import_module(f"lesioncore.cli.{_MODULES.get(name, name)}"), name.capitalize())


def commands(chosen: str | None) -> Any:
    """Return the union of all subcommands for tyro.

    Only the chosen one is imported. Empty dataclasses stand for the others, since importing them would load large
    libraries.
    """
    subcommands = []
    for name, description in COMMANDS.items():
        class_name = name.capitalize()
        if name == chosen:
            subcommands.append(Annotated[command_class(name), tyro.conf.subcommand(name)])
        else:
            subcommands.append(
                Annotated[make_dataclass(class_name, ()), tyro.conf.subcommand(name, description=description)]
            )
    return reduce(or_, subcommands)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    args : sequence of str, optional
        Command-line arguments without the program's name; those of this process when absent.

    Returns
    -------
    int
        Exit code.
    """
    return answer("lesioncore", parse, args)


def answer(program: str, parse: Callable[[list[str]], Command], args: Sequence[str] | None = None) -> int:
    """Run the command that a program's arguments make, and say what fails in one line.

    Parameters
    ----------
    program : str
        Its name.
    parse : callable
        Makes the command; ends with ``SystemExit`` after the help and where it does not understand.
    args : sequence of str, optional
        As for :func:`main`.

    Returns
    -------
    int
        Exit code.
    """
    keep_to_quota()
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever started the process; libraries write to it all the same
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115
    try:
        return _run(program, parse, list(sys.argv[1:] if args is None else args))
    except BrokenPipeError:
        # The reader of stdout has left while the help was written. The null device takes the pipe's place, so that the
        # interpreter's flush at exit does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE


def parse(arguments: Sequence[str]) -> Command:
    """Read a command line without the program's name; ``SystemExit`` as tyro's, where it cannot be understood."""
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    try:
        return tyro.cli(
            commands(chosen),
            prog="lesioncore",
            description=_DESCRIPTION,
            args=arguments or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except SystemExit as stop:
        if stop.code and chosen is not None:  # tyro lists the options that are missing, but not the inputs
            print(f"usage: {usage(chosen, command_class(chosen))}", file=sys.stderr)
        raise


def _run(program: str, parse: Callable[[list[str]], Command], arguments: list[str]) -> int:
    output = Output("--json" in arguments)
    if arguments == ["--version"]:
        output.say(f"{program} {version('lesioncore')}")
        return FAILURE if output.unread else SUCCESS
    try:
        _check_texts(arguments)
        command = parse(arguments or ["--help"])
        _check_values(command, arguments)
    except UsageError as error:
        output.fail(error)
        return USAGE
    except SystemExit as stop:
        sys.stdout.flush()  # a pipe that the reader has closed must raise here, where it still changes the exit code
        # Without arguments the help is shown; the exit code tells a script that no command has run.
        return USAGE if not arguments else int(stop.code or 0)
    except ValueError as error:
        # A dataclass has refused its values; tyro reports this error for some fields and lets it through for others.
        output.fail(error)
        return USAGE
    goes_on = getattr(command, "GOES_ON", "the same command begins anew")
    try:
        with output, stoppable(output, goes_on):
            check_named(command)
            outcome = command.run(output)
        output.finish(outcome.facts)
        return outcome.exit_code or (FAILURE if output.unread else SUCCESS)
    except UsageError as error:
        output.fail(error)
        return USAGE
    except KeyboardInterrupt as stop:
        output.fail(CommandError(f"{str(stop) or 'stopped'}; {goes_on}"))
        return STOPPED
    except Exception as error:
        output.fail(error)
        return FAILURE


def _check_texts(arguments: Sequence[str]) -> None:
    """Raise ``UsageError`` for an empty argument, which as a path would be the working folder."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            place = argument or (before if before.startswith("-") else "an argument")
            raise UsageError(
                f"{place.rstrip('=')}: got an empty text, expected a value; is a variable of the shell unset?"
            )


def _check_values(command: Command, arguments: Sequence[str]) -> None:
    """Raise ``UsageError`` for an option that takes several values and was given without any."""
    given = {argument.replace("_", "-") for argument in arguments if argument.startswith("--")}
    for name, value in vars(command).items():
        option = f"--{name.replace('_', '-')}"
        if value == () and option in given:
            raise UsageError(f"{option}: got no value, expected at least one; leave it out, or is a variable unset?")
