"""Detectors: every method of the paper's tables, and simpler ones, behind one call."""

from lesioncore.detectors.base import Detector, DeviationDetector

__all__ = ["Detector", "DeviationDetector"]
