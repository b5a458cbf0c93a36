"""The JSON files of results, and reports, as later commands read them."""

from __future__ import annotations

import json
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from support.reports import saved

from fuzz.target import Target, edited
from lesioncore.cli.resume import standing_of
from lesioncore.report.group import write_group_page
from lesioncore.report.methods import methods_text
from lesioncore.report.page import is_whole, read_summary
from lesioncore.report.quality import quality_checks, why_not_valid
from lesioncore.report.saved import SavedResult
from lesioncore.report.table import write_volumes


@cache
def _sound() -> tuple[dict[str, bytes], str, bytes]:
    """Files of a result, its sidecar's name, and the scan."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sidecar, scan = saved(Path(folder))
        return {path.name: path.read_bytes() for path in sidecar.parent.iterdir()}, sidecar.name, scan.read_bytes()


def _use(data: bytes, folder: Path) -> None:
    kind, content = data[:1], data[1:]
    files, name, scan_bytes = _sound()
    scan = folder / "sub-01_T2w.nii.gz"
    scan.write_bytes(scan_bytes)
    results = folder / "results"
    results.mkdir()
    for other, sound in files.items():
        (results / other).write_bytes(sound)
    if kind == b"\2":
        _report(results / "sub-01_desc-report_T2w.html", content)
        return
    sidecar = results / name
    sidecar.write_bytes(content if kind in (b"", b"\0") else edited(json.loads(files[name]), content))
    standing_of(scan, None, [*results.iterdir()], "_desc-restored_", {})
    write_volumes(results)
    result = SavedResult.read(sidecar, scan)
    for value in (result.scan, result.restored, result.residual, result.score, result.brain):
        assert value.shape == result.scan.shape
    _described(result)


def _described(result: SavedResult) -> None:
    """What pages and tables make of it, but for their pictures."""
    assert all(mask.shape == result.scan.shape for mask in result.masks.values())
    quality_checks(result), why_not_valid(result), methods_text(result), result.thresholds, result.to_template


def _report(page: Path, content: bytes) -> None:
    page.write_bytes(b'<script type="application/json" id="summary">' + content + b"</script></html>")
    summary: Any = read_summary(page)
    assert summary is None or isinstance(summary, dict)
    is_whole(page)
    write_group_page(page.parent)


def _seeds(folder: Path) -> list[bytes]:
    files, name, _ = _sound()
    return [b"\0" + files[name], *(bytes([1, number]) * 6 for number in range(40)), b'\2{"name": "a"}']


SIDECARS = Target("sidecars", _use, _seeds, largest=32 * 1024)
