"""Scans unlike the healthy ones of a detector's calibration: which they are, in what, and where it is said."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.evaluations import KNOWN, Counting
from support.patients import HEAD, scan, write, write_healthy
from support.scans import AFFINE

from lesioncore.data.stack import SliceStack
from lesioncore.detectors import IntensityThreshold
from lesioncore.evaluation import CaseScore, Evaluation, evaluate
from lesioncore.evaluation.tables import markdown, subjects_csv
from lesioncore.subjects import FileSubject


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    folder = write_healthy(tmp_path_factory.mktemp("calibration"), range(20, 30))
    return IntensityThreshold(KNOWN, sign=1).thresholds(sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def other_contrast(tmp_path_factory) -> FileSubject:
    """A healthy scan whose intensities are bent far."""
    bent = np.exp(scan(0) / 80).astype(np.float32) * HEAD
    path = write(tmp_path_factory.mktemp("odd") / "sub-odd_T2w.nii", bent)
    return FileSubject("sub-odd", "sub-odd", "T2w", path)


@pytest.fixture(scope="module")
def found(calibration, other_contrast, patients, healthy) -> Evaluation:
    detectors = {"plain": IntensityThreshold(KNOWN, sign=1), "cal": Counting(KNOWN.with_calibration(calibration))}
    return evaluate(detectors, patients[2:], [*healthy, other_contrast])  # with small lesions


def test_a_scan_has_the_remarks_that_detecting_in_it_warns_of(found, calibration, other_contrast):
    detector = IntensityThreshold(KNOWN.with_calibration(calibration), sign=1)
    with pytest.warns(UserWarning, match="sub-odd_T2w.nii: ") as warned:
        detector.detect(other_contrast.scan)
    *usual, odd = [*found.patients["cal"], *found.healthy["cal"]]
    assert odd.remarks
    assert "; ".join(odd.remarks) in str(warned[0].message)
    assert not any(case.remarks for case in usual)
    assert not any(case.remarks for case in found.healthy["plain"])
    assert CaseScore.from_dict(json.loads(json.dumps(odd.to_dict()))).remarks == odd.remarks


def test_a_wrong_voxel_size_is_remarked(calibration):
    detector = IntensityThreshold(KNOWN.with_calibration(calibration), sign=1)
    larger = AFFINE @ np.diag([1.0, 1.0, 1.6, 1.0])
    with pytest.warns(UserWarning, match="its brain measures .* mm from bottom to top, but"):
        detector.detect(scan(3), affine=larger)


def test_stray_voxels_do_not_change_a_brains_extent():
    mask = torch.zeros(40, 1, 30, 50, dtype=torch.bool)
    mask[5:35, 0, 10:20, 4:46] = True
    stack = SliceStack(torch.zeros(mask.shape), mask.clone(), (2.0, 1.0, 3.0))
    assert stack.extent == (20.0, 42.0, 90.0)
    stack.mask[0, 0, 0, 0] = stack.mask[-1, 0, -1, -1] = True
    assert stack.extent == (20.0, 42.0, 90.0)
    assert SliceStack(stack.slices, mask, None).extent is None
    assert SliceStack(stack.slices, torch.zeros_like(mask), (2.0, 1.0, 3.0)).extent is None


def test_tables_name_the_scans(found):
    odd = found.healthy["cal"][-1]
    summary = found.summary()
    assert summary["methods"]["cal"]["unusual"] == [{"subject": "sub-odd", "remarks": list(odd.remarks)}]
    assert summary["methods"]["plain"]["unusual"] == []
    lines = [line for line in markdown(summary).splitlines() if line.startswith("- ")]
    assert lines == ["- cal: 1 (sub-odd)"]
    rows = list(csv.DictReader(io.StringIO(subjects_csv(found))))
    told = {(row["method"], row["subject"], row["remarks"]) for row in rows if row["remarks"]}
    assert told == {("cal", "sub-odd", "; ".join(odd.remarks))}


def test_of_many_scans_the_first_are_named(found):
    cases = [replace(found.healthy["cal"][-1], subject=f"sub-{i}") for i in range(13)]
    many = Evaluation({"cal": []}, {"cal": cases}, {"cal": {}})
    assert "- cal: 13 (sub-0, sub-1, " in markdown(many.summary())
    assert "sub-9 and 3 more)" in markdown(many.summary())
    usual = Evaluation({"cal": []}, {"cal": found.healthy["cal"][:1]}, {"cal": {}})
    assert "unlike" not in markdown(usual.summary())


def test_remarks_are_made_anew_for_another_calibration(calibration, other_contrast, tmp_path):
    """Also for one of the same thresholds, whose people differ more among each other."""
    people = calibration.healthy.subjects
    wide = tuple(replace(person, bend=float(i)) for i, person in enumerate(people))
    other = replace(calibration, healthy=replace(calibration.healthy, subjects=wide))
    remarks = []
    for used in (calibration, other, calibration):
        detector = Counting(KNOWN.with_calibration(used))
        case = evaluate({"a": detector}, [], [other_contrast], store=tmp_path).healthy["a"][0]
        remarks.append((bool(case.remarks), detector.calls))
    assert remarks == [(True, 1), (False, 1), (True, 0)]
