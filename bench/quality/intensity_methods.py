"""Intensity standardisations that `bench/quality/intensity_standardization.py` compares.

Each takes reference people and returns a function that makes a map of one person's scan. A person has `values`, `brain`
and `regions` on the template's grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesioncore.preprocess.intensity import PERCENTILES, IntensityMap, IntensityScale
from lesioncore.preprocess.tissue_regions import TISSUES
from lesioncore.preprocess.tissue_scale import TissueScale

Values = NDArray[np.float64]
Match = Callable[[Any], IntensityMap]
Landmarks = Callable[[Values, NDArray[np.int16]], Values]  # of a brain's values and regions


def nyul(people: list[Any], percentiles: tuple[float, ...] = PERCENTILES) -> Match:
    """Percentiles of the brain, piecewise linear, with the first person as the reference."""
    scale = IntensityScale.fit(people[0].values[people[0].brain], percentiles=percentiles)
    return lambda person: scale.match(person.values[person.brain])


def standardised(people: list[Any], landmarks: Landmarks) -> Values:
    """Mean of the people's landmarks, each person's brain being z-scored."""
    return np.mean([_z(landmarks(*_brain(person)), person) for person in people], axis=0)


def line(people: list[Any], landmarks: Landmarks) -> Match:
    """The line that fits the landmarks best."""
    target = standardised(people, landmarks)

    def match(person: Any) -> IntensityMap:
        found = landmarks(*_brain(person))
        return straight(*np.polyfit(found, target, 1), found)

    return match


def bent(people: list[Any], landmarks: Landmarks) -> Match:
    """Through the landmarks, beyond them with the slope of the line; the line where their order is another one."""
    target = standardised(people, landmarks)

    def match(person: Any) -> IntensityMap:
        found = landmarks(*_brain(person))
        slope, offset = np.polyfit(found, target, 1)
        order = np.argsort(target)
        knots, images = found[order], target[order]
        if np.any(np.diff(knots) <= 0):
            return straight(slope, offset, found)
        span = np.ptp(knots)
        knots = np.array([knots[0] - span, *knots, knots[-1] + span])
        images = np.array([images[0] - slope * span, *images, images[-1] + slope * span])
        return IntensityMap(tuple(knots.tolist()), tuple(images.tolist()))

    return match


def straight(slope: float, offset: float, around: Values) -> IntensityMap:
    slope = max(slope, 1e-6)  # a scan whose landmarks fell
    ends = np.array([around.min(), around.max()])
    return IntensityMap(tuple(ends.tolist()), tuple((slope * ends + offset).tolist()))


def second_pass(people: list[Any]) -> Match:
    """Percentiles as in `nyul`, again without places that differ from the people's mean: what would be detected."""
    first = nyul(people)
    maps = np.stack([np.where(person.brain, first(person)(person.values), np.nan) for person in people])
    common = np.isfinite(maps).mean(axis=0) > 0.7
    mean = np.nanmean(np.where(common, maps, 0.0), axis=0)

    def match(person: Any) -> IntensityMap:
        seen = common & person.brain
        mapping = first(person)
        for _ in range(2):
            deviation = np.where(seen, mapping(person.values) - mean, 0.0)
            ill = ndimage.binary_dilation(np.abs(ndimage.gaussian_filter(deviation, 2)) > 0.9)
            knots = np.percentile(person.values[seen & ~ill], PERCENTILES)
            # The reference at the same places: the first person's percentiles there would be of one anatomy alone.
            images = np.percentile(maps[:, seen & ~ill][np.isfinite(maps[:, seen & ~ill])], PERCENTILES)
            rising = np.concatenate([[True], np.diff(knots) > 1e-3 * np.ptp(knots)])
            mapping = IntensityMap(tuple(knots[rising].tolist()), tuple(images[rising].tolist()))
        return mapping

    return match


def percentiles(values: Values, _regions: NDArray[np.int16]) -> Values:
    return np.percentile(values, PERCENTILES)


def medians(values: Values, regions: NDArray[np.int16]) -> Values:
    """Of registered fluid, grey and white matter."""
    return np.array([np.median(part) for part in _parts(values, regions)])


def modes(values: Values, regions: NDArray[np.int16]) -> Values:
    """Biweight location around the peak of each tissue's histogram."""
    return np.array([_mode(part) for part in _parts(values, regions)])


def mixture(values: Values, regions: NDArray[np.int16]) -> Values:
    """Means of a Gaussian mixture of the whole brain: three tissues with priors on their shares, and outliers.

    The registered modes say which tissue is which and where to start, no more.
    """
    low, high = np.percentile(values, [0.1, 99.9])
    counts, edges = np.histogram(values, 256, (low, high))
    centres, span = (edges[1:] + edges[:-1]) / 2, high - low
    means = modes(values, regions)
    prior = shares = np.array([0.15, 0.47, 0.38])
    deviations = np.full(3, 0.15 * np.ptp(means) + 1e-9)
    for _ in range(80):
        likelihood = shares * np.exp(-0.5 * np.square((centres[:, None] - means) / deviations)) / deviations
        likelihood *= 0.97 / np.sqrt(2 * np.pi)
        weight = likelihood / (likelihood.sum(axis=1, keepdims=True) + 0.03 / span) * counts[:, None]
        total = weight.sum(axis=0)
        shares = (total + counts.sum() * prior) / (total + counts.sum() * prior).sum()
        means = (weight * centres[:, None]).sum(axis=0) / total
        variances = (weight * np.square(centres[:, None] - means)).sum(axis=0) / total
        deviations = np.clip(np.sqrt(variances), 0.01 * span, 0.12 * span)
    return means


def tissue_scale(people: list[Any]) -> Match:
    scale = TissueScale.fit([_brain(person) for person in people])
    return lambda person: scale.match(*_brain(person))


METHODS: dict[str, Callable[[list[Any]], Match]] = {
    "Nyul, 11 percentiles": nyul,
    "line of 11 percentiles": lambda people: line(people, percentiles),
    "line of 2 percentiles": lambda people: nyul(people, (10.0, 90.0)),
    "Nyul, second pass": second_pass,
    "mixture of the brain, line": lambda people: line(people, mixture),
    "mixture of the brain, bent": lambda people: bent(people, mixture),
    "registered medians, line": lambda people: line(people, medians),
    "registered modes, line": lambda people: line(people, modes),
    "registered modes, bent": lambda people: bent(people, modes),
    "registered densities (TissueScale)": tissue_scale,
}


def _brain(person: Any) -> tuple[Values, NDArray[np.int16]]:
    return person.values[person.brain].astype(np.float64), person.regions[person.brain]


def _z(landmarks: Values, person: Any) -> Values:
    values, _ = _brain(person)
    return (landmarks - values.mean()) / values.std()


def _parts(values: Values, regions: NDArray[np.int16]) -> list[Values]:
    return [values[(regions > 0) & ((regions - 1) % len(TISSUES) == tissue)] for tissue in range(len(TISSUES))]


def _mode(values: Values) -> float:
    counts, edges = np.histogram(values, 128, np.percentile(values, [1, 99]))
    centre = float(edges[ndimage.gaussian_filter1d(counts.astype(float), 4).argmax()])
    spread = 1.4826 * float(np.median(np.abs(values - centre)))
    for _ in range(30):
        weight = np.square(np.clip(1 - np.square((values - centre) / (1.5 * spread + 1e-9)), 0, None))
        centre = float(weight @ values / weight.sum())
    return centre
