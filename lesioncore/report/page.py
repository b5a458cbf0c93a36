"""The report of one scan: an HTML page that holds all it shows."""

from __future__ import annotations

import base64
import json
import os
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypedDict

from nibabel.spatialimages import SpatialImage

from lesioncore.about import NOTE
from lesioncore.calibration.record import Calibration
from lesioncore.data.files import replace_atomically
from lesioncore.data.json_form import check_form
from lesioncore.models import Prior, embedded_priors, load_prior
from lesioncore.models.prior import metadata_of
from lesioncore.report.content import GRADIENT, content
from lesioncore.report.saved import SavedResult
from lesioncore.restoration.figure import require_matplotlib

_HEAD, _PART = 500_000, 50_000  # characters in which a page has its summary, with a thumbnail of some 20,000
_TAIL = 32  # bytes in which a page has its end
_SUMMARY = re.compile(r'<script type="application/json" id="summary">(\{.*?\})</script>', re.DOTALL)


class Summary(TypedDict):
    """What the page of a group shows of a report."""

    name: str
    prior: str
    contrast: str | None
    brain_ml: float
    detected_ml: dict[str, float]
    allowed_ml: dict[str, float]
    candidates: int
    not_valid: str | None
    first: str | None
    largest_ml: float | None
    remarks: list[str]
    version: str
    thumbnail: str


def write_report(
    sidecar: str | os.PathLike[str],
    scan: str | os.PathLike[str] | SpatialImage,
    *,
    prior: Prior | str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the report of a saved restoration: one HTML page that loads nothing from elsewhere.

    It shows lesion candidates with their regions, the scan and its score in an interactive viewer, slices, the score
    beside those of healthy people, remarks on quality, and a methods text.

    Parameters
    ----------
    sidecar : path
        The JSON file that :meth:`lesioncore.Restoration.save` wrote, ``*_desc-restored_*.json``.
    scan : path or SpatialImage
        The scan that was restored: its file, or the image that was read from there.
    prior : Prior or str, optional
        The prior that restored it, whose healthy people are shown beside the scan; when absent, the embedded one of
        the name that the sidecar has, if there is one.
    path : path, optional
        The HTML file, replaced by one rename; beside the sidecar as ``*_desc-report_*.html`` when absent.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        If the scan or the prior is another one than the sidecar's, or the sidecar cannot be used.
    FileNotFoundError
        If a file is missing.
    ImportError
        If matplotlib, the extra `figures`, is missing.
    """
    require_matplotlib()
    saved = SavedResult.read(Path(sidecar), scan if isinstance(scan, SpatialImage) else Path(scan))
    target = report_path(saved.sidecar) if path is None else Path(path)
    page = (
        environment()
        .get_template("person.html")
        .render(
            content(saved, _calibration(saved, prior)),
            disclaimer=NOTE,
            style=template_text("style.css").replace("{{ gradient }}", GRADIENT),
            script=template_text("viewer.js"),
            niivue=_niivue(),
        )
    )
    with replace_atomically(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def report_path(sidecar: Path) -> Path:
    """Where a report lies by default: ``sub-01_desc-report_T2w.html`` beside ``sub-01_desc-restored_T2w.json``."""
    return sidecar.with_name(sidecar.name.replace("_desc-restored_", "_desc-report_")).with_suffix(".html")


def read_summary(page: Path) -> Summary | None:
    """What the page of a group shows of a report, which has it as JSON; None if the file is no report of this form."""
    text, match = "", None
    with open(page, encoding="utf-8", errors="replace") as file:  # not the megabytes of images behind it
        while match is None and len(text) < _HEAD and (part := file.read(_PART)):
            text += part
            match = _SUMMARY.search(text)
    if match is None:
        return None
    try:
        summary: Summary = json.loads(match[1])
        check_form(summary, Summary)
        for limit in (*summary["detected_ml"], *summary["allowed_ml"]):
            float(limit)
    except (ValueError, RecursionError):
        return None
    return summary


def is_whole(page: Path) -> bool:
    """Whether a file is a report, from its summary to its end."""
    if not page.is_file() or read_summary(page) is None:
        return False
    with open(page, "rb") as file:
        file.seek(-min(_TAIL, page.stat().st_size), os.SEEK_END)
        return file.read().rstrip().endswith(b"</html>")


@lru_cache(maxsize=1)
def environment() -> Any:
    """Jinja's templates of this package, which escape all text that they are given."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    templates = Environment(loader=FunctionLoader(template_text), autoescape=True, undefined=StrictUndefined)
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return templates


@lru_cache(maxsize=8)
def template_text(name: str) -> str:
    """A file of the folder ``templates``."""
    return (resources.files("lesioncore.report") / "templates" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _niivue() -> str:
    """NiiVue's bundle, compressed, in base64."""
    packed = (resources.files("lesioncore.report") / "static" / "niivue.umd.js.gz").read_bytes()
    return base64.b64encode(packed).decode("ascii")


def _calibration(saved: SavedResult, prior: Prior | str | None) -> Calibration | None:
    """The calibration that gave the thresholds, if its prior is at hand."""
    facts = saved.facts
    if prior is None:
        if facts["Prior"] not in embedded_priors():
            return None
        prior = str(facts["Prior"])
    metadata = metadata_of(load_prior(prior) if isinstance(prior, str) else prior)
    if metadata.fingerprint != facts["PriorFingerprint"]:
        raise ValueError(
            f"prior: got {metadata.name!r}, but {saved.sidecar.name} was made with another {facts['Prior']!r} (by its"
            " fingerprint); give the one that restored the scan"
        )
    calibration = metadata.calibration
    return calibration and calibration.for_settings(facts["Settings"], facts["TVWeight"], facts["Smoothing"])
