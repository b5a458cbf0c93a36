"""Evaluations: every figure against its definition on the same files, scores kept on disk, and what goes wrong."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from models import tiny_vae
from patients import AFFINE, HEAD, lesion, scan, subjects_of, voxels, write, write_healthy, write_patients
from scans import FAST, METADATA
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

import lesioncore as lc
from lesioncore import metrics
from lesioncore.detectors import EqualizedThreshold, IntensityThreshold, MAPDetector, UNet, UNetConfig, UNetDetector
from lesioncore.evaluation import (
    LIMITS,
    CaseScore,
    Evaluation,
    compare,
    evaluate,
    score_case,
    summarise,
    thresholds_from,
    write_report,
)
from lesioncore.evaluation.curves import Curves, write_curves
from lesioncore.evaluation.examples import choose_examples, draw_examples
from lesioncore.evaluation.figures import roc_figure, size_figure
from lesioncore.evaluation.tables import markdown
from lesioncore.figure import restoration_figure
from lesioncore.metrics import fpr_threshold, hausdorff
from lesioncore.scan import prepare
from lesioncore.subjects import FileSubject, Loaded, Subject

KNOWN = replace(METADATA, fingerprint="0" * 64)


bootstrap_interval = partial(metrics.bootstrap_interval, n=20)
bootstrap_mean = partial(metrics.bootstrap_mean, n=20)


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lesioncore.evaluation.summary.bootstrap_interval", bootstrap_interval)
        patch.setattr("lesioncore.evaluation.summary.bootstrap_mean", bootstrap_mean)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scans")
    write_patients(root / "patients")
    write_healthy(root / "healthy", range(3))
    write_healthy(root / "calibration", range(10, 14))
    return root


@pytest.fixture(scope="module")
def patients(folder) -> list[FileSubject]:
    return subjects_of(folder / "patients")


@pytest.fixture(scope="module")
def healthy(folder) -> list[FileSubject]:
    return subjects_of(folder / "healthy")


@pytest.fixture(scope="module")
def detectors(folder) -> dict[str, lc.Detector]:
    """One signed and one absolute with thresholds, one of probabilities, one of ranks, one of raw intensities."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNetDetector(UNet(UNetConfig((24, 20), (4, 6), 3), METADATA))
    bright = IntensityThreshold(METADATA, sign=1)
    restored = MAPDetector(tiny_vae(metadata=METADATA), FAST)
    for detector in (bright, restored):
        found = thresholds_from(detector, subjects_of(folder / "calibration"))
        detector.metadata = detector.metadata.with_calibration(found)
    ranks, raw = EqualizedThreshold(METADATA, sign=1), IntensityThreshold(sign=1)
    return {"bright": bright, "restored": restored, "unet": unet, "ranks": ranks, "raw": raw}


@pytest.fixture(scope="module")
def found(detectors, patients, healthy) -> Evaluation:
    return evaluate(detectors, patients, healthy)


NAMES = ("bright", "restored", "unet", "ranks", "raw")
ALL = pytest.mark.parametrize("name", NAMES)
CALIBRATED = pytest.mark.parametrize("name", NAMES[:2])


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


# ---- one scan --------------------------------------------------------------------------------------------------------


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
            score[10, 8, 4:7] = [self.value, -self.value, self.value]
            return [score]

    detector = Broken(METADATA)
    counts = evaluate({"a": detector}, patients[:1]).patients["a"][0].histogram
    total = counts.lesion + counts.healthy
    assert (total[0], total[-1]) == (1, 2)
    detector.value = np.nan
    with pytest.raises(ValueError, match="sub-p0: score holds 3 NaN"):
        evaluate({"a": detector}, patients)


# ---- all scans -------------------------------------------------------------------------------------------------------


@CALIBRATED
def test_means_pools_and_intervals(name, found):
    cases, figures = found.patients[name], found.summary()["methods"][name]
    histograms = [case.histogram for case in cases]
    assert figures["auc_interval"] == list(bootstrap_interval(histograms))
    assert [row["limit"] for row in figures["at_limit"]] == list(LIMITS)
    for row in figures["at_limit"]:
        scores = [case.at_limit[row["limit"]] for case in cases]
        dices = [score.confusion.dice for score in scores]
        assert row["dice"] == {"mean": pytest.approx(np.mean(dices)), "sd": pytest.approx(np.std(dices))}
        assert row["dice_interval"] == list(bootstrap_mean(dices))
        lesions = [score.lesions for score in scores]
        assert sum(at.found + at.missed for at in lesions) == 5
        assert row["lesion_recall"] == sum(at.found for at in lesions) / 5
        true, false = (sum(getattr(at, f"{kind}_detections") for at in lesions) for kind in ("true", "false"))
        assert row["lesion_precision"] == true / (true + false)
        assert row["hausdorff_mm"] == np.median([score.hausdorff for score in scores])
        rates = np.array([case.at_limit[row["limit"]].confusion.fpr for case in found.healthy[name]])
        assert row["healthy_fpr"] == pytest.approx(rates.mean())  # all of one size
        assert row["healthy_fpr_largest"] == rates.max()
        assert row["healthy_above_limit"] == (rates > row["limit"]).mean()
    assert figures["seconds"] == np.median([case.seconds for case in [*cases, *found.healthy[name]]])


