"""Metrics of lesion detection, and thresholds that keep a limit of false positives.

Voxels, lesions, surfaces, thresholds and intervals have a module each. Lesions and surfaces need scipy.
"""

from lesioncore.metrics.base import UndefinedMetricError
from lesioncore.metrics.bootstrap import bootstrap_interval, bootstrap_mean
from lesioncore.metrics.confusion import Confusion, dice
from lesioncore.metrics.histogram import RocCurve, ScoreHistogram
from lesioncore.metrics.lesions import LesionCounts, LesionRow, lesion_counts, lesion_table
from lesioncore.metrics.surface import hausdorff
from lesioncore.metrics.thresholds import conformal_threshold, fpr_threshold

__all__ = [
    "Confusion",
    "LesionCounts",
    "LesionRow",
    "RocCurve",
    "ScoreHistogram",
    "UndefinedMetricError",
    "bootstrap_interval",
    "bootstrap_mean",
    "conformal_threshold",
    "dice",
    "fpr_threshold",
    "hausdorff",
    "lesion_counts",
    "lesion_table",
]
