"""Bringing a scan to what a prior was trained on, one step per module."""

from lesioncore.preprocess.intensity import IntensityMap, IntensityScale
from lesioncore.preprocess.mask import brain_mask

__all__ = ["IntensityMap", "IntensityScale", "brain_mask"]
