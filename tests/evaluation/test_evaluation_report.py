"""Files of an evaluation: JSON, tables and figures."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from support.evaluations import (
    NAMES,
    is_png,
)
from support.patients import lesion
from support.scans import METADATA

from lesioncore.detectors import IntensityThreshold
from lesioncore.evaluation import evaluate, thresholds_from, write_report
from lesioncore.evaluation.figures import roc_figure, size_figure
from lesioncore.evaluation.tables import markdown

pytestmark = pytest.mark.usefixtures("few_draws")


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
            return [replace(s, values=2000.0 + s.values) for s in super().score_scans(scans, **options)]

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
    whose = [f"{name}: {methods[name]['detector']['calibration_subjects']}" for name in NAMES[:2]]
    assert f"At the thresholds from healthy people ({', '.join(whose)});" in text
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
    legend = [text.get_text() for text in roc_figure(found).axes[0].get_legend().get_texts()]
    assert [text.split(" (")[0] for text in legend[:5]] == list(NAMES)
    assert legend[5:] == ["threshold at 1 %", "threshold at 5 %", "threshold at 10 %"]


def test_a_file_in_the_way_is_named(found, tmp_path):
    (tmp_path / "out").write_text("thesis")
    with pytest.raises(FileExistsError, match="out"):
        write_report(found, tmp_path / "out")
