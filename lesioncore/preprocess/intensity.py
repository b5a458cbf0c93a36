"""Intensities on the prior's scale: landmark standardisation to one reference subject, then its z-score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict, overload

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.data.arrays import Array, NumpyArray, to_numpy
from lesioncore.data.json_form import check_form

PERCENTILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
_FEWEST_VOXELS = 100
# Knots closer than this part of the landmarks' range are one knot. It bounds the slopes, and with them what the
# float32 rounding of a z-score becomes when it is mapped back: below 1e-4 of the range.
_CLOSEST_KNOTS = 1e-3


class IntensityScaleForm(TypedDict):
    """A scale in ``config.json``."""

    landmarks: list[float]
    mean: float
    std: float
    percentiles: list[float]
    background: float


@dataclass(frozen=True)
class IntensityScale:
    """The intensities of the prior's reference subject, to which every scan is brought.

    Standardisation after Nyul and Udupa (1999), as in Chen et al., MedIA 2020, section 3.1: a scan's percentiles are
    mapped to the reference's by a piecewise linear function, then `(I - mean) / std` with the reference's mean and
    standard deviation, the same for all scans.

    Attributes
    ----------
    landmarks : tuple of float
        The reference subject's brain intensities at `percentiles`.
    mean, std : float
        Mean and (population) standard deviation of its brain intensities.
    percentiles : tuple of float
        Strictly increasing, within 0 to 100.
    background : float
        The z-score that voxels outside the brain are given.
    """

    landmarks: tuple[float, ...]
    mean: float
    std: float
    percentiles: tuple[float, ...] = PERCENTILES
    background: float = -3.5

    def __post_init__(self) -> None:
        # JSON has lists where Python has tuples.
        object.__setattr__(self, "landmarks", tuple(self.landmarks))
        object.__setattr__(self, "percentiles", tuple(self.percentiles))
        percentiles, landmarks = np.asarray(self.percentiles), np.asarray(self.landmarks)
        if len(percentiles) < 2 or np.any(np.diff(percentiles) <= 0) or percentiles[0] < 0 or percentiles[-1] > 100:
            raise ValueError(f"percentiles: got {self.percentiles}, expected two or more increasing values in 0-100")
        if landmarks.shape != percentiles.shape:
            raise ValueError(f"landmarks: got {len(landmarks)}, expected one per percentile ({len(percentiles)})")
        if not np.all(np.isfinite(landmarks)) or np.any(np.diff(landmarks) < 0) or landmarks[0] == landmarks[-1]:
            raise ValueError(f"landmarks: got {self.landmarks}, expected finite, increasing intensities")
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(f"mean, std: got {self.mean}, {self.std}, expected a finite and a positive number")
        if not math.isfinite(self.background):
            raise ValueError(f"background: got {self.background}, expected a finite z-score")

    @classmethod
    def fit(
        cls, values: Array, *, percentiles: Iterable[float] = PERCENTILES, background: float = -3.5
    ) -> IntensityScale:
        """Make the scale of a reference subject.

        Parameters
        ----------
        values : numpy.ndarray or torch.Tensor
            The intensities of its brain, any shape, in scanner units.
        percentiles : iterable of float
            Where the landmarks lie.
        background : float
            The z-score for voxels outside the brain.

        Raises
        ------
        ValueError
            If there are fewer than 100 values, or they are constant or not finite.
        """
        sample = _brain_values(values)
        percentiles = tuple(float(percentile) for percentile in percentiles)
        landmarks = np.percentile(sample, percentiles)
        return cls(
            landmarks=tuple(landmarks.tolist()),
            mean=float(sample.mean()),
            std=float(sample.std()),
            percentiles=percentiles,
            background=background,
        )

    def match(self, values: Array) -> IntensityMap:
        """Make the map that brings one scan's intensities to this scale.

        Percentiles that share an intensity, as those of integer or clipped data do, are merged into one knot at the
        mean of their landmarks, so that the map always increases strictly.

        Parameters
        ----------
        values : numpy.ndarray or torch.Tensor
            The intensities of the scan's brain, any shape.

        Returns
        -------
        IntensityMap
            From the scan's intensities to z-scores, and back.

        Raises
        ------
        ValueError
            If there are fewer than 100 values, or they are constant or not finite.
        """
        sample = _brain_values(values)
        knots = np.percentile(sample, self.percentiles)
        targets = (np.asarray(self.landmarks) - self.mean) / self.std
        knots, targets = _merge_close(knots, targets)
        if len(knots) < 2:
            raise ValueError(
                f"values: got percentiles {self.percentiles[0]:g} to {self.percentiles[-1]:g} in one knot between "
                f"{sample.min():g} and {sample.max():g}, expected the brain of a scan with tissue contrast"
            )
        return IntensityMap(intensities=tuple(knots.tolist()), scores=tuple(targets.tolist()))

    def to_dict(self) -> dict[str, Any]:
        """Return the scale as JSON types: see `from_dict`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IntensityScale:
        """Read what `to_dict` gives.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a value is not valid.
        """
        check_form(data, IntensityScaleForm, "intensity")
        return cls(**data)


