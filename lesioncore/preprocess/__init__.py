"""Preprocessing of a scan for a prior, one step per module."""

from lesioncore.preprocess.intensity import IntensityMap, IntensityScale
from lesioncore.preprocess.mask import brain_mask

__all__ = ["IntensityMap", "IntensityScale", "brain_mask"]
