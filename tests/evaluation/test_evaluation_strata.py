"""Figures by groups of people, excluded voxels, and silent scans, on the scans that the tests of evaluations share."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.evaluations import bootstrap_interval, bootstrap_mean, same
from support.patients import HEAD, lesion, scan, voxels, write

from lesioncore.detectors import MAPDetector
from lesioncore.evaluation import CaseScore, Evaluation, evaluate
from lesioncore.evaluation.curves import Curves
from lesioncore.evaluation.strata import By, check_columns, facts_of, parse_by, stratify
from lesioncore.evaluation.tables import markdown, subjects_csv
from lesioncore.metrics import lesion_contrast
from lesioncore.subjects import FileSubject, find_subjects

pytestmark = pytest.mark.usefixtures("few_strata_draws")

TABLE = "participant_id\tage\tsex\nsub-p0\t30\tF\nsub-p1\t45\tM\nsub-p2\tn/a\tF\n"


@pytest.fixture(scope="module")
def few_strata_draws(few_draws):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lesioncore.evaluation.strata.bootstrap_interval", bootstrap_interval)
        patch.setattr("lesioncore.evaluation.strata.bootstrap_mean", bootstrap_mean)
        yield


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["age,sex"], [By("age"), By("sex")]),
        (["age:40,60,sex", "site"], [By("age", (40, 60)), By("sex"), By("site")]),
        (["lesion_size:1"], [By("lesion_size", (1,))]),
        ([], []),
    ],
)
def test_columns_and_their_edges_are_read(texts, expected):
    assert parse_by(texts) == expected


@pytest.mark.parametrize("text", ["age,age", "age:", "age:x", "", "age:60,40", "age:40,40", ","])
def test_columns_that_cannot_be_understood(text):
    with pytest.raises(ValueError, match="by: got"):
        parse_by([text])


def of_people(found, facts, by, healthy_facts=({}, {}, {})):
    return stratify(found.patients, found.healthy, (facts, healthy_facts), by)


def test_a_stratum_has_the_figures_of_its_people(found):
    facts = [{"site": "A"}, {"site": "B"}, {"site": "A"}, {"site": None}]
    rows = of_people(found, facts, [By("site")], [{"site": "B"}] * 3)
    assert [(row["stratum"], row["people"], row["healthy_people"]) for row in rows] == [
        *[("A", 2, 0), ("B", 1, 3), ("unknown", 1, 0)]
    ]
    cases = [found.patients["bright"][i] for i in (0, 2)]
    figures = rows[0]["methods"]["bright"]
    histograms = [case.histogram for case in cases]
    assert figures["auc"] == (histograms[0] + histograms[1]).auc()
    assert figures["auc_interval"] == list(bootstrap_interval(histograms))
    for at in figures["at_limit"]:
        for key in ("dice", "fpr"):
            values = [getattr(case.at_limit[at["limit"]].confusion, key) for case in cases]
            assert at[key] == {"mean": pytest.approx(np.mean(values)), "sd": pytest.approx(np.std(values))}
            assert at[f"{key}_interval"] == list(bootstrap_mean(values))
        assert at["healthy_fpr"] is at["healthy_fpr_interval"] is None
    rates = [case.at_limit[0.05].confusion.fpr for case in found.healthy["bright"]]
    of_b = rows[1]["methods"]["bright"]
    assert of_b["auc_interval"] is None  # a single person
    assert of_b["at_limit"][1]["healthy_fpr"]["mean"] == pytest.approx(np.mean(rates))
    assert of_b["at_limit"][1]["healthy_fpr_interval"] == list(bootstrap_mean(rates))
    assert rows[0]["methods"]["unet"]["at_limit"] == []  # has no thresholds


def test_bands(found):
    ages = [{"age": age} for age in ("30", "40", None, "75.5")]
    healthy = [{"age": "60"}, {"age": "20"}, {"age": "39.9"}]
    rows = of_people(found, ages, [By("age", (40, 60))], healthy)
    assert [(row["stratum"], row["people"], row["healthy_people"]) for row in rows] == [
        *[("below 40", 1, 2), ("40 to 60", 1, 0), ("60 and more", 1, 1), ("unknown", 1, 0)]
    ]
    quartiles = of_people(found, ages, [By("age")], healthy)
    assert [row["stratum"] for row in quartiles] == [
        *["below 32.5", "32.5 to 40", "40 to 55", "55 and more", "unknown"]
    ]
    assert [row["people"] + row["healthy_people"] for row in quartiles] == [2, 1, 1, 2, 1]
    codes = of_people(found, [{"sex": code} for code in "1221"], [By("sex")], [{"sex": "1"}] * 3)
    assert [(row["stratum"], row["people"]) for row in codes] == [("1", 2), ("2", 2)]


def test_size_and_contrast_divide_patients_alone(found, patients):
    size, contrast = (of_people(found, [{}] * 4, [By(name)]) for name in ("lesion_size", "lesion_contrast"))
    cases = found.patients["bright"]
    assert sum(row["people"] for row in size) == sum(row["people"] for row in contrast) == 4
    assert sum(row["healthy_people"] for row in size) == 0
    cut = of_people(found, [{}] * 4, [By("lesion_size", (6.0,))])
    assert [row["people"] for row in cut] == [sum(case.lesion_ml < 6 for case in cases), 1]
    for subject, case in zip(patients, cases, strict=True):
        image, truth = voxels(subject.scan), voxels(subject.lesion) != 0
        assert case.contrast == pytest.approx(lesion_contrast(image, truth, image != 0, (4, 4, 4)), rel=1e-5)
        assert case.contrast > 1
        assert same(CaseScore.from_dict(json.loads(json.dumps(case.to_dict()))), case)


def test_facts_come_from_the_data_sets_table(folder, patients, healthy, detectors, tmp_path):
    (folder / "patients" / "participants.tsv").write_text(TABLE)
    try:
        facts = facts_of(patients)
        assert facts == [
            *[{"age": "30", "sex": "F"}, {"age": "45", "sex": "M"}, {"age": None, "sex": "F"}],
            {"age": None, "sex": None},
        ]
        chosen = {"bright": detectors["bright"]}
        evaluation = evaluate(chosen, patients, healthy, by=parse_by(["sex", "age:40"]))
        text, rows = markdown(evaluation.summary()), evaluation.summary()["strata"]
        assert [(row["by"], row["stratum"], row["people"], row["healthy_people"]) for row in rows] == [
            *[("sex", "F", 2, 0), ("sex", "M", 1, 0), ("sex", "unknown", 1, 3)],
            *[("age", "below 40", 1, 0), ("age", "40 and more", 1, 0), ("age", "unknown", 2, 3)],
        ]
        assert "By groups of people" in text
        assert "| sex | patients | healthy | method |" in text
        assert "| unknown | 1 | 3 | bright |" in text
        json.dumps(evaluation.summary(), allow_nan=False)
        with pytest.raises(ValueError, match=r"by: got site, but no participants\.tsv.*age, sex, lesion_size"):
            evaluate(chosen, patients, by=[By("site")])
        with pytest.raises(ValueError, match="edges for sex, but it holds 'F'"):
            check_columns([By("sex", (1.0,))], facts)
    finally:
        (folder / "patients" / "participants.tsv").unlink()
    table = tmp_path / "participants.tsv"
    subject = FileSubject("a", "sub-a", "T2w", tmp_path / "sub-a_T2w.nii")
    assert facts_of([subject]) == [{}]
    table.write_text("participant_id\tage\na\t1\nsub-a\t2\n")
    with pytest.raises(ValueError, match="got a twice"):
        facts_of([subject])


def test_excluded_voxels_are_left_out_of_all_figures(detectors, tmp_path):
    """The mask covers half of the lesion and a detection beside it: as if the brain ended there."""
    truth, other = lesion(0), np.zeros_like(HEAD)
    other[:9] = True
    image = scan(50) + np.float32(150) * truth
    base = tmp_path / "sub-p0" / "anat" / "sub-p0_T2w.nii"
    masks = tmp_path / "derivatives" / "manual" / "sub-p0" / "anat"
    write(base, image)
    write(masks / "sub-p0_label-lesion_mask.nii", truth.astype(np.uint8))
    (plain,) = find_subjects([tmp_path])
    write(masks / "sub-p0_label-excluded_mask.nii", other.astype(np.uint8))
    (subject,) = find_subjects([tmp_path])
    assert (plain.excluded, subject.excluded) == (None, masks / "sub-p0_label-excluded_mask.nii")
    assert plain.key() != subject.key()
    detector = detectors["bright"]
    (whole,) = evaluate({"m": detector}, [plain]).patients["m"]
    (case,) = evaluate({"m": detector}, [subject]).patients["m"]
    inside = (image != 0) & ~other
    assert case.lesion_ml == pytest.approx((truth & inside).sum() * 0.064)
    assert case.brain_ml == whole.brain_ml
    assert case.histogram.lesion.sum() + case.histogram.healthy.sum() == inside.sum()
    detected = np.asarray(detector.mask(detector.detect(base), 0.05).dataobj) != 0
    confusion = case.at_limit[0.05].confusion
    assert confusion.tp == (detected & truth & inside).sum()
    assert confusion.fp == (detected & ~truth & inside).sum()
    assert confusion != whole.at_limit[0.05].confusion
    table = tmp_path / "scans.csv"
    table.write_text(f"image,excluded\n{base},\n")
    (named,) = find_subjects([table])
    assert (named.excluded, named.lesion) == (None, plain.lesion)


def test_curves_leave_excluded_voxels_out(detectors, patients, tmp_path):
    prior = detectors["restored"].prior
    config = detectors["restored"].config
    everything = write(tmp_path / "excluded.nii", np.ones(HEAD.shape, np.uint8))
    chosen = replace(patients[0], excluded=everything)
    assert not Curves(prior, [chosen], config=config)._patients[0].counted.any()
    assert isinstance(detectors["restored"], MAPDetector)


def test_precision_says_over_how_many_scans(found):
    for figures in found.summary()["methods"].values():
        for row in figures["at_limit"]:
            assert row["precision_scans"] + row["silent_scans"] == 4
    quiet = replace(
        found.patients["bright"][0],
        at_limit={
            limit: replace(at, confusion=type(at.confusion)(0, 0, 5, 100))
            for limit, at in found.patients["bright"][0].at_limit.items()
        },
    )
    cases = {"bright": [quiet, *found.patients["bright"][1:]]}
    summary = Evaluation(cases, {"bright": []}, {"bright": found.detectors["bright"]}).summary()
    row = summary["methods"]["bright"]["at_limit"][1]
    assert (row["precision_scans"], row["silent_scans"]) == (3, 1)
    precisions = [case.at_limit[0.05].confusion.precision for case in cases["bright"][1:]]
    assert row["precision"]["mean"] == pytest.approx(np.mean(precisions))
    text = markdown(summary)
    assert "| precision (scans) | silent scans |" in text
    assert f"{row['precision']['mean']:.3f} ± {row['precision']['sd']:.3f} (3) | 1 |" in text
    assert f"{row['lesion_precision']:.3f} ({row['detections']})" in text
    assert "contrast" in subjects_csv(found).splitlines()[0]
