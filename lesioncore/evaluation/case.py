"""Scores of one detector on one scan, which can be stored and pooled."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from nibabel.affines import voxel_sizes

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.detectors import Detector
from lesioncore.engine.device import resolve_device
from lesioncore.evaluation.boxes import Box, count_boxes
from lesioncore.metrics import (
    BoxCounts,
    Confusion,
    LesionCounts,
    ScoreHistogram,
    UndefinedMetricError,
    hausdorff,
    lesion_contrast,
    lesion_counts,
)
from lesioncore.restoration.prior_choice import doubt
from lesioncore.restoration.volumes import read_volume
from lesioncore.subjects import Loaded

_RANGE, _BINS = 20.0, 20_000
"""Axis of all histograms: from minus to plus the range, with 0 at the edge of a bin."""

_LINEAR_WIDTH = 1e-3
"""Width of the linear part of the axis: scores far above it are resolved to a 500th of their value, those far below to
2e-6."""

_MARGIN = 1e-8
"""Bounded scores are clipped to this distance from 0 and 1, where the logit is infinite."""

_MAX_OUTSIDE = 0.1
"""Share of a lesion mask that may lie outside the brain without a warning."""


@dataclass(frozen=True)
class LimitScore:
    """A detection at one false-positive-rate limit.

    Attributes
    ----------
    confusion : Confusion
        Voxels of the brain.
    lesions : LesionCounts
        Connected components (:func:`lesioncore.metrics.lesion_counts`).
    hausdorff : float or None
        95th percentile of the surface distance, mm; None without a lesion or a detection.
    boxes : tuple of BoxCounts
        Boxes that are found, for each of :data:`lesioncore.evaluation.boxes.IOUS`; empty where none were given.
    """

    confusion: Confusion
    lesions: LesionCounts
    hausdorff: float | None
    boxes: tuple[BoxCounts, ...] = ()


@dataclass(frozen=True)
class CaseScore:
    """Scores of one scan by one detector.

    Attributes
    ----------
    subject : str
        Name of the scan.
    person : str
        Name of the person, of whom there may be several scans.
    lesion_ml, brain_ml : float
        Volumes in ml of the lesion within the brain, and of the brain.
    histogram : ScoreHistogram
        Brain voxels by score and truth, from :func:`score_histogram`.
    at_limit : mapping of float to LimitScore
        For each false-positive-rate limit; empty for a detector without thresholds.
    seconds : float
        Time from the loaded scan to its score.
    remarks : tuple of str
        What is implausible about the scan (:attr:`lesioncore.restoration.scan.Scan.remarks`), and how it differs from
        the model's contrast or from the healthy ones of the detector's calibration, so that thresholds may not hold
        (:meth:`lesioncore.Calibration.unusual`).
    contrast : float or None
        Of the lesion with the brain within 10 mm (:func:`lesioncore.metrics.lesion_contrast`); None without a lesion.
    """

    subject: str
    person: str
    lesion_ml: float
    brain_ml: float
    histogram: ScoreHistogram
    at_limit: Mapping[float, LimitScore]
    seconds: float
    remarks: tuple[str, ...] = ()
    contrast: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        histogram = self.histogram
        filled = np.flatnonzero(histogram.lesion + histogram.healthy)
        return {
            "subject": self.subject,
            "person": self.person,
            "lesion_ml": self.lesion_ml,
            "brain_ml": self.brain_ml,
            "seconds": self.seconds,
            "remarks": list(self.remarks),
            "contrast": self.contrast,
            "histogram": {
                "range": [histogram.low, histogram.high, histogram.bins],
                "bin": filled.tolist(),
                "lesion": histogram.lesion[filled].tolist(),
                "healthy": histogram.healthy[filled].tolist(),
            },
            "at_limit": [{"limit": limit, **asdict(score)} for limit, score in self.at_limit.items()],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CaseScore:
        """Inverse of :meth:`to_dict`."""
        stored = values["histogram"]
        histogram = ScoreHistogram(*stored["range"])
        for name in ("lesion", "healthy"):
            getattr(histogram, name)[stored["bin"]] = stored[name]
        at_limit = {
            row["limit"]: LimitScore(
                Confusion(**row["confusion"]),
                LesionCounts(**row["lesions"]),
                row["hausdorff"],
                tuple(
                    BoxCounts(**{**counts, "confidence": tuple(counts["confidence"]), "true": tuple(counts["true"])})
                    for counts in row["boxes"]
                ),
            )
            for row in values["at_limit"]
        }
        facts = {name: values[name] for name in ("subject", "person", "lesion_ml", "brain_ml", "seconds", "contrast")}
        return cls(**facts, histogram=histogram, at_limit=at_limit, remarks=tuple(values["remarks"]))


def score_case(
    detector: Detector,
    name: str,
    loaded: Loaded,
    limits: Sequence[float],
    *,
    person: str | None = None,
    boxes: Sequence[Box] = (),
    device: str | torch.device = "auto",
) -> CaseScore:
    """Score one scan and compare with its lesion mask, on the scan's own voxels.

    Parameters
    ----------
    detector : Detector
        Without thresholds for its settings, `at_limit` of the result is empty. Its `postprocessing` is applied to the
        detections.
    name : str
        Name of the scan.
    loaded : Loaded
        Images of the scan; without a lesion mask it counts as healthy. Lesion outside the brain does not count, and
        nothing within its `excluded` mask.
    limits : sequence of float
        False-positive-rate limits.
    person : str, optional
        Name of the person; `name` when absent.
    boxes : sequence of Box
        Boxes that experts have drawn; detections are compared with them, too.
    device : str or torch.device
        As for :func:`lesioncore.restore`.

    Returns
    -------
    CaseScore
        Score of the scan.

    Raises
    ------
    ValueError, TypeError
        As for :meth:`lesioncore.Detector.detect`; also if a score is NaN.
    """
    start = time.perf_counter()
    scan = loaded.prepare(detector.metadata, normalized=detector.normalized, steps=detector.preprocess)
    (scored,) = detector.score_scans([scan], device=resolve_device(device))
    seconds = time.perf_counter() - start
    score, brain = scored.values, scan.brain()
    counted = brain if loaded.excluded is None else brain & ~loaded.excluded
    truth = np.zeros_like(brain) if loaded.lesion is None else loaded.lesion & counted
    if loaded.lesion is not None:
        _warn_of_outside(name, int(loaded.lesion.sum()), int((loaded.lesion & brain).sum()))
        if 2 * truth.sum() > counted.sum():
            warnings.warn(
                f"{name}: its lesion mask covers {100 * truth.sum() / counted.sum():.0f} % of the brain; check that it"
                " is a mask of lesions",
                stacklevel=2,
            )
    voxel_size = voxel_sizes(scan.affine)
    histogram = score_histogram(score, truth, counted, bounded=detector.bounded)
    mismatch = doubt(scan, detector.metadata.modality)
    at_limit, remarks = {}, [*scan.remarks, *([] if mismatch is None else [mismatch])]
    if detector.calibration is not None:
        remarks += detector.calibration.unusual(score[brain], scan.bend, scan.extent, scored.spread)
        for limit in limits:
            above = (score > detector.calibration.threshold(limit)) & brain
            detected = detector.postprocessing.clean(above, brain, voxel_size) & counted
            at_limit[limit] = LimitScore(
                Confusion.of(detected, truth, counted),
                lesion_counts(detected, truth),
                hausdorff(detected, truth, voxel_size) if detected.any() and truth.any() else None,
                count_boxes(detected, score, boxes, np.asarray(scan.affine)) if boxes else (),
            )
    try:
        contrast = lesion_contrast(read_volume(loaded.volume, masked=True)[0], truth, counted, voxel_size)
    except UndefinedMetricError:
        contrast = None
    voxel_ml = float(np.prod(voxel_size)) / 1000
    volumes = voxel_ml * int(truth.sum()), voxel_ml * int(brain.sum())
    return CaseScore(name, person or name, *volumes, histogram, at_limit, seconds, tuple(remarks), contrast)


def score_histogram(score: Array, truth: Array, mask: Array, *, bounded: bool = False) -> ScoreHistogram:
    """Count voxels by score and truth on an axis that resolves scores of any unit.

    The axis is the inverse hyperbolic sine of the score, which is linear near 0 and logarithmic beyond. Statistics that
    depend on the order of the scores alone, such as the AUC, are the same on any increasing axis.

    Parameters
    ----------
    score, truth, mask : numpy.ndarray or torch.Tensor
        As for :meth:`lesioncore.metrics.ScoreHistogram.add`.
    bounded : bool
        The scores are probabilities or ranks, from 0 to 1. The axis is then their logit, since they crowd at both ends.

    Returns
    -------
    ScoreHistogram
        Counts of lesion and healthy voxels within the mask.
    """
    values = to_numpy(score, "score").astype(np.float64)
    if bounded:
        values = np.clip(values, _MARGIN, 1 - _MARGIN)
        values = np.log(values) - np.log1p(-values)
    else:
        values = np.arcsinh(values / _LINEAR_WIDTH)
    histogram = ScoreHistogram(-_RANGE, _RANGE, _BINS)
    histogram.add(values, truth, mask)
    return histogram


def _warn_of_outside(name: str, lesion: int, inside: int) -> None:
    """Warn if much of a lesion mask lies outside the brain; `lesion` and `inside` are numbers of voxels."""
    if lesion - inside > _MAX_OUTSIDE * lesion:
        warnings.warn(
            f"{name}: {100 * (1 - inside / lesion):.0f} % of its lesion mask lies outside the brain and does not count;"
            " check that brain and lesion mask belong together",
            stacklevel=3,
        )
