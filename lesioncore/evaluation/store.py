"""A cache of results in files, each keyed by everything that the result depends on."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

import lesioncore
from lesioncore.data.files import replace_atomically
from lesioncore.detectors import Detector
from lesioncore.subjects import source_hash

SCORING = (
    *("calibration", "data", "detectors", "engine", "metrics", "models", "ops", "preprocess", "restoration", "scoring"),
    *("solvers", "subjects", "torch_modes.py"),
)
"""Parts of the package that scores depend on: if one changes, stored scores are computed again."""

NOT_SCORING = (
    *(
        "__init__.py",
        "__main__.py",
        "about.py",
        "bids_app",
        "choices.py",
        "cli",
        "cohort",
        "command_options.py",
        "datasets",
        "demo.py",
        "evaluation",
        "phantom",
        "prior_names.py",
        "reproduction",
    ),
    *("report", "training", "words.py"),
)
"""All other parts. Of these, scores depend on `evaluation/case.py` and `evaluation/boxes.py`, which are hashed too, and
simulated scans on `phantom`, which is hashed in the key of their subjects."""


class _Storable(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


ResultT = TypeVar("ResultT", bound=_Storable)


class Store:
    """A folder of results, each in a file whose name is the hash of everything that the result depends on.

    Files that are no longer used are not removed; the folder can be deleted at any time.

    Parameters
    ----------
    folder : Path or None
        Created when absent; with None nothing is stored.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def get(
        self,
        detector: Detector,
        facts: list[Any],
        device: torch.device,
        make: Callable[[], ResultT],
        read: Callable[[dict[str, Any]], ResultT],
    ) -> ResultT:
        """Read a result, or compute and store it.

        Parameters
        ----------
        detector : Detector
            Without a fingerprint, which identifies its weights, nothing is stored.
        facts : list
            What the result depends on beside detector, device and code, such as the scan (JSON-able).
        device : torch.device
            Where the result is computed. Results of another kind of device are not used, since they hold other times.
        make : callable
            Computes the result.
        read : callable
            Makes the result from its ``to_dict()``.

        Returns
        -------
        result
            As `make` returns it.
        """
        if self._folder is None or detector.metadata.fingerprint is None:
            return make()
        dependencies = [
            *(facts, detector.metadata.fingerprint, detector.settings(), detector.tv_weight, detector.smoothing),
            *(detector.normalized, device.type, detector.precision_on(device), _code()),
        ]
        key = hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()
        path = self._folder / f"{key}.json"
        if path.exists():
            try:
                return read(json.loads(path.read_text()))
            except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
                warnings.warn(f"{path} is damaged ({error!r}) and made anew", stacklevel=3)
        result = make()
        with replace_atomically(path) as temporary:
            temporary.write_text(json.dumps(result.to_dict()))
        return result


def _code() -> str:
    """Hash of the code that scores depend on."""
    package = Path(lesioncore.__file__).parent
    own = (package / "evaluation" / name for name in ("boxes.py", "case.py"))
    return source_hash(*(package / part for part in SCORING), *own)
