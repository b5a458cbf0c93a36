"""Looks the packages of the lock file up in the database of known vulnerabilities, OSV, by pip-audit.

It fails for a package with one. Where the database cannot be reached, it says that nothing was audited, and does not
fail: pip-audit itself reports "no known vulnerabilities" for packages that it could not look up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("tests.lock")


def verdict(report: str, errors: str) -> tuple[int, str]:
    """Exit status and text for what pip-audit wrote to stdout, as JSON, and to stderr."""
    try:
        packages = json.loads(report)["dependencies"]
    except ValueError:
        last = (errors.strip().splitlines() or ["pip-audit wrote nothing"])[-1]
        return 0, f"NOT AUDITED, the database of vulnerabilities was not reached: {last[:300]}"
    found = [
        f"{package['name']} {package['version']}: {entry['id']}, fixed in {', '.join(entry['fix_versions']) or 'none'}"
        for package in packages
        for entry in package.get("vulns", [])
    ]
    missed = [package["name"] for package in packages if "vulns" not in package]
    lines = [f"{len(packages) - len(missed)} packages audited, {len(found)} known vulnerabilities", *found]
    if missed:
        lines.append(f"NOT AUDITED: {len(missed)} of {len(packages)} packages: {', '.join(missed[:10])}")
    return int(bool(found)), "\n".join(lines)


def main() -> int:
    """Audit the lock file."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps", "--disable-pip"]
    options = ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if "No module named pip_audit" in run.stderr:
        print("pip-audit is not installed; it comes with the extra dev", file=sys.stderr)
        return 2
    status, text = verdict(run.stdout, run.stderr)
    print(text)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
