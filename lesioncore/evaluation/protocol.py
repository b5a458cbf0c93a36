"""The evaluation of detectors on scans with known lesions and on healthy ones, kept on disk as it goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial, reduce
from pathlib import Path
from typing import Any

import torch

from lesioncore.calibration.record import Calibration
from lesioncore.detectors import Detector
from lesioncore.engine.device import resolve_device
from lesioncore.evaluation.case import CaseScore, score_case
from lesioncore.evaluation.scans import about, check_names, check_patients, load
from lesioncore.evaluation.store import Store
from lesioncore.evaluation.summary import compare, summarise
from lesioncore.metrics.limits import LIMITS
from lesioncore.preprocess.pipeline import Step
from lesioncore.subjects import Loaded, Subject


@dataclass(frozen=True)
class Evaluation:
    """Scores of several methods on the same scans.

    Attributes
    ----------
    patients, healthy : mapping of str to list of CaseScore
        For each method, its scores of the scans with lesion masks and of the healthy ones, in the same order for all.
    detectors : mapping of str to dict
        What each method is: model, fingerprint, settings, precision, thresholds, post-processing (JSON-able).
    """

    patients: Mapping[str, list[CaseScore]]
    healthy: Mapping[str, list[CaseScore]]
    detectors: Mapping[str, dict[str, Any]]

    def summary(self) -> dict[str, Any]:
        """Figures of each method, and of the first against each other one (JSON-able).

        ``subjects``, of which ``without_lesion`` have none in the brain, and ``healthy_subjects`` count the scans,
        ``people`` and ``healthy_people`` whom they are of; ``methods`` holds for each what :func:`summarise` gives and,
        as ``detector``, what it is; ``differences`` the rows of :func:`compare`, of no patient none.
        """
        return self._summary

    @cached_property
    def _summary(self) -> dict[str, Any]:
        first, *others = self.detectors
        patients = self.patients[first]
        return {
            "subjects": len(patients),
            "people": len({case.person for case in patients}),
            "without_lesion": sum(case.lesion_ml == 0 for case in patients),
            "healthy_subjects": len(self.healthy[first]),
            "healthy_people": len({case.person for case in self.healthy[first]}),
            "methods": {
                name: {"detector": what, **summarise(self.patients[name], self.healthy[name])}
                for name, what in self.detectors.items()
            },
            "differences": [
                {"method": first, "versus": other, **compare(patients, self.patients[other])}
                for other in others
                if patients
            ],
        }


def evaluate(
    detectors: Mapping[str, Detector],
    patients: Sequence[Subject],
    healthy: Sequence[Subject] = (),
    *,
    limits: Sequence[float] = LIMITS,
    voxel_size: float = 1.0,
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
    voxel_size : float
        Of simulated subjects, mm. Files keep their own.
    store : Path, optional
        Folder that keeps each score: a run that was stopped goes on, and one with more scans or detectors computes what
        is new alone. A score is taken from there if scan, detector, thresholds, limits, post-processing, kind of
        device, precision and code are the same. Nothing is kept of a detector whose weights nothing identifies
        (``metadata.fingerprint`` is None).
    device : str or torch.device
        As for :func:`lesioncore.restore`.
    progress : callable, optional
        Called as ``progress(scans done, all)``.

    Raises
    ------
    ValueError
        If there is no detector or no scan, one is named twice, a patient has no lesion mask or a healthy scan a lesion,
        or a scan cannot be used.
    """
    if not detectors:
        raise ValueError("detectors: got none, expected at least one")
    if not patients and not healthy:
        raise ValueError("patients: got none, and no healthy scans; expected at least one")
    check_patients(patients)
    check_names("healthy", healthy)
    target = resolve_device(device)
    kept = Store(store)
    facts = {name: _describe(detector, limits, target) for name, detector in detectors.items()}
    compared = {name: _calibrated(detector) for name, detector in detectors.items()}
    scores: dict[bool, dict[str, list[CaseScore]]] = {ill: {name: [] for name in detectors} for ill in (True, False)}
    everyone = [(True, subject) for subject in patients] + [(False, subject) for subject in healthy]
    for done, (ill, subject) in enumerate(everyone, start=1):
        images = cache(partial(_images, subject, voxel_size, ill))  # when first wanted, and once for all detectors
        scan = ["score", ill, subject.id, subject.person, None if store is None else subject.key(), voxel_size]
        for name, detector in detectors.items():
            make = partial(_score, detector, subject, images, limits, target)
            follows = [*scan, compared[name], facts[name]["thresholds"], facts[name]["postprocessing"]]
            scores[ill][name].append(kept.get(detector, follows, target, make, CaseScore.from_dict))
        if progress is not None:
            progress(done, len(everyone))
    return Evaluation(scores[True], scores[False], facts)


