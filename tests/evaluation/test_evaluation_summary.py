"""All scans: means, pools, intervals and differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.evaluations import (
    CALIBRATED,
    NAMES,
    bootstrap_interval,
    bootstrap_mean,
    without_lesion,
)

from lesioncore.evaluation import LIMITS, compare, evaluate, summarise, write_report
from lesioncore.evaluation.figures import roc_figure, size_figure
from lesioncore.evaluation.tables import markdown

pytestmark = pytest.mark.usefixtures("few_draws")


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


def test_scans_of_one_person_are_drawn_together(detectors, patients, healthy):
    people = ["x", "y", "x", "y"]
    scans = [replace(scan, person=person) for scan, person in zip(patients, people, strict=True)]
    both = evaluate({name: detectors[name] for name in NAMES[:2]}, scans, healthy)
    figures, (difference,) = both.summary()["methods"]["bright"], both.summary()["differences"]
    first, second = ([case.histogram for case in both.patients[name]] for name in NAMES[:2])
    dices, others = ([case.at_limit[0.05].confusion.dice for case in both.patients[name]] for name in NAMES[:2])
    assert figures["auc_interval"] == list(bootstrap_interval(first, people=people))
    assert figures["auc_interval"] != list(bootstrap_interval(first))
    assert figures["at_limit"][1]["dice_interval"] == list(bootstrap_mean(dices, people=people))
    assert difference["auc_interval"] == list(bootstrap_interval(first, versus=second, people=people))
    expected = bootstrap_mean(dices, versus=others, people=people)
    assert difference["at_limit"][1]["dice_interval"] == list(expected)
    assert "Scans with lesion masks: 4 of 2 people. Healthy scans: 3." in markdown(both.summary())
    alone = evaluate({"a": detectors["bright"]}, scans[::2]).summary()["methods"]["a"]
    assert alone["auc_interval"] is alone["at_limit"][0]["dice_interval"] is None


def test_methods_without_thresholds_have_no_limits(found):
    figures = found.summary()["methods"]["unet"]
    assert figures["at_limit"] == []
    assert figures["detector"]["thresholds"] == []
    assert figures["detector"]["calibration_subjects"] is None
    assert all(not case.at_limit for case in [*found.patients["unet"], *found.healthy["unet"]])


def test_one_patient_alone_has_figures_and_no_intervals(detectors, patients):
    found = evaluate({name: detectors[name] for name in NAMES[:2]}, patients[:1])
    figures = found.summary()["methods"]["bright"]
    assert figures["auc"] > 0.5
    assert figures["auc_interval"] is figures["at_limit"][0]["dice_interval"] is None
    (difference,) = found.summary()["differences"]
    assert difference["auc"] == pytest.approx(figures["auc"] - found.summary()["methods"]["restored"]["auc"])
    assert difference["auc_interval"] is None
    assert f"| bright | {figures['auc']:.3f} |" in markdown(found.summary())


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


def test_figures_of_no_patients_are_left_out(found):
    figures = summarise([], found.healthy["bright"])
    assert set(figures) == {"at_limit", "unusual", "seconds"}
    assert "dice" not in figures["at_limit"][0]
    assert "healthy_fpr" not in summarise(found.patients["bright"][:1], [])["at_limit"][0]