def test_differences_are_paired_and_antisymmetric(found):
    first, second = found.patients["bright"], found.patients["restored"]
    there, back = compare(first, second), compare(second, first)
    assert there["auc"] == -back["auc"]
    assert there["auc_interval"] == pytest.approx([-x for x in back["auc_interval"][::-1]])
    for ahead, behind in zip(there["at_limit"], back["at_limit"], strict=True):
        dices = [[case.at_limit[ahead["limit"]].confusion.dice for case in cases] for cases in (first, second)]
        assert ahead["dice"] == pytest.approx(np.mean(np.subtract(*dices)))
        assert ahead["dice"] == -behind["dice"]
        assert ahead["dice_interval"] == pytest.approx([-x for x in behind["dice_interval"][::-1]])
    alone = compare(first, first)
    assert (alone["auc"], alone["auc_interval"]) == (0, [0, 0])
    (to_restored, *others) = found.summary()["differences"]
    assert to_restored == {"method": "bright", "versus": "restored", **there}
    assert [(row["versus"], row["at_limit"]) for row in others] == [("unet", []), ("ranks", []), ("raw", [])]
    with pytest.raises(ValueError, match="second: expected the scans of first"):
        compare(first, second[::-1])


def test_methods_without_thresholds_have_no_limits(found):
    figures = found.summary()["methods"]["unet"]
    assert figures["at_limit"] == []
    assert figures["detector"]["thresholds"] == []
    assert figures["detector"]["calibration_subjects"] is None
    assert all(not case.at_limit for case in [*found.patients["unet"], *found.healthy["unet"]])


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


def test_one_patient_alone_has_figures_and_no_intervals(detectors, patients):
    found = evaluate({name: detectors[name] for name in NAMES[:2]}, patients[:1])
    figures = found.summary()["methods"]["bright"]
    assert figures["auc"] > 0.5
    assert figures["auc_interval"] is figures["at_limit"][0]["dice_interval"] is None
    (difference,) = found.summary()["differences"]
    assert difference["auc"] == pytest.approx(figures["auc"] - found.summary()["methods"]["restored"]["auc"])
    assert difference["auc_interval"] is None
    assert f"| bright | {figures['auc']:.3f} |" in markdown(found.summary())


def without_lesion(folder: Path) -> FileSubject:
    empty = write(folder / "empty.nii", np.zeros(HEAD.shape, np.uint8))
    return FileSubject("sub-e", "sub-e", "T2w", write(folder / "sub-e_T2w.nii", scan(99)), lesion=empty)


def test_no_scan_with_a_lesion(tmp_path, detectors):
    names = NAMES[:2]
    found = evaluate({name: detectors[name] for name in names}, [without_lesion(tmp_path)])
    figures = found.summary()["methods"]["bright"]
    assert (found.summary()["subjects"], found.summary()["without_lesion"]) == (1, 1)
    for key in ("auc", "average_precision", "best_dice", "dice_at_youden", "auc_interval"):
        assert figures[key] is None
    row = figures["at_limit"][1]
    assert (row["dice"]["mean"], row["sensitivity"], row["lesion_recall"], row["hausdorff_mm"]) == (0, None, None, None)
    assert found.summary()["differences"][0]["auc"] is None
    assert set(write_report(found, tmp_path / "out")) == {"metrics.json", "subjects.csv", "tables.md"}


