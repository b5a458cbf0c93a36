"""Evaluation of detectors on scans with known lesions and on healthy ones, with each score stored once computed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch

from lesioncore.calibration.record import Calibration
from lesioncore.data.reduction import tree_reduce
from lesioncore.detectors import Detector
from lesioncore.engine.device import resolve_device
from lesioncore.evaluation.boxes import Box, boxes_for, boxes_key
from lesioncore.evaluation.case import CaseScore, score_case
from lesioncore.evaluation.scans import check_names, check_patients, lacks_mask, load
from lesioncore.evaluation.store import Store
from lesioncore.evaluation.strata import By, check_columns, facts_of, stratify
from lesioncore.evaluation.summary import compare, summarise, summarise_boxes
from lesioncore.metrics.limits import LIMITS
from lesioncore.preprocess.pipeline import Step
from lesioncore.restoration.healthy_scans import about
from lesioncore.subjects import Loaded, Subject
from lesioncore.torch_modes import own_modes


@dataclass(frozen=True)
class Evaluation:
    """Scores of several methods on the same scans.

    Attributes
    ----------
    patients, healthy : mapping of str to list of CaseScore
        For each method, the scores of the scans with lesion masks and of the healthy ones, in the same order for all.
    detectors : mapping of str to dict
        Description of each method: model, fingerprint, settings, precision, thresholds, post-processing (JSON-able).
    boxed : mapping of str to list of CaseScore
        For each method, the scores of the scans with boxes; those of them that have no lesion mask are here alone.
    by : sequence of By
        Columns that the summary groups people by.
    facts : tuple of two sequences
        Values of these columns, of the patients and of the healthy people.
    """

    patients: Mapping[str, list[CaseScore]]
    healthy: Mapping[str, list[CaseScore]]
    detectors: Mapping[str, dict[str, Any]]
    boxed: Mapping[str, list[CaseScore]] = field(default_factory=dict)
    by: Sequence[By] = ()
    facts: tuple[Sequence[Mapping[str, str | None]], Sequence[Mapping[str, str | None]]] = ((), ())

    def summary(self) -> dict[str, Any]:
        """Summarise each method, and compare the first with each other one.

        Returns
        -------
        dict
            JSON-able.

            - ``subjects`` and ``healthy_subjects``, the numbers of scans; ``without_lesion``, the number of `subjects`
              without a lesion voxel in the brain;
            - ``people`` and ``healthy_people``, the numbers of people who were scanned;
            - ``boxed_subjects``, the number of scans with boxes;
            - ``methods``, for each the result of :func:`summarise`, as ``detector`` its description and as ``boxes``
              the rows of :func:`summarise_boxes`;
            - ``differences``, the rows of :func:`compare`; empty without patients;
            - ``strata``, the rows of :func:`stratify`.
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
            "boxed_subjects": len(self.boxed.get(first, [])),
            "methods": {
                name: {
                    "detector": description,
                    **summarise(self.patients[name], self.healthy[name]),
                    "boxes": summarise_boxes(self.boxed.get(name, [])),
                }
                for name, description in self.detectors.items()
            },
            "differences": [
                {"method": first, "versus": other, **compare(patients, self.patients[other])}
                for other in others
                if patients
            ],
            "strata": stratify(self.patients, self.healthy, self.facts, self.by),
        }


