"""``--resume``: which scans an earlier run finished with the same prior and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lesioncore.cli.options import RestoreOptions

if TYPE_CHECKING:
    from lesioncore.restoration.run import Run

State = Literal["finished", "unfinished", "other"]
"""Results are complete, incomplete, or of another scan, mask, prior or other settings."""


def expected_record(run: Run, options: RestoreOptions) -> dict[str, Any]:
    """Return the entries for prior and settings that the JSON file of this run's results will have."""
    seed = options.seed if run.config.latent == "sample" else None
    return json.loads(json.dumps(run.decided(seed)))


def state_of(scan: Path, mask: Path | str | None, results: list[Path], expected: dict[str, Any]) -> State:
    """Compare a scan's results with the scan, its mask and the expected entries for prior and settings.

    Parameters
    ----------
    scan : Path
        The scan.
    mask : Path, str or None
        Its brain mask: a file, the name of a tool, or none.
    results : list of Path
        Files that an earlier run wrote for a scan of this name.
    expected : dict
        From :func:`expected_record`.
    """
    from lesioncore.restoration.volumes import sources_of

    sidecar = next((path for path in results if "_desc-restored_" in path.name and path.suffix == ".json"), None)
    if sidecar is None:  # the JSON file is written last
        return "unfinished"
    try:
        facts = json.loads(sidecar.read_text())
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        return "unfinished"
    if any(facts.get(key) != value for key, value in {**sources_of(scan, mask), **expected}.items()):
        return "other"
    return "finished" if set(facts.get("Files", ())) <= {path.name for path in results} else "unfinished"
