"""Evaluations that the tests of them share: small scans in files, detectors of every kind, and their scores."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import tiny_vae
from support.patients import HEAD, scan, subjects_of, voxels, write, write_healthy, write_patients
from support.scans import FAST, METADATA

import lesioncore as lc
from lesioncore import metrics
from lesioncore.detectors import EqualizedThreshold, IntensityThreshold, MAPDetector, UNetDetector
from lesioncore.evaluation import CaseScore, Evaluation, evaluate, thresholds_from
from lesioncore.models import UNet, UNetConfig
from lesioncore.subjects import FileSubject

KNOWN = replace(METADATA, fingerprint="0" * 64)
NAMES = ("bright", "restored", "unet", "ranks", "raw")
ALL = pytest.mark.parametrize("name", NAMES)
CALIBRATED = pytest.mark.parametrize("name", NAMES[:2])

bootstrap_interval = partial(metrics.bootstrap_interval, n=20)
bootstrap_mean = partial(metrics.bootstrap_mean, n=20)


@pytest.fixture(scope="module")
def few_draws():
    """Bootstraps of 20 resamples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lesioncore.evaluation.summary.bootstrap_interval", bootstrap_interval)
        patch.setattr("lesioncore.evaluation.summary.bootstrap_mean", bootstrap_mean)
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scans")
    write_patients(root / "patients")
    write_healthy(root / "healthy", range(3))
    write_healthy(root / "calibration", range(10, 14))
    return root


@pytest.fixture(scope="session")
def patients(folder) -> list[FileSubject]:
    return subjects_of(folder / "patients")


@pytest.fixture(scope="session")
def healthy(folder) -> list[FileSubject]:
    return subjects_of(folder / "healthy")


@pytest.fixture(scope="session")
def detectors(folder) -> dict[str, lc.Detector]:
    """One signed and one absolute with thresholds, one of probabilities, one of ranks, one of raw intensities."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNetDetector(UNet(UNetConfig((24, 20), (4, 6), 3), METADATA))
    bright = IntensityThreshold(METADATA, sign=1)
    # In z-scores: an untrained prior's scores in units of each scan's spread lie too close for figures from bins.
    restored = MAPDetector(tiny_vae(metadata=METADATA), replace(FAST, standardize=False))
    for detector in (bright, restored):
        calibration = thresholds_from(detector, subjects_of(folder / "calibration"))
        detector.metadata = detector.metadata.with_calibration(calibration)
    ranks, raw = EqualizedThreshold(METADATA, sign=1), IntensityThreshold(sign=1)
    return {"bright": bright, "restored": restored, "unet": unet, "ranks": ranks, "raw": raw}


@pytest.fixture(scope="session")
def found(detectors, patients, healthy) -> Evaluation:
    return evaluate(detectors, patients, healthy)


def brain_scores(detector, subjects) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and truth of each scan's brain, by the detector's own call."""
    pairs = []
    for subject in subjects:
        score, inside = np.asarray(detector.detect(subject.scan).dataobj), voxels(subject.scan) != 0
        truth = np.zeros_like(inside) if subject.lesion is None else voxels(subject.lesion) != 0
        pairs.append((score[inside], truth[inside]))
    return pairs


def dice_of(detected, truth) -> float:
    return 2 * (detected & truth).sum() / (detected.sum() + truth.sum())


def same(first: CaseScore, second: CaseScore) -> bool:
    return first.to_dict() == second.to_dict()


def without_lesion(folder: Path) -> FileSubject:
    empty = write(folder / "empty.nii", np.zeros(HEAD.shape, np.uint8))
    return FileSubject("sub-e", "sub-e", "T2w", write(folder / "sub-e_T2w.nii", scan(99)), lesion=empty)


def is_png(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


class Counting(IntensityThreshold):
    """Counts the scans that it scores; stops before the one of a number, like Ctrl-C."""

    def __init__(self, metadata=KNOWN, *, sign=1, stop_at=None):
        super().__init__(metadata, sign=sign)
        self.calls, self.stop_at = 0, stop_at

    def score_scans(self, scans, **options):
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return super().score_scans(scans, **options)
