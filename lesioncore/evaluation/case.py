"""Figures of one detector on one scan, which can be kept and pooled."""

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
from lesioncore.metrics import Confusion, LesionCounts, ScoreHistogram, hausdorff, lesion_counts
from lesioncore.subjects import Loaded

_RANGE, _BINS = 20.0, 20_000
"""The axis of all histograms: from minus to plus the range, with 0 at the edge of a bin."""

_SMALL = 1e-3
"""Scores far above are resolved to a 500th of their value, those far below to 2e-6."""

_SURE = 1e-8
"""Scores from 0 to 1 count as at least this far from both; so do those that rounding has brought to 1."""

_MOST_OUTSIDE = 0.1


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
    """

    confusion: Confusion
    lesions: LesionCounts
    hausdorff: float | None


@dataclass(frozen=True)
class CaseScore:
    """Scores of one scan by one detector.

    Attributes
    ----------
    subject : str
        The scan's name.
    person : str
        Who it is of.
    lesion_ml, brain_ml : float
        Volume of the brain, and of the lesion in it.
    histogram : ScoreHistogram
        Brain voxels by score and truth, from :func:`score_histogram`.
    at_limit : mapping of float to LimitScore
        For each false-positive-rate limit; empty for a detector without thresholds.
    seconds : float
        Time from the loaded scan to its score.
    remarks : tuple of str
        In what the scan is unlike the healthy ones of the detector's calibration, so that thresholds may not hold
        (:meth:`lesioncore.Calibration.unusual`).
    """

    subject: str
    person: str
    lesion_ml: float
    brain_ml: float
    histogram: ScoreHistogram
    at_limit: Mapping[float, LimitScore]
    seconds: float
    remarks: tuple[str, ...] = ()

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
            row["limit"]: LimitScore(Confusion(**row["confusion"]), LesionCounts(**row["lesions"]), row["hausdorff"])
            for row in values["at_limit"]
        }
        facts = {name: values[name] for name in ("subject", "person", "lesion_ml", "brain_ml", "seconds")}
        return cls(**facts, histogram=histogram, at_limit=at_limit, remarks=tuple(values["remarks"]))


def score_case(
    detector: Detector,
    name: str,
    loaded: Loaded,
    limits: Sequence[float],
    *,
    person: str | None = None,
    device: str | torch.device = "auto",
) -> CaseScore:
    """Detect in one scan and compare with the truth, on the scan's own voxels.

    Parameters
    ----------
    detector : Detector
        With thresholds for its settings, or without; then there is nothing at the limits. Its `postprocessing` is done.
    name : str
        The scan's.
    loaded : Loaded
        Its images; one without a lesion mask counts as healthy. Lesion outside the brain does not count.
    limits : sequence of float
        False-positive-rate limits.
    person : str, optional
        Who the scan is of; `name` when absent.
    device : str or torch.device
        As for :func:`lesioncore.restore`.

    Raises
    ------
    ValueError, TypeError
        As :meth:`lesioncore.Detector.detect`; also if a score is NaN.
    """
    start = time.perf_counter()
    scan = loaded.prepare(detector.metadata, normalized=detector.normalized, steps=detector.preprocess)
    (scored,) = detector.score_scans([scan], device=resolve_device(device))
    seconds = time.perf_counter() - start
    score, brain = scored.values, scan.brain()
    truth = np.zeros_like(brain) if loaded.lesion is None else loaded.lesion & brain
    if loaded.lesion is not None:
        _warn_of_lost(name, int(loaded.lesion.sum()), int(truth.sum()))
    size = voxel_sizes(scan.affine)
    histogram = score_histogram(score, truth, brain, bounded=detector.bounded)
    at_limit, remarks = {}, []
    if detector.calibration is not None:
        remarks = detector.calibration.unusual(score[brain], scan.bend, scan.extent, scored.spread)
        for limit in limits:
            above = (score > detector.calibration.threshold(limit)) & brain
            detected = detector.postprocessing.clean(above, brain, size)
            distance = hausdorff(detected, truth, size) if detected.any() and truth.any() else None
            at_limit[limit] = LimitScore(Confusion.of(detected, truth, brain), lesion_counts(detected, truth), distance)
    ml = float(np.prod(size)) / 1000
    volumes = ml * int(truth.sum()), ml * int(brain.sum())
    return CaseScore(name, person or name, *volumes, histogram, at_limit, seconds, tuple(remarks))


def score_histogram(score: Array, truth: Array, mask: Array, *, bounded: bool = False) -> ScoreHistogram:
    """Count voxels by score and truth on an axis that resolves scores of any unit.

    The axis is the score's inverse hyperbolic sine, near 0 a line and beyond a logarithm. What follows from the order
    of the scores alone, such as the AUC, is the same on any increasing axis.

    Parameters
    ----------
    score, truth, mask : numpy.ndarray or torch.Tensor
        As for :meth:`lesioncore.metrics.ScoreHistogram.add`.
    bounded : bool
        The scores are probabilities or ranks, from 0 to 1: they crowd at both ends, so the axis is their logit.
    """
    values = to_numpy(score, "score").astype(np.float64)
    if bounded:
        values = np.clip(values, _SURE, 1 - _SURE)
        values = np.log(values) - np.log1p(-values)
    else:
        values = np.arcsinh(values / _SMALL)
    histogram = ScoreHistogram(-_RANGE, _RANGE, _BINS)
    histogram.add(values, truth, mask)
    return histogram


def _warn_of_lost(name: str, lesion: int, inside: int) -> None:
    if lesion - inside > _MOST_OUTSIDE * lesion:
        warnings.warn(
            f"{name}: {100 * (1 - inside / lesion):.0f} % of its lesion mask lies outside the brain and does not count;"
            " check that brain and lesion mask belong together",
            stacklevel=3,
        )
