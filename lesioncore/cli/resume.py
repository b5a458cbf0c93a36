"""``--resume``: scans that an earlier run finished with the same prior and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lesioncore.cli.options import RestoreOptions

if TYPE_CHECKING:
    from lesioncore.restoration.run import Run

State = Literal["finished", "unfinished", "other"]


def decided(run: Run, options: RestoreOptions) -> dict[str, Any]:
    """What a result's JSON will say of what decides it."""
    seed = options.seed if run.config.latent == "sample" else None
    return json.loads(json.dumps(run.decided(seed)))


def state_of(scan: Path, mask: Path | str | None, results: list[Path], wanted: dict[str, Any]) -> State:
    """Whether a scan's results are whole and those of this scan, its mask and what is `wanted`."""
    from lesioncore.restoration.volumes import sources_of

    sidecar = next((path for path in results if "_desc-restored_" in path.name and path.suffix == ".json"), None)
    if sidecar is None:  # it is written last
        return "unfinished"
    try:
        facts = json.loads(sidecar.read_text())
    except ValueError:
        return "unfinished"
    expected = {**sources_of(scan, mask), **wanted}
    if any(facts.get(key) != value for key, value in expected.items()):
        return "other"
    return "finished" if set(facts.get("Files", ())) <= {path.name for path in results} else "unfinished"
