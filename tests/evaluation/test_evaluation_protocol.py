"""Which scans are scored, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from support.evaluations import (
    CALIBRATED,
    Counting,
    brain_scores,
)
from support.patients import AFFINE, HEAD, scan, subjects_of, write
from support.scans import METADATA

from lesioncore.detectors import IntensityThreshold
from lesioncore.evaluation import evaluate, thresholds_from
from lesioncore.metrics import fpr_threshold
from lesioncore.subjects import Loaded, Subject

pytestmark = pytest.mark.usefixtures("few_draws")


@CALIBRATED
def test_limits_hold_on_the_calibrations_own_scans(name, detectors, folder):
    detector, own = detectors[name], subjects_of(folder / "calibration")
    assert thresholds_from(detector, own) == detector.thresholds([subject.scan for subject in own])
    figures = evaluate({"a": detector}, [], own).summary()["methods"]["a"]
    scores = np.concatenate([score for score, _ in brain_scores(detector, own)])
    assert "auc" not in figures
    for row, what in zip(figures["at_limit"], figures["detector"]["thresholds"], strict=True):
        assert 0 < row["healthy_fpr"] <= row["limit"]
        assert row["healthy_fpr"] == pytest.approx((scores > what["threshold"]).mean())
        assert what["threshold"] >= fpr_threshold(scores, row["limit"])


def test_progress(patients, healthy):
    calls = []
    evaluate({"a": Counting()}, patients[:2], healthy[:1], progress=lambda *at: calls.append(at))
    thresholds_from(Counting(), healthy[:2], progress=lambda *at: calls.append(at))
    assert calls == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]


def test_people_whose_scores_follow_from_each_other_are_scored_together(healthy, tmp_path):
    apart = thresholds_from(Counting(), healthy)
    seen = []

    class Together(Counting):
        def thresholds(self, healthy, **options):
            seen.append(len(healthy))
            return apart

    detector = Together()
    detector.spread_map = True
    for _ in range(2):  # the second from the store
        assert thresholds_from(detector, healthy, store=tmp_path) == apart
    assert seen == [len(healthy)]


@dataclass(frozen=True)
class Unlabelled(Subject):
    def key(self) -> str:
        return self.id

    def load(self, grid) -> Loaded:
        return Loaded(scan(0), AFFINE, None, None)


def test_wrong_arguments_are_named(patients, healthy, folder, tmp_path):
    one = {"a": IntensityThreshold(METADATA)}
    with pytest.raises(ValueError, match="detectors: got none"):
        evaluate({}, patients)
    with pytest.raises(ValueError, match="patients: got none, and no healthy scans"):
        evaluate(one, [])
    with pytest.raises(ValueError, match="healthy: got no scans"):
        thresholds_from(one["a"], [])
    with pytest.raises(ValueError, match="patients: sub-p0 is named 2 times"):
        evaluate(one, [*patients, patients[0]])
    with pytest.raises(ValueError, match="healthy: sub-h1 is named 2 times"):
        thresholds_from(one["a"], [*healthy, healthy[1]])
    with pytest.raises(ValueError, match="device: got 'tpu'"):
        evaluate(one, patients, device="tpu")
    with pytest.raises(
        ValueError, match=r"patients: sub-h0, sub-h1, sub-h2: no lesion mask .* columns image and lesion"
    ):
        evaluate(one, [*patients, *healthy])
    many = subjects_of(folder / "healthy") + subjects_of(folder / "calibration")
    with pytest.raises(ValueError, match="sub-h0, sub-h1, sub-h2 and 4 more: no lesion mask"):
        evaluate(one, many)
    with pytest.raises(ValueError, match="patients: sub-u: no lesion mask"):
        evaluate(one, [Unlabelled("sub-u", "sub-u", None)])
    for call in (partial(evaluate, one, []), partial(thresholds_from, one["a"])):
        with pytest.raises(ValueError, match="sub-p0: is given as healthy, but its lesion mask is not empty"):
            call(patients)


def test_errors_name_the_scan(patients, tmp_path):
    flat = write(tmp_path / "flat.nii", np.zeros(HEAD.shape, np.float32))
    broken = replace(patients[1], id="sub-x", scan=flat, lesion=patients[0].lesion)
    with pytest.raises(ValueError, match=r"sub-x: .*constant"):
        evaluate({"a": IntensityThreshold(METADATA)}, [patients[0], broken])
