"""What the report of a scan says: the values that its template shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lesioncore.calibration.record import Calibration
from lesioncore.report.candidates import Candidate, Candidates, find_candidates
from lesioncore.report.chart import score_chart
from lesioncore.report.methods import methods_text
from lesioncore.report.quality import QualityCheck, quality_checks, why_not_valid
from lesioncore.report.saved import SavedResult
from lesioncore.report.thumbnail import thumbnail
from lesioncore.report.volumes import viewer_images
from lesioncore.restoration.figure import describe_run, draw_volumes, figure_bytes
from lesioncore.restoration.figure_volumes import FigureVolumes
from lesioncore.words import people

SMALLEST_ML = 0.1
"""Volume, ml, from which on a connected detection is listed as a candidate."""

_UNUSUAL = 1.5
"""Times what a limit allows in a healthy brain, from which on a detected volume is marked."""

# From dark to light, so that it is read with any colour vision: four colours of matplotlib's scale plasma.
_SCALE = ((0.0, (126, 3, 168)), (0.35, (204, 71, 120)), (0.7, (248, 149, 64)), (1.0, (240, 249, 33)))

GRADIENT = ", ".join(f"rgb{colour} {place:.0%}" for place, colour in _SCALE)
"""The colour scale of the score, as CSS has it."""

_LISTED = 50  # candidates in the table
_COLUMNS, _THROUGH = 8, 5  # slices of the figure, and how many of them are moved to candidates


def content(saved: SavedResult, calibration: Calibration | None) -> dict[str, Any]:
    """Collect what the template ``person.html`` shows.

    Parameters
    ----------
    saved : SavedResult
        A saved restoration.
    calibration : Calibration or None
        That of the run, if it is at hand.
    """
    limit = min(saved.thresholds, default=None)
    candidates = None
    if limit is not None:
        candidates = find_candidates(
            saved.score,
            saved.masks[limit],
            saved.affine,
            to_template=saved.to_template,
            calibration=calibration,
            min_volume_ml=SMALLEST_ML,
        )
    listed = candidates.listed if candidates is not None else ()
    inside = saved.score[saved.brain]
    threshold = saved.thresholds[limit] if limit is not None else float(np.quantile(inside, 0.99))
    maximum = max(2 * threshold, float(np.quantile(inside, 0.9995)))
    start = np.array(listed[0].centre_mm) if listed else _middle(saved)
    scan, score = viewer_images(saved, maximum)
    checks = quality_checks(saved)
    summary = _summary(saved, candidates, checks, start)
    return {
        "summary": summary,
        "unusual": [rate for rate, ml in summary["detected_ml"].items() if ml > _UNUSUAL * summary["allowed_ml"][rate]],
        "limit": None if limit is None else _percent(limit),
        "thresholds": {_percent(rate): round(value, 4) for rate, value in sorted(saved.thresholds.items())},
        "candidates": [_row(candidate) for candidate in listed[:_LISTED]],
        "unlisted": len(listed[_LISTED:]),
        "smaller": candidates,
        "smallest_ml": SMALLEST_ML,
        "registered": saved.to_template is not None,
        "checks": checks,
        "to_check": [check for check in checks if check.verdict == "check"],
        "viewer": {
            "window": [float(np.quantile(saved.scan[saved.brain], 0.005)), scan.high],
            "threshold": round(threshold, 4),
            "maximum": round(maximum, 4),
            "start": [round(float(value), 2) for value in start],
            "colormap": _colormap(),
        },
        "scan": scan.base64,
        "score": score.base64,
        "figure": _figure(saved, listed),
        "chart": None if calibration is None else score_chart(inside, calibration.healthy, saved.thresholds),
        "people": None if calibration is None else people(calibration.subjects, "healthy"),
        "methods": methods_text(saved),
        "settings": json.dumps({key: value for key, value in saved.facts.items() if key not in _SHOWN}, indent=2),
    }


_SHOWN = {"Objective", "Remarks", "Note", "Units", "Files"}  # elsewhere on the page, or of no use to a reader


def _summary(
    saved: SavedResult,
    candidates: Candidates | None,
    checks: Sequence[QualityCheck],
    place: npt.NDArray[np.float64],
) -> dict[str, Any]:
    """What the page of a group shows of a scan (JSON-able)."""
    listed = candidates.listed if candidates is not None else ()
    # Those of the sidecar, as the command line and the table of volumes have them: templates alone round.
    brain_ml = saved.facts["BrainMillilitres"]
    detected = {float(rate): ml for rate, ml in (saved.facts["DetectedMillilitres"] or {}).items()}
    return {
        "name": saved.name,
        "prior": saved.facts["Prior"],
        "contrast": saved.facts["Contrast"],
        "brain_ml": brain_ml,
        "detected_ml": {_percent(rate): ml for rate, ml in sorted(detected.items())},
        "allowed_ml": {_percent(rate): brain_ml * rate for rate in sorted(detected)},
        "candidates": len(listed),
        "not_valid": why_not_valid(saved),
        "first": _where(listed[0]) if listed else None,
        "largest_ml": max(candidate.volume_ml for candidate in listed) if listed else None,
        "remarks": [f"{check.name}: {check.value}" for check in checks if check.verdict == "check"],
        "version": saved.facts["GeneratedBy"]["Version"],
        "thumbnail": thumbnail(saved, place),
    }


def _row(candidate: Candidate) -> dict[str, Any]:
    """A candidate as the table has it."""
    share = candidate.healthy_share
    return {
        "number": candidate.number,
        "volume_ml": candidate.volume_ml,
        "where": _where(candidate),
        "centre_mm": [round(value, 2) for value in candidate.centre_mm],
        "centre": ", ".join(f"{value:.0f}" for value in candidate.centre_mm),
        "peak": candidate.peak,
        "mean": candidate.mean_score,
        "healthy": "" if share is None else "none" if share <= 0 else f"1 in {1 / share:,.0f}",
    }


def _where(candidate: Candidate) -> str:
    """Region and side, as far as they are known."""
    if candidate.region is not None and candidate.region_share is not None:
        return f"{candidate.region} ({candidate.region_share:.0%})"
    return "unknown" if candidate.side is None else "outside the atlas"


def _percent(rate: float) -> str:
    return f"{100 * rate:g}"


def _figure(saved: SavedResult, candidates: Sequence[Candidate]) -> str:
    """The picture of :func:`lesioncore.restoration.figure.restoration_figure`, PNG in base64."""
    volumes = FigureVolumes.from_arrays(
        saved.affine,
        scan=saved.scan,
        restored=saved.restored,
        residual=saved.residual,
        brain=saved.brain,
        masks=saved.masks,
    )
    facts = saved.facts
    figure = draw_volumes(
        volumes,
        volumes.spread_slices(_COLUMNS, [candidate.centre_mm[2] for candidate in candidates[:_THROUGH]]),
        title=saved.name,
        run=describe_run(facts["Prior"], facts["Settings"]["solver"], facts["TVWeight"]),
        remarks=facts["Remarks"],
    )
    return base64.b64encode(figure_bytes(figure, "png")).decode("ascii")


def _middle(saved: SavedResult) -> npt.NDArray[np.float64]:
    """Centre of the brain, mm."""
    centre = np.argwhere(saved.brain).mean(axis=0)
    middle: npt.NDArray[np.float64] = (saved.affine @ [*centre, 1.0])[:3]
    return middle


def _colormap() -> dict[str, list[int]]:
    """The colour scale as NiiVue has it; its lowest level stands for all below the threshold and is transparent."""
    levels = [0, *(max(1, round(255 * place)) for place, _ in _SCALE)]
    colours = [_SCALE[0][1], *(colour for _, colour in _SCALE)]
    channels = {name: [colour[index] for colour in colours] for index, name in enumerate("RGB")}
    return {**channels, "A": [0, *[255] * len(_SCALE)], "I": levels}
