"""Warnings that a scan differs from those that its thresholds were computed from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from lesioncore.calibration.record import Calibration
from lesioncore.models.prior import PriorMetadata
from lesioncore.restoration.scan import Scan


def warn_unusual(remarks: Sequence[str], scan: Scan, metadata: PriorMetadata, *, stacklevel: int) -> None:
    """Warn that a scan differs from the prior's contrast or the calibration's healthy scans, if there are remarks."""
    if remarks:
        warnings.warn(
            f"{'scan' if scan.path is None else scan.path}: {'; '.join(remarks)}. Thresholds may not hold: check"
            f" that it is a {metadata.modality or 'matching'} image, rightly oriented, and look at its brain mask",
            stacklevel=stacklevel,
        )


def warn_of_slices(scan: Scan, calibration: Calibration, *, stacklevel: int) -> bool:
    """Warn and return True if a scan consists of slices without geometry, but the thresholds are for whole volumes."""
    if scan.voxel_size is not None or not calibration.of_volumes:
        return False
    warnings.warn(
        "slices without geometry are restored and scored each for itself, but the thresholds are those of whole volumes"
        " and do not hold for them. Give a volume, or calibrate on such slices",
        stacklevel=stacklevel,
    )
    return True
