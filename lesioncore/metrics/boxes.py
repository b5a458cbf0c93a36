"""Localisation by boxes: the boxes of detected components against those that an expert has drawn.

A box is ``[2, axes]``, its first and its last edge; a voxel with the index i spans i to i + 1. A detection is true if
its intersection over union (IoU) with a true box reaches a threshold. Detections choose in the order of their
confidence, each the true box that it overlaps most among those that none has chosen. This is COCO's rule; that of
PASCAL VOC (Everingham et al., IJCV 88:303, 2010) counts a detection as false whose best box is taken already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lesioncore.data.arrays import Array, to_numpy
from lesioncore.metrics.base import Bools, Floats, UndefinedMetricError, as_bool, require_scipy
from lesioncore.metrics.lesions import number_components


@dataclass(frozen=True)
class BoxCounts:
    """Detected boxes by confidence, and the number of true ones. The sum of two is that of both together.

    Attributes
    ----------
    confidence : tuple of float
        Of each detection.
    true : tuple of bool
        Whether the detection has found a box.
    boxes : int
        True boxes.
    images : int
        Images with a true box: scans or, for boxes of single slices, slices.
    images_found : int
        Those in which at least one box was found.
    """

    confidence: tuple[float, ...]
    true: tuple[bool, ...]
    boxes: int
    images: int
    images_found: int

    def __add__(self, other: BoxCounts) -> BoxCounts:
        return BoxCounts(
            self.confidence + other.confidence,
            self.true + other.true,
            self.boxes + other.boxes,
            self.images + other.images,
            self.images_found + other.images_found,
        )

    @property
    def recall(self) -> float:
        """Share of the true boxes that are found; an `UndefinedMetricError` without any."""
        if self.boxes == 0:
            raise UndefinedMetricError("the recall needs boxes, got none")
        return sum(self.true) / self.boxes

    @property
    def precision(self) -> float:
        """Share of the detections that have found a box; an `UndefinedMetricError` without detections."""
        if not self.true:
            raise UndefinedMetricError("the precision needs detections, got none")
        return sum(self.true) / len(self.true)

    @property
    def accuracy(self) -> float:
        """Share of the images with a box in which one is found; an `UndefinedMetricError` without such images."""
        if self.images == 0:
            raise UndefinedMetricError("the accuracy needs images with boxes, got none")
        return self.images_found / self.images

    @property
    def average_precision(self) -> float:
        """Area under precision against recall, over the detections in the order of their confidence.

        The precision at a recall is the largest at that recall or a higher one (VOC since 2010; COCO takes the same
        curve at 101 points). Detections of one confidence count together. 0 where nothing is detected; an
        `UndefinedMetricError` without true boxes.
        """
        if self.boxes == 0:
            raise UndefinedMetricError("the average precision needs boxes, got none")
        order = np.argsort(-np.array(self.confidence, float), kind="stable")
        confidence, hits = np.array(self.confidence, float)[order], np.array(self.true, bool)[order]
        last = np.append(confidence[1:] != confidence[:-1], True)[: len(hits)]  # of those with one confidence
        found = np.cumsum(hits)[last]
        precision = found / (np.flatnonzero(last) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(best * np.diff(found, prepend=0)) / self.boxes)


def component_boxes(region: Array, score: Array, *, connectivity: int | None = None) -> tuple[Floats, Floats]:
    """Find the boxes around a detection's connected components.

    Parameters
    ----------
    region, score : numpy.ndarray or torch.Tensor
        Detected voxels, bool or 0/1, and the score, of the same shape: a volume or a slice.
    connectivity : int, optional
        As for :func:`lesion_counts`; all neighbours when absent.

    Returns
    -------
    boxes : ndarray
        ``[components, 2, axes]``.
    peaks : ndarray
        ``[components]``: the largest score of each, which serves as its confidence.

    Raises
    ------
    ValueError
        If shapes or values are not those expected.
    ImportError
        If scipy is missing.
    """
    inside, scores = as_bool(region, "region"), to_numpy(score, "score")
    if inside.shape != scores.shape:
        raise ValueError(f"score: got shape {scores.shape}, expected that of region, {inside.shape}")
    ndimage = require_scipy("ndimage")
    numbers = number_components(inside, 1, inside.ndim if connectivity is None else connectivity)
    places = ndimage.find_objects(numbers)
    boxes = np.array([[[axis.start for axis in place], [axis.stop for axis in place]] for place in places], float)
    peaks = ndimage.maximum(scores, numbers, range(1, len(places) + 1)) if places else []
    return boxes.reshape(-1, 2, inside.ndim), np.array(peaks, float)


def box_iou(first: Floats, second: Floats) -> Floats:
    """Intersection over union of each box with each other one.

    Parameters
    ----------
    first, second : ndarray
        ``[n, 2, axes]`` and ``[m, 2, axes]``, each box with a positive extent along each axis.

    Returns
    -------
    ndarray
        ``[n, m]``, from 0 to 1.

    Raises
    ------
    ValueError
        If a box has no extent along an axis.
    """
    volumes = []
    for name, boxes in (("first", first), ("second", second)):
        extent = boxes[:, 1] - boxes[:, 0]
        if not (extent > 0).all():
            raise ValueError(f"{name}: got a box without extent, expected edges that ascend along each axis")
        volumes.append(extent.prod(1))
    low = np.maximum(first[:, None, 0], second[None, :, 0])
    high = np.minimum(first[:, None, 1], second[None, :, 1])
    shared = (high - low).clip(0).prod(2)
    return shared / (volumes[0][:, None] + volumes[1][None, :] - shared)


def match_boxes(detected: Floats, confidence: Floats, boxes: Floats, iou: float) -> BoxCounts:
    """Compare the detections in one image with its true boxes.

    Parameters
    ----------
    detected, confidence : ndarray
        ``[n, 2, axes]`` and ``[n]``, as :func:`component_boxes` finds them.
    boxes : ndarray
        True boxes, ``[m, 2, axes]``.
    iou : float
        Threshold in (0, 1].

    Returns
    -------
    BoxCounts
        The module's docstring states the rule.

    Raises
    ------
    ValueError
        If the threshold is out of its range, a box has no extent, or a confidence is missing.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou: got {iou}, expected a share in (0, 1]")
    if len(confidence) != len(detected):
        raise ValueError(f"confidence: got {len(confidence)}, expected one for each of {len(detected)} boxes")
    overlap = box_iou(detected, boxes)
    free: Bools = np.ones(len(boxes), bool)
    true = np.zeros(len(detected), bool)
    for number in np.argsort(-confidence, kind="stable") if len(boxes) else []:
        candidates = np.where(free, overlap[number], -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= iou:
            free[best], true[number] = False, True
    found = int(len(boxes) > 0 and true.any())
    return BoxCounts(
        tuple(confidence.tolist()),
        tuple(true.tolist()),
        boxes=len(boxes),
        images=int(len(boxes) > 0),
        images_found=found,
    )
