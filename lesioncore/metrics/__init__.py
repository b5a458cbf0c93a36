"""Metrics of lesion detection, and thresholds that keep a limit of false positives.

Voxels, lesions, boxes, contrast, surfaces, thresholds and intervals have a module each. Lesions, boxes, contrast and
surfaces need scipy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # imported when first used
