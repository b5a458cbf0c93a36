"""The lesions of the simulated patients, and the range of their scores."""

from __future__ import annotations

from lesioncore.detectors.sign import Sign

LESION = {"T2w": "glioma", "T1w": "stroke"}
SIGN: dict[str, Sign] = {"T2w": 1, "T1w": -1}  # gliomas are bright in T2w, old strokes dark in T1w
HIGHEST = 12.0  # histograms count scores beyond as this
