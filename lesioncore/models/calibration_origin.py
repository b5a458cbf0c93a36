"""The origin of a ``calibration.json``: which model it was made for, and a hash of what follows from it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lesioncore.calibration.record import Calibration

_PRIOR, _CONTENT = "prior", "fingerprint"
_AGAIN = "lesioncore calibrate makes one of healthy scans"


def with_origin(calibration: Calibration, prior: str) -> dict[str, Any]:
    """JSON-able form of a calibration for the model of a fingerprint."""
    return {_PRIOR: prior, _CONTENT: calibration.fingerprint, **calibration.to_dict()}


def without_origin(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same without its origin, for :meth:`lesioncore.calibration.record.Calibration.from_dict`."""
    return {key: value for key, value in values.items() if key not in (_PRIOR, _CONTENT)}


def check_origin(file: Path, values: Mapping[str, Any], calibration: Calibration, prior: str) -> None:
    """Check that a calibration is of a model, and as it was written.

    Parameters
    ----------
    file : Path
        Its file, for errors.
    values : mapping
        What the file holds.
    calibration : Calibration
        What was made of it.
    prior : str
        The model's fingerprint.

    Raises
    ------
    ValueError
        If it is of another model, or was changed.

    Warns
    -----
    UserWarning
        If it does not say its origin.
    """
    if _PRIOR not in values or _CONTENT not in values:
        warnings.warn(
            f"{file}: does not say which model it was made for, as those of lesioncore 0.1.0; of another one's, its"
            f" thresholds are wrong. {_AGAIN}",
            stacklevel=2,
        )
    elif values[_PRIOR] != prior:
        raise ValueError(f"{file}: was made for another model, or the model was changed (by its fingerprint); {_AGAIN}")
    elif values[_CONTENT] != calibration.fingerprint:
        raise ValueError(f"{file}: was changed after it was written (by its fingerprint); {_AGAIN}")
