"""The official BIDS validator, where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from lesioncore.cli.output import CommandError

VALIDATOR = "bids-validator-deno"
"""Command of the package of the same name, which comes with the extra ``bids``. It needs no network."""

_SHOWN = 5


def find_validator() -> str | None:
    """Return the path of the validator, on the PATH or beside this Python, or None if it is not installed."""
    return shutil.which(VALIDATOR) or shutil.which(VALIDATOR, path=str(Path(sys.executable).parent))


def issues_of(dataset: Path, validator: str) -> list[dict[str, Any]]:
    """Return what the validator reports on a dataset: dicts with ``severity``, ``code``, ``location`` and others.

    Raises
    ------
    CommandError
        If the validator prints no such report.
    """
    process = subprocess.run([validator, "--format", "json", str(dataset)], capture_output=True, text=True)
    try:
        return json.loads(process.stdout)["issues"]["issues"]
    except (ValueError, KeyError, TypeError) as error:
        last_line = (process.stderr.strip() or process.stdout.strip() or "nothing").splitlines()[-1]
        raise CommandError(
            f"{VALIDATOR}: ended with {process.returncode} and said {last_line!r}, expected a list of issues; run it by"
            " hand, or give --skip-bids-validation"
        ) from error


def validate(dataset: Path) -> str:
    """Run the validator on a dataset, and return a line that says what came of it.

    Raises
    ------
    CommandError
        If the dataset has errors; the message names the first ones.
    """
    validator = find_validator()
    if validator is None:
        return f"the dataset is not validated: {VALIDATOR} is not installed (pip install 'lesioncore[bids]')"
    issues = issues_of(dataset, validator)
    errors = [issue for issue in issues if issue["severity"] == "error"]
    if not errors:
        return f"{VALIDATOR}: no error, {len(issues)} warnings in {dataset}"
    shown = [
        f"{issue['code']}{' ' + issue['subCode'] if issue.get('subCode') else ''} in {issue.get('location', dataset)}"
        for issue in errors[:_SHOWN]
    ]
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    raise CommandError(
        f"{dataset}: got {len(errors)} errors of {VALIDATOR}, expected a valid BIDS dataset: {'; '.join(shown)}{more}."
        f" `{VALIDATOR} {dataset}` explains them; --skip-bids-validation goes on without"
    )
