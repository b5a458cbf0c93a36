"""The lock file of the tests' environment, and the audit of it, which never passes for packages that it did not see."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*packages: dict) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


SOUND = {"name": "a", "version": "1.0", "vulns": []}
BAD = {"name": "b", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("stdout", "stderr", "status", "says"),
    [
        (report(SOUND), "", 0, r"1 packages audited, 0 known vulnerabilities$"),
        (report(SOUND, BAD), "", 1, r"2 packages audited, 1 known vulnerabilities\nb 2\.0: PYSEC-1, fixed in 2\.1$"),
        (report(SOUND, SKIPPED), "", 0, r"1 packages audited, 0 .*\nNOT AUDITED: 1 of 2 packages: c$"),
        ("", "Traceback\nConnectionError: no route", 0, r"NOT AUDITED, .*not reached: ConnectionError: no route$"),
        ("", "", 0, r"NOT AUDITED, .*pip-audit wrote nothing$"),
    ],
)
def test_the_audit_says_what_it_did_not_see(audit, stdout, stderr, status, says):
    code, text = audit.verdict(stdout, stderr)
    assert code == status
    assert re.match(says, text)


def test_the_lock_has_exact_versions_of_all_that_tests_need():
    lines = [line for line in (ROOT / ".ci" / "tests.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line) for line in lines)  # no address, path or build
    locked = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    assert locked >= {"torch", "nibabel", "safetensors", "pytest", "hypothesis", "nilearn", "pip-audit", "ruff"}
