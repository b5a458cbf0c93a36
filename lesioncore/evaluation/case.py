"""What one detector makes of one scan, in numbers that can be kept and pooled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nibabel.affines import voxel_sizes

from lesioncore.detectors import Detector
from lesioncore.metrics import Confusion, LesionCounts, ScoreHistogram, hausdorff, lesion_counts
from lesioncore.restore import resolve_device
from lesioncore.scan import prepare
from lesioncore.subjects import Loaded

_HIGHEST = 12.0
"""Scores beyond count as this; z-scores, or the logits of probabilities."""

_SURE = 1e-5
"""Probabilities nearer to 0 or 1 count as this near; its logit is within the highest score."""


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
    lesion_ml, brain_ml : float
        Volume of the lesion and of the brain.
    histogram : ScoreHistogram
        Brain voxels by score and truth; of a probability its logit.
    at_limit : mapping of float to LimitScore
        For each false-positive-rate limit; empty for a detector without thresholds.
    seconds : float
        Time of the detection.
    """

    subject: str
    lesion_ml: float
    brain_ml: float
    histogram: ScoreHistogram
    at_limit: Mapping[float, LimitScore]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        histogram = self.histogram
        filled = np.flatnonzero(histogram.lesion + histogram.healthy)
        return {
            "subject": self.subject,
            "lesion_ml": self.lesion_ml,
            "brain_ml": self.brain_ml,
            "seconds": self.seconds,
            "histogram": {
                "bin": filled.tolist(),
                "lesion": histogram.lesion[filled].tolist(),
                "healthy": histogram.healthy[filled].tolist(),
            },
            "at_limit": [{"limit": limit, **asdict(score)} for limit, score in self.at_limit.items()],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CaseScore:
        """Inverse of :meth:`to_dict`."""
        histogram, stored = _histogram(), values["histogram"]
        for name in ("lesion", "healthy"):
            getattr(histogram, name)[stored["bin"]] = stored[name]
        at_limit = {
            row["limit"]: LimitScore(Confusion(**row["confusion"]), LesionCounts(**row["lesions"]), row["hausdorff"])
            for row in values["at_limit"]
        }
        facts = {name: values[name] for name in ("subject", "lesion_ml", "brain_ml", "seconds")}
        return cls(**facts, histogram=histogram, at_limit=at_limit)


def score_case(
    detector: Detector,
    name: str,
    loaded: Loaded,
    limits: Sequence[float],
    *,
    device: str | torch.device = "auto",
) -> CaseScore:
    """Detect in one scan and compare with the truth, on the scan's own voxels.

    Parameters
    ----------
    detector : Detector
        With thresholds for its settings, or without; then there is nothing at the limits.
    name : str
        The scan's.
    loaded : Loaded
        Its images; one without a lesion mask counts as healthy.
    limits : sequence of float
        False-positive-rate limits.
    device : str or torch.device
        As for :func:`lesioncore.restore`.

    Raises
    ------
    ValueError, TypeError
        As :meth:`lesioncore.Detector.detect`.
    """
    start = time.perf_counter()
    scan = prepare(
        loaded.volume, detector.metadata, mask=loaded.mask, affine=loaded.affine, normalized=detector.normalized
    )
    (score,) = detector.score_scans([scan], device=resolve_device(device))
    seconds = time.perf_counter() - start
    brain = scan.brain()
    truth = np.zeros_like(brain) if loaded.lesion is None else loaded.lesion & brain
    size = voxel_sizes(scan.affine)
    histogram = _histogram()
    histogram.add(on_axis(detector, score), truth, brain)
    at_limit = {}
    if detector.calibration is not None:
        for limit in limits:
            detected = (score > detector.calibration.threshold(limit)) & brain
            distance = hausdorff(detected, truth, size) if detected.any() and truth.any() else None
            at_limit[limit] = LimitScore(Confusion.of(detected, truth, brain), lesion_counts(detected, truth), distance)
    ml = float(np.prod(size)) / 1000
    return CaseScore(name, ml * int(truth.sum()), ml * int(brain.sum()), histogram, at_limit, seconds)


def on_axis(detector: Detector, score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Scores where a histogram's even bins resolve them: probabilities crowd near 0 and 1, their logits do not."""
    if not detector.probability:
        return score
    certain = np.clip(score.astype(np.float64), _SURE, 1 - _SURE)
    return np.log(certain) - np.log1p(-certain)


def _histogram() -> ScoreHistogram:
    return ScoreHistogram(-_HIGHEST, _HIGHEST, 2 * 10_000)
