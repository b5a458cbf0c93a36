"""``--resume``: which scans an earlier run finished with the same prior and settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lesioncore.cli.options import RestoreOptions
from lesioncore.data.files import difference
from lesioncore.data.json_files import read_object

if TYPE_CHECKING:
    from lesioncore.restoration.run import Run


class Standing(NamedTuple):
    """How far an earlier run came with a scan.

    Attributes
    ----------
    state : str
        ``none`` without results, ``finished``, ``unfinished`` where files are missing or damaged, or ``other`` for
        results of another scan, mask, prior or other settings.
    reason : str
        Why they are unfinished or others.
    """

    state: Literal["none", "finished", "unfinished", "other"]
    reason: str = ""


def expected_record(run: Run, options: RestoreOptions) -> dict[str, Any]:
    """Return the entries for prior and settings that the JSON file of this run's results will have."""
    seed = options.seed if run.config.latent == "sample" else None
    return json.loads(json.dumps(run.decided(seed)))


def others_exist(standing: Standing, path: Path, resume: bool) -> FileExistsError:
    """The error for results that are not to be replaced; `path` is one of them, and `resume` whether that was given."""
    why = f", but {standing.reason}" if standing.reason else ""
    options = "--overwrite" if resume else "--resume, --overwrite"
    return FileExistsError(f"results exist already{why} ({path}); give {options} or another --output")


def standing_of(
    scan: Path, mask: Path | str | None, results: Sequence[Path], sidecar: str, expected: dict[str, Any]
) -> Standing:
    """Compare a scan's results with the scan, its mask and the expected entries for prior and settings.

    Parameters
    ----------
    scan : Path
        The scan.
    mask : Path, str or None
        Its brain mask: a file, the name of a tool, or none.
    results : sequence of Path
        Files that an earlier run wrote for a scan of this name, in one folder.
    sidecar : str
        Part of the name of the JSON file that is written last, such as ``_desc-restored_``.
    expected : dict
        Entries that it has to have, such as those of :func:`expected_record`.
    """
    from lesioncore.restoration.volumes import sources_of

    if not results:
        return Standing("none")
    path = next((path for path in results if sidecar in path.name and path.suffix == ".json"), None)
    if path is None:
        return Standing("unfinished", "an earlier run stopped before its last file")
    try:
        facts = read_object(path)
    except ValueError:
        return Standing("unfinished", f"{path.name} is damaged")
    if not isinstance(facts.get("Files"), dict):
        return Standing("other", "an earlier version of lesioncore wrote them, without the hashes of the files")
    sources = sources_of(scan, mask)
    for role in ("Source", "Mask"):
        if any(facts.get(key) != sources[key] for key in (role, f"{role}SHA256")):
            return Standing("other", f"they are of another {'scan' if role == 'Source' else 'mask'}")
    if differing := [key for key, value in expected.items() if facts.get(key) != value]:
        return Standing("other", f"they were made otherwise: {', '.join(differing)} differ in {path.name}")
    reason = difference(path.parent, facts["Files"])
    return Standing("finished") if reason is None else Standing("unfinished", reason)
