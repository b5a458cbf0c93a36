"""Detectors: every method of the paper's tables, and simpler ones, with a common interface."""

from lesioncore.detectors.base import Detector
from lesioncore.detectors.deviation import DeviationDetector
from lesioncore.detectors.intensity import EqualizedThreshold, IntensityThreshold
from lesioncore.detectors.load import METHODS, load_detector, make_detector
from lesioncore.detectors.mean import MeanDistance
from lesioncore.detectors.residual import AnoGANDetector, MAPDetector, ProjectionDetector
from lesioncore.detectors.unet import UNetDetector

__all__ = [
    "METHODS",
    "AnoGANDetector",
    "Detector",
    "DeviationDetector",
    "EqualizedThreshold",
    "IntensityThreshold",
    "MAPDetector",
    "MeanDistance",
    "ProjectionDetector",
    "UNetDetector",
    "load_detector",
    "make_detector",
]
