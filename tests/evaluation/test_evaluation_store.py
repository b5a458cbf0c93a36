"""Scores kept on disk: taken from there while nothing changed, and only then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.evaluations import (
    KNOWN,
    Counting,
    same,
)
from support.patients import lesion, scan, subjects_of, write, write_patients
from support.scans import METADATA

from lesioncore.detectors import IntensityThreshold
from lesioncore.evaluation import evaluate, thresholds_from
from lesioncore.scoring.postprocess import PostProcessing


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "scores"


def calls_for(store, patients, detector=None, **options) -> int:
    detector = detector or Counting()
    evaluate({"a": detector}, patients, store=store, **options)
    return detector.calls


def test_a_score_is_taken_from_disk_while_nothing_changed(store, patients, healthy):
    fresh = evaluate({"a": Counting()}, patients, healthy)
    assert calls_for(store, patients, healthy=healthy) == 7
    assert len(list(store.iterdir())) == 7
    detector = Counting()
    again = evaluate({"another name": detector}, patients, healthy, store=store)
    assert detector.calls == 0
    for kind in ("patients", "healthy"):
        for old, new in zip(getattr(fresh, kind)["a"], getattr(again, kind)["another name"], strict=True):
            assert same(replace(new, seconds=old.seconds), old)


def test_what_is_new_alone_is_computed(store, patients, healthy):
    assert calls_for(store, patients[:2]) == 2
    assert calls_for(store, patients) == 2
    other = Counting(sign=-1)
    assert calls_for(store, patients, other) == 4
    first, second = Counting(), Counting(replace(KNOWN, fingerprint="1" * 64))
    evaluate({"a": first, "b": second}, patients[::-1], healthy, store=store)
    assert (first.calls, second.calls) == (3, 7)


def test_a_changed_scan_detector_or_limit_is_scored_again(store, tmp_path, patients, healthy, monkeypatch):
    folder = write_patients(tmp_path / "own", 1)
    (subject,) = own = subjects_of(folder)
    assert [calls_for(store, own), calls_for(store, own)] == [1, 0]
    write(subject.scan, scan(7))
    assert calls_for(store, own) == 1
    write(subject.lesion, lesion(1).astype(np.uint8))
    assert calls_for(store, own) == 1
    assert calls_for(store, own, limits=(0.2,)) == 0  # without thresholds there is nothing at a limit
    calibrated = Counting(KNOWN.with_calibration(IntensityThreshold(KNOWN, sign=1).thresholds([healthy[0].scan])))
    assert calls_for(store, own, calibrated) == 1
    assert calls_for(store, own, calibrated, limits=(0.01, 0.05)) == 2
    calibrated.metadata = KNOWN.with_calibration(IntensityThreshold(KNOWN, sign=1).thresholds([healthy[1].scan]))
    assert calls_for(store, own, calibrated) == 3
    calibrated.smoothing = 3.0
    assert calls_for(store, own, calibrated) == 4
    calibrated.postprocessing = PostProcessing(min_volume=200)
    assert [calls_for(store, own, calibrated), calls_for(store, own, calibrated)] == [5, 5]
    assert calls_for(store, [replace(subject, id="sub-renamed")]) == 1
    monkeypatch.setattr("lesioncore.evaluation.store.source_hash", lambda *_: "another version")
    assert calls_for(store, own) == 1


def test_nothing_is_kept_of_a_detector_whose_weights_nothing_identifies(store, patients):
    for _ in range(2):
        assert calls_for(store, patients, Counting(METADATA)) == 4
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"histogram": 3}', b"\xff\xfe", "cut", "bin"])
def test_a_damaged_file_is_said_and_made_anew(store, patients, content):
    assert calls_for(store, patients[:1]) == 1
    (path,) = store.iterdir()
    whole = path.read_text()
    if content == "cut":
        content = whole[:-100]
    elif content == "bin":  # a bin that there is not
        values = json.loads(whole)
        values["histogram"]["bin"][-1] = 10**6
        content = json.dumps(values)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged .* made anew"):
        assert calls_for(store, patients[:1]) == 1
    assert json.loads(path.read_text())["histogram"] == json.loads(whole)["histogram"]
    assert calls_for(store, patients[:1]) == 0


def test_an_interrupted_run_goes_on(store, patients):
    with pytest.raises(KeyboardInterrupt):
        evaluate({"a": Counting(stop_at=2)}, patients, store=store)
    assert len(list(store.iterdir())) == 2  # and no half of a file
    assert calls_for(store, patients) == 2


def test_thresholds_are_kept_for_each_scan(store, healthy):
    detector = Counting()
    found = thresholds_from(detector, healthy[:2], store=store)
    assert detector.calls == 2
    assert thresholds_from(detector, healthy, store=store) == thresholds_from(Counting(), healthy)
    assert detector.calls == 3
    assert thresholds_from(detector, healthy[:2], store=store) == found
    detector.metadata = detector.metadata.with_calibration(found)  # does not matter to new ones
    assert thresholds_from(detector, healthy[:2], store=store) == found
    assert detector.calls == 3