@dataclass(frozen=True)
class IntensityMap:
    """A strictly increasing piecewise linear map from one scan's intensities to z-scores, and its inverse.

    Beyond the first and last knot the end segments go on with their slopes, so that the brightest and darkest voxels,
    lesions among them, keep their order. Computed in float64, returned in float32.

    Attributes
    ----------
    intensities : tuple of float
        The knots in the scan's units, strictly increasing.
    scores : tuple of float
        The z-scores at the knots, strictly increasing.
    """

    intensities: tuple[float, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, knots in (("intensities", self.intensities), ("scores", self.scores)):
            if len(knots) < 2 or not np.all(np.isfinite(knots)) or np.any(np.diff(knots) <= 0):
                raise ValueError(f"{name}: got {knots}, expected two or more finite, strictly increasing knots")
        if len(self.intensities) != len(self.scores):
            raise ValueError(f"scores: got {len(self.scores)}, expected one per intensity ({len(self.intensities)})")

    @property
    def bend(self) -> float:
        """Root mean square distance (z-scores) of the knots from the straight line that fits them best.

        0 where a scan differs from the reference in gain and offset alone; large where it is another contrast, inverted
        or not in the scanner's linear units.
        """
        line = np.polynomial.Polynomial.fit(self.intensities, self.scores, 1)
        return float(np.sqrt(np.mean(np.square(line(np.asarray(self.intensities)) - self.scores))))

    @overload
    def __call__(self, intensities: torch.Tensor) -> torch.Tensor: ...
    @overload
    def __call__(self, intensities: NumpyArray) -> npt.NDArray[np.float32]: ...
    def __call__(self, intensities: Array) -> Array:
        """Map intensities to z-scores.

        Parameters
        ----------
        intensities : numpy.ndarray or torch.Tensor
            Any shape and real dtype, in the scan's units.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            float32, of the same kind, shape and device.
        """
        return _piecewise_linear(intensities, self.intensities, self.scores, "intensities")

    @overload
    def inverse(self, scores: torch.Tensor) -> torch.Tensor: ...
    @overload
    def inverse(self, scores: NumpyArray) -> npt.NDArray[np.float32]: ...
    def inverse(self, scores: Array) -> Array:
        """Map z-scores back to the scan's intensities.

        Parameters
        ----------
        scores : numpy.ndarray or torch.Tensor
            Any shape and real dtype.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            float32, of the same kind, shape and device.
        """
        return _piecewise_linear(scores, self.scores, self.intensities, "scores")


def _brain_values(values: Array) -> npt.NDArray[np.float64]:
    sample = to_numpy(values, "values").reshape(-1).astype(np.float64)
    if sample.size < _FEWEST_VOXELS:
        raise ValueError(f"values: got {sample.size} brain voxels, expected at least {_FEWEST_VOXELS}; check the mask")
    bad = sample.size - int(np.count_nonzero(np.isfinite(sample)))
    if bad:
        raise ValueError(f"values: got {bad} NaN or infinite of {sample.size}, expected none; clean the scan first")
    if sample.min() == sample.max():
        raise ValueError(
            f"values: got the constant {sample[0]:g} in the brain, expected a scan with tissue contrast; check that the"
            " mask is this scan's, and the scan no mask"
        )
    return sample


def _merge_close(knots: NumpyArray, targets: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Merge neighbouring knots that are too close on either axis into their mean, until none are."""
    closest = [_CLOSEST_KNOTS * (axis[-1] - axis[0]) for axis in (knots, targets)]
    groups = [([x], [y]) for x, y in zip(knots, targets, strict=True)]
    merged = [groups[0]]
    for group in groups[1:]:
        while merged and any(
            np.mean(later) - np.mean(earlier) <= gap
            for later, earlier, gap in zip(group, merged[-1], closest, strict=True)
        ):
            earlier = merged.pop()
            group = (earlier[0] + group[0], earlier[1] + group[1])
        merged.append(group)
    return np.array([np.mean(x) for x, _ in merged]), np.array([np.mean(y) for _, y in merged])


def _piecewise_linear(values: Array, source: tuple[float, ...], target: tuple[float, ...], name: str) -> Array:
    if isinstance(values, torch.Tensor):
        if values.is_complex():
            raise TypeError(f"{name}: got dtype {values.dtype}, expected real numbers")
        x = values.to(torch.float64)
    else:
        x = torch.from_numpy(np.array(to_numpy(values, name), dtype=np.float64, order="C"))
    options: dict[str, Any] = {"dtype": torch.float64, "device": x.device}
    knots, images = torch.tensor(source, **options), torch.tensor(target, **options)
    slopes = images.diff() / knots.diff()
    segment = torch.bucketize(x, knots[1:-1])
    result = torch.addcmul(images[:-1][segment], x - knots[:-1][segment], slopes[segment]).to(torch.float32)
    return result if isinstance(values, torch.Tensor) else result.numpy()