def test_an_empty_lesion_mask_among_others(tmp_path, detectors, patients):
    both = evaluate({"a": detectors["bright"]}, [without_lesion(tmp_path), patients[0]])
    alone = evaluate({"a": detectors["bright"]}, patients[:1])
    figures = both.summary()["methods"]["a"]
    assert (both.summary()["subjects"], both.summary()["without_lesion"]) == (2, 1)
    assert figures["auc_interval"] is None  # a quarter of the draws has no lesion
    found, expected = figures["at_limit"][1], alone.summary()["methods"]["a"]["at_limit"][1]
    assert found["sensitivity"] == expected["sensitivity"]
    assert found["dice"]["mean"] == pytest.approx(expected["dice"]["mean"] / 2)
    assert found["hausdorff_scans"] == 1
    assert "Scans with lesion masks: 2 (1 without lesion in the brain)" in markdown(both.summary())
    (curve, _), points = roc_figure(both).axes[0].get_lines()[:2], size_figure("a", both.patients["a"], 0.05)
    assert curve.get_ydata()[-1] == 1
    assert points.axes[0].get_xscale() == "log"


def test_progress(patients, healthy):
    calls = []
    evaluate({"a": Counting()}, patients[:2], healthy[:1], progress=lambda *at: calls.append(at))
    thresholds_from(Counting(), healthy[:2], progress=lambda *at: calls.append(at))
    assert calls == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]


# ---- what goes wrong -------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"sub-x: .*brain"):
        evaluate({"a": IntensityThreshold(METADATA)}, [patients[0], broken])


# ---- scores kept on disk ---------------------------------------------------------------------------------------------


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


# ---- files -----------------------------------------------------------------------------------------------------------


def no_constants(text: str):
    raise AssertionError(f"{text} is no JSON")


@pytest.fixture(scope="module")
def report(found, tmp_path_factory) -> dict[str, Path]:
    return write_report(found, tmp_path_factory.mktemp("report") / "deep" / "er")


def test_metrics_are_valid_json(report, found):
    values = json.loads(report["metrics.json"].read_text(), parse_constant=no_constants)
    assert "not a medical device" in values.pop("note")
    assert values == json.loads(json.dumps(found.summary()))
    what = values["methods"]["restored"]["detector"]
    assert (what["model"], what["fingerprint"], what["tv_weight"], what["calibration_subjects"]) == (
        "tiny",
        None,
        1.0,
        4,
    )
    assert what["settings"]["solver"]["name"] == "prox"


def test_an_infinite_threshold_is_none_in_json(patients, healthy, tmp_path):
    class Huge(IntensityThreshold):
        def score_scans(self, scans, **options):
            return [2000.0 + score for score in super().score_scans(scans, **options)]

    detector = Huge(METADATA)
    detector.metadata = METADATA.with_calibration(thresholds_from(detector, healthy[:1]))
    assert detector.calibration.threshold(0.05) == math.inf
    found = evaluate({"a": detector}, patients[:1])
    path = write_report(found, tmp_path, figures=False)["metrics.json"]
    values = json.loads(path.read_text(), parse_constant=no_constants)
    assert [row["threshold"] for row in values["methods"]["a"]["detector"]["thresholds"]] == [None] * 3


