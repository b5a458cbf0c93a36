"""One scan: every figure against its definition on the same files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score
from support.evaluations import (
    ALL,
    CALIBRATED,
    brain_scores,
    dice_of,
    same,
)
from support.patients import AFFINE, HEAD, lesion, scan, voxels
from support.scans import METADATA

from lesioncore.detectors import IntensityThreshold
from lesioncore.evaluation import LIMITS, CaseScore, evaluate, score_case
from lesioncore.metrics import hausdorff
from lesioncore.subjects import Loaded

pytestmark = pytest.mark.usefixtures("few_draws")


@CALIBRATED
def test_a_scans_figures_are_those_of_its_detection(name, found, detectors, patients):
    detector = detectors[name]
    for subject, case in zip(patients, found.patients[name], strict=True):
        image = detector.detect(subject.scan)
        inside, truth = voxels(subject.scan) != 0, voxels(subject.lesion) != 0
        assert case.subject == subject.id
        assert (case.brain_ml, case.lesion_ml) == pytest.approx((inside.sum() * 0.064, truth.sum() * 0.064))
        assert list(case.at_limit) == list(LIMITS)
        for limit, at in case.at_limit.items():
            detected = np.asarray(detector.mask(image, limit).dataobj) != 0
            assert at.confusion.dice == pytest.approx(dice_of(detected, truth))
            assert at.confusion.sensitivity == pytest.approx(detected[truth].mean())
            assert at.confusion.fpr == pytest.approx(detected[inside & ~truth].mean())
            numbers, count = ndimage.label(truth, np.ones((3, 3, 3)))
            covered = [detected[numbers == i + 1].mean() for i in range(count)]
            assert (at.lesions.found, at.lesions.missed) == (
                sum(c >= 0.1 for c in covered),
                sum(c < 0.1 for c in covered),
            )
            assert at.hausdorff == hausdorff(detected, truth, (4, 4, 4))


@ALL
def test_the_auc_of_each_scan_and_of_all_voxels_is_scikit_learns(name, found, detectors, patients):
    """Also of probabilities, of ranks, and of intensities in the scanner's units."""
    pairs = brain_scores(detectors[name], patients)
    for (score, truth), case in zip(pairs, found.patients[name], strict=True):
        assert case.histogram.auc() == pytest.approx(roc_auc_score(truth, score), abs=5e-4)
    score, truth = map(np.concatenate, zip(*pairs, strict=True))
    figures = found.summary()["methods"][name]
    assert figures["auc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-4)
    assert figures["average_precision"] == pytest.approx(average_precision_score(truth, score), abs=2e-3)
    assert figures["auc"] != pytest.approx(0.5, abs=0.01)


@ALL
def test_thresholds_chosen_with_the_labels(name, found, detectors, patients):
    pairs = brain_scores(detectors[name], patients)
    score, truth = map(np.concatenate, zip(*pairs, strict=True))
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)  # of equal scores
    tp, fp = (np.cumsum(kind[order])[last] for kind in (truth, ~truth))
    figures = found.summary()["methods"][name]
    assert figures["best_dice"] == pytest.approx((2 * tp / (tp + fp + truth.sum())).max(), abs=2e-3)
    lowest = score[order][last][np.argmax(tp / truth.sum() - fp / (~truth).sum())]
    dices = [dice_of(score >= lowest, truth) for score, truth in pairs]
    assert figures["dice_at_youden"]["mean"] == pytest.approx(np.mean(dices), abs=5e-3)


def test_a_score_survives_json(found):
    for case in (found.patients["bright"][0], found.patients["unet"][1], found.healthy["bright"][0]):
        text = json.dumps(case.to_dict(), allow_nan=False)
        again = CaseScore.from_dict(json.loads(text))
        assert same(again, case)
        assert again.at_limit == case.at_limit
        assert np.array_equal(again.histogram.lesion, case.histogram.lesion)
        assert np.array_equal(again.histogram.healthy, case.histogram.healthy)
        assert again.histogram.edges.tolist() == case.histogram.edges.tolist()


def test_lesion_outside_the_brain_does_not_count_and_is_said(tmp_path):
    truth = lesion(0)
    half = HEAD.copy()
    half[:11] = False
    loaded = Loaded(scan(0), AFFINE, half, truth)
    with pytest.warns(UserWarning, match=r"sub-1: \d\d % of its lesion mask lies outside the brain"):
        case = score_case(IntensityThreshold(METADATA), "sub-1", loaded, LIMITS)
    assert case.lesion_ml == pytest.approx((truth & half).sum() * 0.064)
    assert case.histogram.lesion.sum() == (truth & half).sum()


def test_infinite_scores_have_their_place_and_nan_names_the_scan(patients):
    class Broken(IntensityThreshold):
        value = np.inf

        def score_scans(self, scans, **options):
            (score,) = super().score_scans(scans, **options)
            score.values[10, 8, 4:7] = [self.value, -self.value, self.value]
            return [score]

    detector = Broken(METADATA)
    counts = evaluate({"a": detector}, patients[:1]).patients["a"][0].histogram
    total = counts.lesion + counts.healthy
    assert (total[0], total[-1]) == (1, 2)
    detector.value = np.nan
    with pytest.raises(ValueError, match="sub-p0: score: got 3 NaN"):
        evaluate({"a": detector}, patients)
