"""Detectors on scans with known lesions, and on healthy ones: the scores of each, kept on disk as they come."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from lesioncore.calibration import Calibration
from lesioncore.data.files import replace_atomically
from lesioncore.data.grid import SliceGrid
from lesioncore.detectors import Detector
from lesioncore.evaluation.case import CaseScore, score_case
from lesioncore.evaluation.summary import compare, summarise
from lesioncore.scan import prepare
from lesioncore.subjects import Loaded, Subject

LIMITS = (0.01, 0.05, 0.10)
"""The paper's false-positive-rate limits (section 3.2)."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of several methods on the same scans.

    Attributes
    ----------
    patients, healthy : mapping of str to list of CaseScore
        For each method, its scores of the scans with lesions and of the healthy ones, in the same order for all.
    """

    patients: Mapping[str, list[CaseScore]]
    healthy: Mapping[str, list[CaseScore]]

    @property
    def methods(self) -> list[str]:
        """Names of the methods."""
        return list(self.patients)

    def summary(self) -> dict[str, Any]:
        """Figures of each method, and of the first against each other one (JSON-able)."""
        first, *others = self.methods
        found: dict[str, Any] = {
            "subjects": len(self.patients[first]),
            "healthy_subjects": len(self.healthy[first]),
            "methods": {name: summarise(self.patients[name], self.healthy[name]) for name in self.methods},
        }
        if len(self.patients[first]) > 1:
            found["differences"] = [
                {"method": first, "versus": other, **compare(self.patients[first], self.patients[other])}
                for other in others
            ]
        return found


def evaluate(
    detectors: Mapping[str, Detector],
    patients: Sequence[Subject],
    healthy: Sequence[Subject] = (),
    *,
    limits: Sequence[float] = LIMITS,
    voxel_size: float | None = None,
    store: Path | None = None,
    device: str | torch.device = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score scans with every detector and compare with the truth (method: paper section 3.2).

    Parameters
    ----------
    detectors : mapping of str to Detector
        By the name that tables give them. The first is compared with the others.
    patients : sequence of Subject
        From :func:`lesioncore.subjects.find_subjects`; each with a lesion mask, which may be empty.
    healthy : sequence of Subject
        Scans of healthy people that no calibration has seen, for the false-positive rate alone.
    limits : sequence of float
        False-positive-rate limits at which a detector that has thresholds is judged.
    voxel_size : float, optional
        Of simulated subjects, mm; 1 mm when absent. Files keep their own.
    store : Path, optional
        Folder that keeps each score: a run that was stopped goes on, and one with more scans or detectors computes what
        is new alone. A score is taken from there if scan, detector, thresholds and limits are the same.
    device : str or torch.device
        As for :func:`lesioncore.restore`.
    progress : callable, optional
        Called as ``progress(scans done, all)``.

    Raises
    ------
    ValueError
        If there is no detector or no scan, a patient has no lesion mask, or a scan cannot be used.
    """
    if not detectors:
        raise ValueError("detectors: got none, expected at least one")
    if not patients and not healthy:
        raise ValueError("patients: got none, and no healthy scans; expected at least one")
    names = [subject.id for subject in [*patients, *healthy]]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"patients: {twice} is named twice, among the patients, the healthy ones, or both")
    grid = _grid(voxel_size)
    kept = _Store(store, detectors, limits, grid)
    scores: dict[bool, dict[str, list[CaseScore]]] = {ill: {name: [] for name in detectors} for ill in (True, False)}
    everyone = [(True, subject) for subject in patients] + [(False, subject) for subject in healthy]
    for done, (ill, subject) in enumerate(everyone):
        loaded: Loaded | None = None
        for name, detector in detectors.items():
            score = kept.get(name, subject, ill)
            if score is None:
                if loaded is None:
                    loaded = _load(subject, grid, ill)
                score = score_case(detector, subject.id, loaded, limits, device=device)
                kept.put(name, subject, ill, score)
            scores[ill][name].append(score)
        if progress is not None:
            progress(done + 1, len(everyone))
    return Evaluation(scores[True], scores[False])


def thresholds_from(
    detector: Detector,
    healthy: Sequence[Subject],
    *,
    voxel_size: float | None = None,
    device: str | torch.device = "auto",
) -> Calibration:
    """Thresholds of a detector on healthy subjects (:meth:`lesioncore.Detector.thresholds`), one in memory at a time.

    Raises
    ------
    ValueError
        If there are no subjects, or a scan cannot be used.
    """
    if not healthy:
        raise ValueError("healthy: got no scans, expected at least one")
    found: list[Calibration] = []
    for subject in healthy:
        loaded = subject.load(_grid(voxel_size))
        scan = prepare(
            loaded.volume, detector.metadata, mask=loaded.mask, affine=loaded.affine, normalized=detector.normalized
        )
        found.append(detector.thresholds([scan], device=device))
    return reduce(Calibration.merge, found)


def _grid(voxel_size: float | None) -> SliceGrid:
    """Grid that simulated subjects are loaded for; files keep their own."""
    return SliceGrid(1.0 if voxel_size is None else voxel_size, (200, 200))


def _load(subject: Subject, grid: SliceGrid, ill: bool) -> Loaded:
    loaded = subject.load(grid)
    if ill and loaded.lesion is None:
        raise ValueError(
            f"{subject.id}: has no lesion mask to compare with; name one (a table with the columns image and lesion, or"
            " a file named ..._label-lesion_mask.nii.gz beside the scan), or give the scan as a healthy one"
        )
    return loaded._replace(lesion=loaded.lesion if ill else None)


class _Store:
    """Scores in files, each with a hash of all that it follows from."""

    def __init__(
        self, folder: Path | None, detectors: Mapping[str, Detector], limits: Sequence[float], grid: SliceGrid
    ) -> None:
        self.folder = folder
        self.common = {
            name: [
                detector.settings(),
                detector.tv_weight,
                detector.metadata.fingerprint,
                None if detector.calibration is None else [detector.calibration.threshold(x) for x in limits],
                list(limits),
                grid.voxel_size,
            ]
            for name, detector in detectors.items()
        }

    def get(self, method: str, subject: Subject, ill: bool) -> CaseScore | None:
        path = self._path(method, subject)
        if path is None or not path.exists():
            return None
        try:
            values = json.loads(path.read_text())
            return CaseScore.from_dict(values) if values["key"] == self._key(method, subject, ill) else None
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{path} is damaged ({error}); scoring anew", stacklevel=3)
            return None

    def put(self, method: str, subject: Subject, ill: bool, score: CaseScore) -> None:
        path = self._path(method, subject)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            temporary.write_text(json.dumps({"key": self._key(method, subject, ill), **score.to_dict()}))

    def _path(self, method: str, subject: Subject) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / _file_name(method) / f"{_file_name(subject.id)}.json"

    def _key(self, method: str, subject: Subject, ill: bool) -> str:
        facts = json.dumps([self.common[method], subject.key(), ill], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)