@own_modes()
def evaluate(
    detectors: Mapping[str, Detector],
    patients: Sequence[Subject],
    healthy: Sequence[Subject] = (),
    *,
    limits: Sequence[float] = LIMITS,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    by: Sequence[By] = (),
    voxel_size: float = 1.0,
    store: Path | None = None,
    device: str | torch.device = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score scans with every detector and compare with the lesion masks (method: paper section 3.2).

    Parameters
    ----------
    detectors : mapping of str to Detector
        Detectors by their names in tables. The first is compared with the others.
    patients : sequence of Subject
        From :func:`lesioncore.subjects.find_subjects`; each with a lesion mask, which may be empty, or boxes.
    healthy : sequence of Subject
        Scans of healthy people that no calibration has seen, for the false-positive rate alone.
    limits : sequence of float
        False-positive-rate limits at which detectors with thresholds are evaluated.
    boxes : mapping of str to sequence of Box, optional
        Boxes around the lesions of patients, from :func:`lesioncore.evaluation.boxes.read_boxes`.
    by : sequence of By
        Columns of ``participants.tsv``, and facts of lesions, that the summary groups people by.
    voxel_size : float
        Of simulated subjects, mm. Files keep their own.
    store : Path, optional
        Folder in which scores are stored, so that a stopped run can continue and a run with more scans or detectors
        computes the new scores alone. A stored score is used if scan, detector, thresholds, limits, post-processing,
        kind of device, precision and code are the same. Scores of a detector without a fingerprint of its weights
        (``metadata.fingerprint`` is None) are not stored.
    device : str or torch.device
        As for :func:`lesioncore.restore`.
    progress : callable, optional
        Called as ``progress(scans done, all)``.

    Returns
    -------
    Evaluation
        Scores of all detectors.

    Raises
    ------
    ValueError
        If there is no detector or no scan, two scans have the same name or one has two, a patient has neither a lesion
        mask nor boxes, a healthy scan has a lesion, a scan cannot be used, or boxes or columns are not those of these
        people.
    """
    if not detectors:
        raise ValueError("detectors: got none, expected at least one")
    if not patients and not healthy:
        raise ValueError("patients: got none, and no healthy scans; expected at least one")
    check_patients(patients, boxes)
    check_names("healthy", healthy)
    groups = {
        "patients": [subject for subject in patients if not lacks_mask(subject)],
        "healthy": healthy,
        "boxed": [subject for subject in patients if lacks_mask(subject)],
    }
    facts_of_people = facts_of(groups["patients"]), facts_of(healthy)
    check_columns(by, [*facts_of_people[0], *facts_of_people[1]])
    target = resolve_device(device)
    score_store = Store(store)
    facts = {name: _describe(detector, limits, target) for name, detector in detectors.items()}
    calibration_keys = {name: _calibration_key(detector) for name, detector in detectors.items()}
    scores: dict[str, dict[str, list[CaseScore]]] = {group: {name: [] for name in detectors} for group in groups}
    work = [(group, subject) for group, subjects in groups.items() for subject in subjects]
    for done, (group, subject) in enumerate(work, start=1):
        ill = group == "patients"
        drawn = () if group == "healthy" else boxes_for(subject, boxes or {})
        # Images are loaded only if a score is not stored, and once for all detectors with the same preprocessing.
        images = cache(partial(_images, subject, voxel_size, ill))
        scan_key = ["score", ill, subject.id, subject.person, None if store is None else subject.key(), voxel_size]
        for name, detector in detectors.items():
            make = partial(_score, detector, subject, images, limits, drawn, target)
            key = [*scan_key, calibration_keys[name], facts[name]["thresholds"], facts[name]["postprocessing"]]
            key.append(boxes_key(drawn))
            case = score_store.get(detector, key, target, make, CaseScore.from_dict)
            scores[group][name].append(case)
            if ill and drawn:
                scores["boxed"][name].append(case)
        if progress is not None:
            progress(done, len(work))
    return Evaluation(scores["patients"], scores["healthy"], facts, scores["boxed"], by, facts_of_people)


@own_modes()
def thresholds_from(
    detector: Detector,
    healthy: Sequence[Subject],
    *,
    voxel_size: float = 1.0,
    store: Path | None = None,
    device: str | torch.device = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Find a detector's thresholds on healthy subjects (:meth:`lesioncore.Detector.thresholds`).

    One scan is in memory at a time; all are if the detector uses a spread map, to which all people contribute.

    Parameters
    ----------
    detector : Detector
        Its own thresholds, if it has any, are not used.
    healthy : sequence of Subject
        Scans of healthy people that the detector was not trained on.
    voxel_size, store, device, progress
        As for :func:`evaluate`; the calibration of each scan is stored.

    Returns
    -------
    Calibration
        Attach with ``detector.metadata = detector.metadata.with_calibration(calibration)``.

    Raises
    ------
    ValueError
        If there are no subjects, two have the same name or are one scan, one has a lesion, is of another contrast by
        its intensities, or cannot be used.
    """
    if not healthy:
        raise ValueError("healthy: got no scans, expected at least one")
    check_names("healthy", healthy)
    target, calibration_store = resolve_device(device), Store(store)
    calibrations: list[Calibration] = []
    done = 0
    for group in [healthy] if detector.spread_map else [[subject] for subject in healthy]:
        keys = None if store is None else [subject.key() for subject in group]
        make = partial(_thresholds, detector, group, voxel_size, target)
        facts = ["thresholds", keys, voxel_size]
        calibrations.append(calibration_store.get(detector, facts, target, make, Calibration.from_dict))
        done += len(group)
        if progress is not None:
            progress(done, len(healthy))
    return tree_reduce(Calibration.merge, calibrations)


def _images(subject: Subject, voxel_size: float, ill: bool, steps: tuple[Step, ...]) -> Loaded:
    return load(subject, voxel_size, ill=ill).preprocess(steps)


def _score(
    detector: Detector,
    subject: Subject,
    images: Callable[[tuple[Step, ...]], Loaded],
    limits: Sequence[float],
    boxes: Sequence[Box],
    device: torch.device,
) -> CaseScore:
    with about(subject.id):
        loaded = images(detector.steps)
        return score_case(detector, subject.id, loaded, limits, person=subject.person, boxes=boxes, device=device)


def _thresholds(
    detector: Detector, subjects: Sequence[Subject], voxel_size: float, device: torch.device
) -> Calibration:
    scans = []
    for subject in subjects:
        with about(subject.id):
            loaded = load(subject, voxel_size, ill=False)
            scans.append(loaded.prepare(detector.metadata, normalized=detector.normalized, steps=detector.preprocess))
    return detector.thresholds(scans, device=device)


def _calibration_key(detector: Detector) -> str | None:
    """Hash of a calibration's people and spread map, which scores and remarks on unusual scans depend on."""
    calibration = detector.calibration
    if calibration is None:
        return None
    spread_map = calibration.spread_map if detector.spread_map else None
    parts = [calibration.healthy.to_dict()["subjects"], spread_map and spread_map.to_dict()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _describe(detector: Detector, limits: Sequence[float], device: torch.device) -> dict[str, Any]:
    """Describe a detector (JSON-able). An infinite threshold, which follows from infinite scores, becomes None."""
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
