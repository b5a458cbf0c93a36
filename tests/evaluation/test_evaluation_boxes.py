"""Boxes in files, and detections compared with them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.patients import AFFINE, FLIPPED, voxels

from lesioncore.evaluation import evaluate
from lesioncore.evaluation.boxes import Box, boxes_for, read_boxes
from lesioncore.evaluation.tables import markdown

pytestmark = pytest.mark.usefixtures("few_draws")

HEADER = "participant_id,slice,x,y,z,width,height,depth,unit"


def write_boxes(path, *rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_boxes_are_read_from_each_kind_of_file(tmp_path):
    expected = {
        "p0": [Box(None, (5, 4, 3), (6, 5, 4))],
        "p1": [Box(3, (1, 2), (3, 4)), Box(5, (), ())],
        "p2": [Box(None, (-1.5, 0, 2), (8, 8, 8), "mm")],
    }
    rows = ["sub-p0,,5,4,3,6,5,4,", "p1,3,1,2,,3,4,,voxel", "p1,5,,,,,,,", "p2,,-1.5,0,2,8,8,8,mm"]
    assert read_boxes(write_boxes(tmp_path / "boxes.csv", *rows)) == expected
    lines = [HEADER, *rows]
    (tmp_path / "boxes.tsv").write_text("\n".join(lines).replace(",", "\t"))
    assert read_boxes(tmp_path / "boxes.tsv") == expected
    names = HEADER.split(",")
    objects = [{n: cell for n, cell in zip(names, row.split(","), strict=True) if cell} for row in rows]
    (tmp_path / "boxes.json").write_text(json.dumps(objects))
    assert read_boxes(tmp_path / "boxes.json") == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",,5,4,3,6,5,4,", "row 1: got no participant_id"),
        ("p0,,5,4,,6,5,,", "got x, y, width, height, expected all of x, y, z"),
        ("p0,2,5,4,,6,5,,mm", "unit: got 'mm'"),
        ("p0,,5,4,3,6,0,4,", "positive extents"),
        ("p0,,5,4,3,nan,1,4,", "finite numbers"),
        ("p0,x,5,4,,6,5,,", "row 1: invalid literal"),
    ],
)
def test_rows_that_cannot_be_understood(row, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_boxes(write_boxes(tmp_path / "boxes.csv", row))


def test_files_that_cannot_be_understood(tmp_path):
    with pytest.raises(ValueError, match=r"boxes\.txt, expected a file"):
        read_boxes(tmp_path / "boxes.txt")
    with pytest.raises(ValueError, match="got no row"):
        read_boxes(write_boxes(tmp_path / "boxes.csv"))
    with pytest.raises(ValueError, match="p0 has boxes of slices and of the whole scan"):
        read_boxes(write_boxes(tmp_path / "boxes.csv", "p0,,1,1,1,1,1,1,", "p0,3,1,1,,1,1,,"))
    (tmp_path / "boxes.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a list of objects"):
        read_boxes(tmp_path / "boxes.json")
    (tmp_path / "boxes.json").write_text("[")
    with pytest.raises(ValueError, match=r"boxes\.json: is no JSON"):
        read_boxes(tmp_path / "boxes.json")


def test_millimetres_are_those_of_the_affine():
    """The box of the voxels 5 to 10, 4 to 8 and 3 to 6, whose outer edges lie half a voxel beyond their centres."""
    inside = np.array([[5.0, 4, 3], [11, 9, 7]])
    for affine in (AFFINE, FLIPPED):
        corners = (inside - 0.5) @ affine[:3, :3].T + affine[:3, 3]
        box = Box(None, tuple(corners.min(0)), tuple(np.ptp(corners, axis=0)), "mm")
        assert box.edges(affine) == pytest.approx(inside)


def box_around(truth):
    places = np.argwhere(truth)
    low, high = places.min(0), places.max(0) + 1
    return Box(None, tuple(low.tolist()), tuple((high - low).tolist()))


def test_boxes_are_found_beside_masks_and_in_their_place(detectors, patients, healthy, tmp_path):
    truths = [voxels(subject.lesion) != 0 for subject in patients]
    boxes = {subject.person.removeprefix("sub-"): [box_around(t)] for subject, t in zip(patients, truths, strict=True)}
    chosen = {"bright": detectors["bright"]}
    both = evaluate(chosen, patients, boxes=boxes, store=tmp_path)
    assert both.boxed["bright"] == both.patients["bright"]
    rows = both.summary()["methods"]["bright"]["boxes"]
    assert [(row["limit"], row["iou"]) for row in rows] == [(x, iou) for x in (0.01, 0.05, 0.1) for iou in (0.3, 0.5)]
    for row in rows:
        assert (row["boxes"], row["images"]) == (4, 4)
        totals = [case.at_limit[row["limit"]].boxes[row["iou"] == 0.5] for case in both.patients["bright"]]
        assert row["detections"] == sum(len(one.true) for one in totals)
        assert row["recall"] == sum(sum(one.true) for one in totals) / 4 == row["accuracy"]
    assert rows[-2]["recall"] > 0
    bare = [replace(subject, lesion=None) for subject in patients]
    instead = evaluate(chosen, bare, healthy, boxes=boxes, store=tmp_path)
    assert instead.patients["bright"] == []
    assert instead.summary()["methods"]["bright"]["boxes"] == rows
    alone = evaluate(chosen, bare, boxes=boxes)
    text = markdown(alone.summary())
    assert "Scans with boxes: 4." in text
    assert "| bright | 1 % | 0.3 |" in text
    json.dumps(alone.summary(), allow_nan=False)
    again = evaluate(chosen, bare, boxes=boxes, store=tmp_path)
    assert again.summary()["methods"]["bright"]["boxes"] == rows
    with pytest.raises(ValueError, match="sub-p1, sub-p2, sub-p3: no lesion mask"):
        evaluate(chosen, bare, boxes={"p0": boxes["p0"]})
    with pytest.raises(ValueError, match="boxes: got those of q, but none of a person in DATA"):
        evaluate(chosen, patients, boxes={"q": boxes["p0"]})
    twice = [patients[0], replace(patients[1], person="sub-p0")]
    with pytest.raises(ValueError, match="boxes: sub-p0 has 2 scans"):
        evaluate(chosen, twice, boxes=boxes)


def test_boxes_of_slices_judge_these_slices_alone(detectors, patients):
    truth = voxels(patients[0].lesion) != 0
    index = int(truth.sum((0, 1)).argmax())
    detector = detectors["bright"]
    detected = np.asarray(detector.mask(detector.detect(patients[0].scan), 0.1).dataobj)[:, :, index] != 0
    assert detected.any()
    places = np.argwhere(truth[:, :, index])
    low, size = places.min(0), np.ptp(places, axis=0) + 1
    drawn = [Box(index, tuple(low.tolist()), tuple(size.tolist())), Box(0, (), ())]
    found = evaluate({"m": detector}, patients[:1], boxes={"p0": drawn})
    (case,) = found.boxed["m"]
    counts = case.at_limit[0.1].boxes[0]
    assert (counts.boxes, counts.images) == (1, 1)
    assert 1 <= len(counts.true) <= detected.sum()
    with pytest.raises(ValueError, match="sub-p0: boxes: got slice 99, expected 0 to 10"):
        evaluate({"m": detector}, patients[:1], boxes={"p0": [Box(99, (), ())]})
    assert boxes_for(patients[1], {"p0": drawn}) == ()
