"""Detectors: every method of the paper's tables, and simpler ones, behind one call."""

from lesioncore.detectors.aae import AAE, AAEConfig
from lesioncore.detectors.anogan import AnoGAN, AnoGANConfig, LatentSearch
from lesioncore.detectors.base import Detector
from lesioncore.detectors.deviation import DeviationDetector
from lesioncore.detectors.intensity import EqualizedThreshold, IntensityThreshold
from lesioncore.detectors.load import METHODS, load_detector, make_detector
from lesioncore.detectors.mean import HealthyMean, HealthyMeanConfig, MeanDistance
from lesioncore.detectors.residual import AnoGANDetector, MAPDetector, ProjectionDetector
from lesioncore.detectors.unet import UNet, UNetConfig, UNetDetector

__all__ = [
    "AAE",
    "METHODS",
    "AAEConfig",
    "AnoGAN",
    "AnoGANConfig",
    "AnoGANDetector",
    "Detector",
    "DeviationDetector",
    "EqualizedThreshold",
    "HealthyMean",
    "HealthyMeanConfig",
    "IntensityThreshold",
    "LatentSearch",
    "MAPDetector",
    "MeanDistance",
    "ProjectionDetector",
    "UNet",
    "UNetConfig",
    "UNetDetector",
    "load_detector",
    "make_detector",
]
