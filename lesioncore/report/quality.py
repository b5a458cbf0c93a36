"""Remarks on a scan's quality, in words that one who looks after scanners and scans can act on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lesioncore.preprocess.pipeline import LARGEST_BRAIN, SMALLEST_BRAIN
from lesioncore.report.saved import SavedResult

Verdict = Literal["ok", "check", "unknown"]

# Of 192 extractions with a known brain (bench/quality/brain_extraction.py) the two with a Dice below .9 alone were
# below this confidence.
_CONFIDENT = 0.955
# Right registrations have .94 and more, and what has less than .91 is refused (lesioncore.preprocess.registration).
_OVERLAPS = 0.935
# Standard deviation of the field's logarithm: that of a coil whose ends differ by a factor of two.
_STRONG_FIELD = 0.2
# The detections on T1w change by more than a quarter at 3 mm (bench/quality/real_changes.py).
_COARSE = 2.5
# As lesioncore.restoration.prior_choice.doubt has it.
_OTHER_CONTRAST = re.compile(r"its intensities fit (?P<contrast>\S+) better than")
_NOISY = 0.35  # .03 to .26 in 58 real scans (T1w, T2w, FLAIR; sharp multiple sclerosis FLAIR has the most)


@dataclass(frozen=True)
class QualityCheck:
    """One property of a scan or of its preprocessing.

    Attributes
    ----------
    name : str
        What was looked at.
    value : str
        What was measured, with its unit.
    expected : str
        What is usual.
    verdict : {"ok", "check", "unknown"}
        Whether it is usual; unknown where it was not measured.
    action : str
        What to do about it; empty where nothing is to be done.
    """

    name: str
    value: str
    expected: str
    verdict: Verdict
    action: str = ""


def quality_checks(saved: SavedResult) -> list[QualityCheck]:
    """Check preprocessing and scan.

    Parameters
    ----------
    saved : SavedResult
        A saved restoration.

    Returns
    -------
    list of QualityCheck
        Extraction, brain volume, registration, bias field, voxel size, noise, contrast, and what the calibration
        remarked.
    """
    extract, register, bias = (saved.step(name) for name in ("extract", "register", "bias"))
    volume = saved.millilitres(saved.brain)
    checks = [
        _check(
            "Brain volume",
            f"{volume:.0f} ml",
            f"{SMALLEST_BRAIN:g} to {LARGEST_BRAIN:g} ml (adults)",
            SMALLEST_BRAIN <= volume <= LARGEST_BRAIN,
            "Check the voxel sizes in the header and the outline of the brain in the figure; a brain mask can be given"
            " with --mask.",
        ),
        _check(
            "Brain extraction",
            _figure(extract, "confidence", "confidence {:.3f}"),
            f"{_CONFIDENT:g} or more",
            None if not extract else extract["confidence"] >= _CONFIDENT,
            "Look for skull, eyes or missing cortex in the figure. Another tool can make the mask: --mask synthstrip.",
        ),
        _check(
            "Registration to the template",
            _figure(register, "overlap", "overlap {:.3f}"),
            f"{_OVERLAPS:g} or more",
            None if not register else register["overlap"] >= _OVERLAPS,
            "Check the brain's outline and the scan's coverage; regions and template coordinates may be off.",
        ),
        _check(
            "Intensity inhomogeneity (bias field)",
            _figure(bias, "log_field_sd", "{:.1%} (standard deviation)"),
            f"below {_STRONG_FIELD:.0%}",
            None if not bias else bias["log_field_sd"] < _STRONG_FIELD,
            "The field was corrected, but noise stays where the coil is weak: check the coil and the positioning.",
        ),
        _check(
            "Voxel size",
            " × ".join(f"{size:.3g}" for size in saved.voxel_size) + " mm",
            f"at most {_COARSE:g} mm",
            max(saved.voxel_size) <= _COARSE,
            "Lesions smaller than a voxel are missed, and the limits are less exact: use a scan with thinner slices.",
        ),
    ]
    noise = noise_level(saved.scan, saved.brain)
    checks.append(
        _check(
            "Noise",
            f"{noise:.0%} of the brain's interquartile range",
            f"below {_NOISY:.0%}",
            noise < _NOISY,
            "Small and faint lesions drown: check for motion and for a coil element that failed, or repeat the scan.",
        )
    )
    if not saved.thresholds:
        checks.append(
            QualityCheck(
                "Thresholds",
                "none",
                "those of a calibration with these settings",
                "check",
                "The prior's thresholds do not hold for these settings, so there are no detections: use the calibrated"
                " settings, or run lesioncore calibrate.",
            )
        )
    if saved.to_template is not None and saved.facts["Contrast"] is not None:
        other = next((remark for remark in saved.facts["Remarks"] if _OTHER_CONTRAST.match(remark)), None)
        checks.append(
            _check(
                "Contrast",
                f"fits {saved.facts['Contrast']}" if other is None else other,
                f"that of the prior, {saved.facts['Contrast']}",
                other is None,
                "Check the scan's name and sequence, and name the prior of its contrast with --prior.",
            )
        )
    action = "Thresholds may not hold: check contrast, orientation and brain mask."
    checks += [
        QualityCheck("Unlike the calibration's people", f"{remark[0].upper()}{remark[1:]}.", "", "check", action)
        for remark in saved.facts["Remarks"]
        if not _OTHER_CONTRAST.match(remark)
    ]
    return checks


def why_not_valid(saved: SavedResult) -> str | None:
    """Why detections mean nothing: the scan's intensities fit another contrast than the prior's; None if they fit.

    Parameters
    ----------
    saved : SavedResult
        A saved restoration.
    """
    for remark in saved.facts["Remarks"]:
        if match := _OTHER_CONTRAST.match(remark):
            return f"the scan fits {match['contrast']}, the prior is for {saved.facts['Contrast']}"
    return None


def noise_level(scan: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_]) -> float:
    """Noise of a scan as a share of its brain's interquartile range.

    The noise's standard deviation is 1.48 times the median absolute value of a second difference across both in-plane
    axes of storage, whose weights (1, -2, 1) x (1, -2, 1) cancel planes and edges along either axis (J. Immerkaer,
    Fast noise variance estimation, Computer Vision and Image Understanding 64 (1996) 300-302), divided by the 6 by
    which they enlarge it.

    Parameters
    ----------
    scan : ndarray
        ``[X, Y, Z]``, intensities.
    brain : ndarray
        ``[X, Y, Z]`` bool.
    """
    quartiles = np.percentile(scan[brain], [25, 75])
    along_x = scan[:-2] - 2 * scan[1:-1] + scan[2:]
    both = along_x[:, :-2] - 2 * along_x[:, 1:-1] + along_x[:, 2:]
    inside = brain[:-2] & brain[2:]
    inside = inside[:, :-2] & inside[:, 2:]
    if not inside.any() or quartiles[1] <= quartiles[0]:
        return 0.0
    return float(1.4826 * np.median(np.abs(both[inside])) / 6.0 / (quartiles[1] - quartiles[0]))


def _check(name: str, value: str, expected: str, fine: bool | None, action: str) -> QualityCheck:
    if fine is None:
        return QualityCheck(name, "not done", expected, "unknown")
    return QualityCheck(name, value, expected, "ok" if fine else "check", "" if fine else action)


def _figure(step: dict[str, Any], key: str, text: str) -> str:
    return text.format(step[key]) if step else ""
