"""Pictures of single scans, and curves over weight and steps."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.evaluations import (
    is_png,
)
from support.patients import voxels
from support.scans import FAST, METADATA

from lesioncore.detectors import MAPDetector
from lesioncore.evaluation.curves import Curves, write_curves
from lesioncore.evaluation.examples import choose_examples, draw_examples
from lesioncore.restoration.figure import restoration_figure
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.restore import restore
from lesioncore.scoring.postprocess import PostProcessing


def test_examples_are_drawn_with_the_detectors_own_thresholds(found, detectors, patients, tmp_path, monkeypatch):
    cases, detector = found.patients["restored"], detectors["restored"]
    order = sorted(cases, key=lambda case: case.at_limit[0.05].confusion.dice)
    assert choose_examples(cases, 0.05, 2) == [order[0].subject, order[-1].subject]
    assert choose_examples(cases[:1], 0.05, 3) == [cases[0].subject]
    drawn = []

    def figure(result, truth, **options):
        drawn.append((result.mask(0.05), truth, options))
        return restoration_figure(result, truth, **{**options, "slices": 1})

    monkeypatch.setattr("lesioncore.evaluation.examples.restoration_figure", figure)
    written = draw_examples(detector, patients[1:2], tmp_path / "examples")
    assert [path.name for path in written] == ["sub-p1_slices.png", "sub-p1_neighbours.png"]
    assert all(map(is_png, written))
    expected = detector.mask(detector.detect(patients[1].scan), 0.05)
    for mask, truth, _ in drawn:
        assert np.array_equal(mask.dataobj, expected.dataobj)
        assert np.array_equal(truth, voxels(patients[1].lesion) != 0)
    assert [options["consecutive"] for *_, options in drawn] == [False, True]
    assert {options["title"] for *_, options in drawn} == {"sub-p1"}
    assert detector.prior.metadata.calibration is None  # as it was
    monkeypatch.setattr(detector, "postprocessing", PostProcessing(min_volume=1e6))
    draw_examples(detector, patients[1:2], tmp_path / "cleaned")
    assert not drawn[-1][0].get_fdata().any()
    assert expected.get_fdata().any()


def test_examples_are_preprocessed_as_scored_and_those_of_an_earlier_evaluation_go(
    detectors, patients, tmp_path, monkeypatch
):
    def restored(*given, config, **options):
        assert config.preprocess == ("extract",)
        return restore(*given, config=replace(config, preprocess=()), **options)

    monkeypatch.setattr("lesioncore.evaluation.examples.restore", restored)
    monkeypatch.setattr(detectors["restored"], "preprocess", ("extract",))
    for name in ("sub-old_slices.png", "sub-old_neighbours.png", "notes.txt"):
        (tmp_path / name).write_text("earlier")
    written = draw_examples(detectors["restored"], patients[1:2], tmp_path)
    assert {*written, tmp_path / "notes.txt"} == set(tmp_path.iterdir())


@pytest.mark.parametrize(("smoothing", "sign"), [(0.0, 0), (5.0, 0), (5.0, -1)])
def test_curves(smoothing, sign, detectors, patients, healthy):
    """The scans are thinner than the slab, so that a curve's AUC is that of the detector on the prior's slices."""
    prior, config = detectors["restored"].prior, replace(FAST, smoothing=smoothing, sign=sign, tv_dimensions=2)
    curves = Curves(prior, patients[:2], healthy[:1], config=config)
    loose, tight = curves.weights((0.01, 1000.0))
    assert loose["change"] > tight["change"] == pytest.approx(0, abs=1e-6)
    start, *_, end = curves.steps((0, 2, 10))
    assert end["objective"] > start["objective"]
    detector, pairs = MAPDetector(prior, config), []
    for subject in patients[:2]:
        scan = prepare(subject.scan, METADATA)
        (score,) = detector.score_stacks([scan])
        truth = scan.label_on_slices(voxels(subject.lesion) != 0)
        pairs.append((score[scan.mask].numpy(), truth[scan.mask].numpy()))
    score, truth = map(np.concatenate, zip(*pairs, strict=True))
    assert curves.weights((1.0,))[0]["auc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-4)


def test_curves_need_patients_and_go_to_files(detectors, patients, healthy, tmp_path, monkeypatch):
    prior = detectors["restored"].prior
    curves = Curves(prior, patients, config=FAST, scans=2)
    assert len(curves._patients) == 2
    rows = [{"tv_weight": 1.0, "auc": 0.5}, {"tv_weight": 2.0, "auc": 0.6}]
    steps = [{"steps": 0, "auc": 0.5, "objective": -3.0}]
    monkeypatch.setattr(Curves, "weights", lambda _: rows)
    monkeypatch.setattr(Curves, "steps", lambda _: steps)
    written = write_curves(curves, tmp_path)
    assert json.loads(written["curves.json"].read_text()) == {"weights": rows, "steps": steps}
    assert is_png(written["curves.png"])
    with pytest.raises(ValueError, match="patients: got none"):
        Curves(prior, [], healthy)
    with pytest.raises(ValueError, match="sub-h0: no lesion mask"):
        Curves(prior, healthy)
