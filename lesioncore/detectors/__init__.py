"""Detectors: every method of the paper's tables, and simpler ones, behind one call."""

from lesioncore.detectors.base import Detector, DeviationDetector
from lesioncore.detectors.intensity import EqualizedThreshold, IntensityThreshold
from lesioncore.detectors.mean import HealthyMean, HealthyMeanConfig, MeanDistance
from lesioncore.detectors.residual import MAPDetector, ProjectionDetector
from lesioncore.detectors.unet import UNet, UNetConfig, UNetDetector

__all__ = [
    "Detector",
    "DeviationDetector",
    "EqualizedThreshold",
    "HealthyMean",
    "HealthyMeanConfig",
    "IntensityThreshold",
    "MAPDetector",
    "MeanDistance",
    "ProjectionDetector",
    "UNet",
    "UNetConfig",
    "UNetDetector",
]