def thresholds_from(
    detector: Detector,
    healthy: Sequence[Subject],
    *,
    voxel_size: float = 1.0,
    store: Path | None = None,
    device: str | torch.device = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Thresholds of a detector on healthy subjects (:meth:`lesioncore.Detector.thresholds`).

    One is in memory at a time, or all where each is scored by a map of the others' spread.

    Parameters
    ----------
    detector : Detector
        Its own thresholds, if it has any, are not used.
    healthy : sequence of Subject
        Scans of healthy people that the detector was not trained on.
    voxel_size, store, device, progress
        As for :func:`evaluate`; the store keeps what each scan says.

    Returns
    -------
    Calibration
        Attach with ``detector.metadata = detector.metadata.with_calibration(calibration)``.

    Raises
    ------
    ValueError
        If there are no subjects, one is named twice or has a lesion, or a scan cannot be used.
    """
    if not healthy:
        raise ValueError("healthy: got no scans, expected at least one")
    check_names("healthy", healthy)
    target, kept = resolve_device(device), Store(store)
    found: list[Calibration] = []
    done = 0
    for together in [healthy] if detector.spread_map else [[subject] for subject in healthy]:
        keys = None if store is None else [subject.key() for subject in together]
        make = partial(_thresholds, detector, together, voxel_size, target)
        found.append(kept.get(detector, ["thresholds", keys, voxel_size], target, make, Calibration.from_dict))
        done += len(together)
        if progress is not None:
            progress(done, len(healthy))
    return reduce(Calibration.merge, found)


def _images(subject: Subject, voxel_size: float, ill: bool, steps: tuple[Step, ...]) -> Loaded:
    return load(subject, voxel_size, ill=ill).preprocess(steps)


def _score(
    detector: Detector,
    subject: Subject,
    images: Callable[[tuple[Step, ...]], Loaded],
    limits: Sequence[float],
    device: torch.device,
) -> CaseScore:
    with about(subject):
        return score_case(detector, subject.id, images(detector.steps), limits, person=subject.person, device=device)


def _thresholds(
    detector: Detector, subjects: Sequence[Subject], voxel_size: float, device: torch.device
) -> Calibration:
    scans = []
    for subject in subjects:
        with about(subject):
            loaded = load(subject, voxel_size, ill=False)
            scans.append(loaded.prepare(detector.metadata, normalized=detector.normalized, steps=detector.preprocess))
    return detector.thresholds(scans, device=device)


def _calibrated(detector: Detector) -> list[Any]:
    """What scores and remarks on unusual scans follow from of a calibration, beside its thresholds."""
    calibration = detector.calibration
    if calibration is None:
        return []
    spread_map = calibration.spread_map if detector.spread_map else None
    return [calibration.healthy.to_dict()["subjects"], spread_map and spread_map.to_dict()]


def _describe(detector: Detector, limits: Sequence[float], device: torch.device) -> dict[str, Any]:
    """What a detector is; a threshold that is infinite, since healthy scores are, becomes None."""
    metadata, calibration = detector.metadata, detector.calibration
    thresholds = [] if calibration is None else [(limit, calibration.threshold(limit)) for limit in limits]
    return {
        "model": metadata.name,
        "fingerprint": metadata.fingerprint,
        "settings": detector.settings(),
        "tv_weight": detector.tv_weight,
        "smoothing": detector.smoothing,
        "precision": detector.precision_on(device),
        "postprocessing": asdict(detector.postprocessing),
        "calibration_subjects": None if calibration is None else calibration.subjects,
        "thresholds": [
            {"limit": limit, "threshold": value if math.isfinite(value) else None} for limit, value in thresholds
        ],
    }
