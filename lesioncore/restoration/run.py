"""What a run is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from lesioncore.calibration.record import Calibration
from lesioncore.models.prior import PriorMetadata
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.scan import Scan
from lesioncore.scoring.spread_map import SpreadMap


def warn_unusual(remarks: Sequence[str], scan: Scan, metadata: PriorMetadata, *, stacklevel: int) -> None:
    """Warn that a scan is unlike the healthy ones of the calibration, if there is anything to remark."""
    if remarks:
        warnings.warn(
            f"{'scan' if scan.path is None else scan.path}: {'; '.join(remarks)}. Thresholds may not hold: check"
            f" that it is a {metadata.modality or 'matching'} image, rightly oriented, and look at its brain mask",
            stacklevel=stacklevel,
        )


def warn_of_slices(scan: Scan, calibration: Calibration, *, stacklevel: int) -> bool:
    """Warn, and return True, if a scan is slices without geometry and the thresholds are those of whole volumes."""
    if scan.voxel_size is not None or not calibration.of_volumes:
        return False
    warnings.warn(
        "slices without geometry are restored and scored each for itself, but the thresholds are those of whole volumes"
        " and do not hold for them. Give a volume, or calibrate on such slices",
        stacklevel=stacklevel,
    )
    return True


def weight_of(metadata: PriorMetadata, config: RestoreConfig) -> float:
    """Data-consistency weight of a configuration, the prior's calibrated one where it gives none.

    Raises
    ------
    ValueError
        If there is neither.
    """
    weight = config.tv_weight
    if weight is None and metadata.calibration is not None:
        weight = metadata.calibration.tv_weight
    if weight is None:
        raise ValueError(
            f"tv_weight: prior {metadata.name!r} carries no calibration of restoration; give"
            " RestoreConfig(tv_weight=...) or run lesioncore.calibrate on healthy scans"
        )
    return weight


def smoothing_of(metadata: PriorMetadata, config: RestoreConfig) -> float:
    """Smoothing (mm) of a configuration, the prior's calibrated one where it gives none; 0 without either."""
    if config.smoothing is not None:
        return config.smoothing
    calibration = metadata.calibration
    return 0.0 if calibration is None or calibration.tv_weight is None else calibration.smoothing


def holding(metadata: PriorMetadata, config: RestoreConfig, weight: float, smoothing: float) -> Calibration | None:
    """The prior's calibration if it holds for this configuration."""
    calibration = metadata.calibration
    if calibration is None or calibration.tv_weight is None:
        return None
    return calibration.holding(config.settings(), weight, smoothing)


def spread_map_of(metadata: PriorMetadata, wanted: bool | None) -> SpreadMap | None:
    """The spread map of a model's calibration if it is wanted.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not wanted:
        return None
    found = None if metadata.calibration is None else metadata.calibration.spread_map
    if found is None:
        raise ValueError(
            f"spread_map: {metadata.name!r} carries no map of healthy people's spread; calibrate it on registered"
            " healthy scans with spread_map=True, or leave that out"
        )
    return found


def _warn_of_settings(metadata: PriorMetadata, config: RestoreConfig, weight: float, smoothing: float) -> None:
    """Warn of a calibration that does not hold, if there is one."""
    calibration = metadata.calibration
    if calibration is None or calibration.tv_weight is None:
        return
    calibrated = {
        **_flat(calibration.settings),
        "tv_weight": calibration.tv_weight,
        "smoothing": calibration.smoothing,
    }
    given = {**_flat(config.settings()), "tv_weight": weight, "smoothing": smoothing}
    if given["solver"] != calibrated["solver"]:  # then all else differs too
        given, calibrated = {"solver": given["solver"]}, {"solver": calibrated["solver"]}
    given, calibrated = ({key: repr(value) for key, value in one.items()} for one in (given, calibrated))
    pairs = {key: (given.get(key, "off"), calibrated.get(key, "off")) for key in {**given, **calibrated}}
    other = [f"{key} {mine}, not {its}" for key, (mine, its) in pairs.items() if mine != its]
    warnings.warn(
        f"prior {metadata.name!r} was calibrated with other settings ({'; '.join(other)}): its thresholds do not hold,"
        " so the result has no masks. lesioncore.calibrate makes thresholds for these settings.",
        stacklevel=3,
    )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in one level, the solver's name as ``solver``."""
    solver = dict(settings["solver"])
    return {**settings, "solver": solver.pop("name"), **solver}