def test_the_table_of_scans(report, found):
    with open(report["subjects.csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * (2 * 3 + 3)  # two methods have three limits
    for row in rows:
        cases = (found.healthy if row["healthy"] == "1" else found.patients)[row["method"]]
        (case,) = [case for case in cases if case.subject == row["subject"]]
        assert float(row["lesion_ml"]) == pytest.approx(case.lesion_ml, abs=1e-3)
        assert row["auc"] == ("" if row["healthy"] == "1" else f"{case.histogram.auc():.5f}")
        if row["limit"] == "":
            assert row["dice"] == row["lesions_found"] == row["hausdorff_mm"] == ""
            continue
        at = case.at_limit[float(row["limit"])]
        assert float(row["dice"]) == pytest.approx(at.confusion.dice, abs=1e-5)
        assert float(row["fpr"]) == pytest.approx(at.confusion.fpr, abs=1e-5)
        assert (row["sensitivity"] == "") == (row["healthy"] == "1")
        assert int(row["detections_false"]) == at.lesions.false_detections
        assert row["hausdorff_mm"] == ("" if at.hausdorff is None else f"{at.hausdorff:.2f}")


def tables_of(text: str) -> list[list[dict[str, str]]]:
    tables, lines = [], text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("| ---"):
            head, rows = lines[number - 1], []
            while (number := number + 1) < len(lines) and lines[number].startswith("|"):
                cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in (head, lines[number])]
                rows.append(dict(zip(*cells, strict=True)))
            tables.append(rows)
    return tables


def test_the_markdown_holds_the_same_figures(report, found):
    text = report["tables.md"].read_text()
    pooled, second, at_limits, differences, people = tables_of(text)
    methods = found.summary()["methods"]
    assert [row["method"] for row in pooled] == list(NAMES)
    for row, other in zip(pooled, second, strict=True):
        figures = methods[row["method"]]
        low, high = figures["auc_interval"]
        assert row["AUC (95 %)"] == f"{figures['auc']:.3f} ({low:.3f} to {high:.3f})"
        assert other["AUPRC (95 %)"].startswith(f"{figures['average_precision']:.3f} (")
        assert other["largest pooled Dice*"] == f"{figures['best_dice']:.3f}"
        dices = [f"{at['dice']['mean']:.3f} ± {at['dice']['sd']:.3f}" for at in figures["at_limit"]] or ["–"] * 3
        assert [row[f"Dice at {limit} %"] for limit in (1, 5, 10)] == dices
    assert [(row["method"], row["limit"]) for row in at_limits] == [
        (name, limit) for name in NAMES[:2] for limit in ("1 %", "5 %", "10 %")
    ]
    row = methods["bright"]["at_limit"][0]
    assert at_limits[0]["sensitivity"] == f"{row['sensitivity']['mean']:.3f} ± {row['sensitivity']['sd']:.3f}"
    assert at_limits[0]["lesion F1"] == f"{row['lesion_f1']:.3f}"
    assert at_limits[0]["HD95, mm (scans)"] == f"{row['hausdorff_mm']:.1f} (4)"
    assert people[0]["FPR of all voxels"] == f"{row['healthy_fpr']:.4f}"
    assert people[0]["scans above the limit"] == f"{100 * row['healthy_above_limit']:.3g} %"
    assert [row["methods"] for row in differences] == [f"bright minus {name}" for name in NAMES[1:]]
    assert differences[0]["AUC"].startswith(f"{found.summary()['differences'][0]['auc']:+.3f} (")
    assert differences[1]["Dice at 5 %"] == "–"
    assert "Healthy scans: 3" in text
    assert text.endswith("not a medical device.\n")


def test_tables_of_methods_with_other_limits_and_odd_names(detectors, patients, healthy):
    """The first has no thresholds; a name's bars stay in its cell."""
    found = evaluate({"a": detectors["raw"], "b|c": detectors["bright"]}, patients[:2], healthy[:1])
    text = markdown(found.summary())
    assert "| b\\|c | 5 % |" in text
    assert "| a minus b\\|c |" in text
    alone = evaluate({"a": detectors["raw"]}, [], healthy[:1])
    assert "No method has thresholds to try on healthy people." in markdown(alone.summary())
    third = evaluate({"b": detectors["bright"], "a": detectors["raw"], "c": detectors["bright"]}, patients[:2])
    differences = tables_of(markdown(third.summary()))[3]
    assert [row["Dice at 1 %"] for row in differences] == ["–", "+0.000 (+0.000 to +0.000)"]


def is_png(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_figures(report, found, tmp_path):
    pictures = {"roc.png", "size_fpr01.png", "size_fpr05.png", "size_fpr10.png"}
    assert {name for name, path in report.items() if is_png(path)} == pictures
    assert set(report["roc.png"].parent.iterdir()) == set(report.values())
    assert set(write_report(found, tmp_path, figures=False)) == {"metrics.json", "subjects.csv", "tables.md"}
    assert len(list(tmp_path.iterdir())) == 3
    dice, rate = size_figure("bright", found.patients["bright"], 0.05).axes
    (points,) = dice.get_lines()
    assert sorted(points.get_xdata()) == pytest.approx(sorted(lesion(i).sum() * 0.064 for i in range(4)))
    assert rate.get_ylim()[1] > 0.05  # the limit is seen where all rates lie below


def test_a_file_in_the_way_is_named(found, tmp_path):
    (tmp_path / "out").write_text("thesis")
    with pytest.raises(FileExistsError, match="out"):
        write_report(found, tmp_path / "out")


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
    assert detector.prior.metadata.calibration is None  # as it was
    with pytest.raises(ValueError, match="detector: got sign 1"):
        draw_examples(MAPDetector(tiny_vae(metadata=METADATA), FAST, sign=1), patients[:1], tmp_path)


@pytest.mark.parametrize("smoothing", [0.0, 5.0])
def test_curves(smoothing, detectors, patients, healthy):
    """The scans are thinner than the slab, so that a curve's AUC is that of the detector on the prior's slices."""
    prior, config = detectors["restored"].prior, replace(FAST, smoothing=smoothing, tv_dimensions=2)
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


def test_figures_of_no_patients_are_left_out(found):
    figures = summarise([], found.healthy["bright"])
    assert set(figures) == {"at_limit", "seconds"}
    assert "dice" not in figures["at_limit"][0]
    assert "healthy_fpr" not in summarise(found.patients["bright"][:1], [])["at_limit"][0]
