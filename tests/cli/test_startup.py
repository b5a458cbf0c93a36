"""What the command line loads: help, version and wrong usage come before torch and other large libraries."""

from __future__ import annotations

import inspect
import subprocess
import sys
from tempfile import gettempdir

import pytest

from lesioncore.cli import COMMANDS, command_class

HEAVY = ("torch", "numpy", "nibabel", "scipy", "SimpleITK", "nilearn", "sklearn", "matplotlib")


def loaded(code: str) -> set[str]:
    """Which of the large libraries a fresh Python has loaded after some code."""
    script = f"import sys; {code}; print('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    # Away from the checkout, whose source folder would stand in for the installed package.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=gettempdir())
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--version"], ["--help"], ["restor"], ["restore"], ["restore", "--help"], ["evaluate", "--help"]),
        *(["import", "--help"], ["import", "ixi"], ["demo", "-h"], ["info"], ["info", "--json"]),
    ],
    ids=" ".join,
)
def test_answers_before_libraries_are_loaded(arguments):
    assert loaded(f"from lesioncore.cli import main; main({arguments!r})") == set()


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], [], ["in", "out", "nonesuch"], ["in"]], ids=" ".join)
def test_the_bids_app_answers_before_libraries_are_loaded(arguments):
    assert loaded(f"from lesioncore.bids_app import main; main({arguments!r})") == set()


def test_the_package_loads_what_is_used():
    assert loaded("import lesioncore; lesioncore.__version__") == set()
    assert loaded("import lesioncore; lesioncore.restore") <= {"torch", "numpy", "nibabel", "scipy"}  # scipy by nibabel


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_they_do(name):
    assert COMMANDS[name] == inspect.getdoc(command_class(name)).splitlines()[0]
