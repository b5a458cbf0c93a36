"""Intensities on the prior's scale, read off tissue whose place is known, whatever tumours or the mask's rim add."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from lesioncore.data.arrays import Array
from lesioncore.data.json_form import check_form
from lesioncore.preprocess.intensity import IntensityMap
from lesioncore.preprocess.region_histograms import TISSUE_WEIGHTS, Floats, RegionHistograms
from lesioncore.preprocess.tissue_regions import TISSUES

_STEP = 0.05  # z-scores between the densities' support points
_REACH = 6.0  # z-scores that the densities extend over, either way
_SMOOTHING = 0.1  # z-scores, of the densities
_ROUNDS = 5  # in which the reference people are brought to each other
# Outliers, which are no healthy tissue: their share of the voxels, and their density per z-score at any intensity.
_OUTLIERS, _OUTLIER_DENSITY = 0.3, 0.1
# A parcel whose mean log-likelihood falls below the floor is given up, however badly it fits: a tumour fills parcels.
_FLOOR, _SHARPNESS = math.log(0.12), 8.0
_GAINS, _OFFSETS = np.linspace(-1.1, 1.1, 23), np.linspace(-2.0, 2.0, 33)
# A bend of 0.3 z-scores costs this log-likelihood: scanners differ in the tissues' contrast, but mostly in gain.
_STIFFNESS = 0.01
_SLOPES = (0.4, 2.5)  # that a bend may have, relative to the line
_CLOSEST_TISSUES = 0.3  # z-scores; tissues that are nearer to each other do not tell how the map bends between them


class TissueScaleForm(TypedDict):
    """A scale in ``config.json``."""

    densities: list[list[float]]
    lowest: float
    step: float
    background: float


@dataclass(frozen=True)
class TissueScale:
    """Intensity distributions of healthy fluid, grey and white matter, to which every scan is brought.

    A scan that is registered to the template shows each tissue at places that are known (`tissue_regions`). Its map is
    the increasing line under which the histograms of these places are most likely to come from the healthy densities,
    then bent at the three tissues' modes as far as that explains the scan better. Every intensity may be an outlier,
    and a parcel (tissue in a box of 40 mm) that fits nowhere is given up as a whole, so that a tumour of a fifth of the
    brain hardly counts; the brain's rim belongs to no region, so that it does not matter how much fluid the mask holds.

    A z-score is what it is for `IntensityScale`: of the reference people's brains the mean is 0 and the standard
    deviation 1, on average.

    Attributes
    ----------
    densities : tuple of tuple of float
        Of fluid, grey and white matter: probability per z-score at evenly spaced z-scores.
    lowest : float
        The first of these z-scores.
    step : float
        Their distance.
    background : float
        The z-score that voxels outside the brain are given.
    """

    densities: tuple[tuple[float, ...], ...]
    lowest: float
    step: float
    background: float = -3.5

    def __post_init__(self) -> None:
        lengths = {len(density) for density in self.densities}
        if len(self.densities) != len(TISSUES) or len(lengths) != 1 or min(lengths) < 3:
            raise ValueError(
                f"densities: got lengths {[len(density) for density in self.densities]}, expected one density for each "
                f"of {', '.join(TISSUES)}, of the same three or more points"
            )
        table = self._table
        if not np.all(np.isfinite(table)) or np.any(table < 0) or np.any(table.sum(axis=1) <= 0):
            raise ValueError("densities: got negative, infinite or all-zero ones, expected probabilities per z-score")
        if not (math.isfinite(self.lowest) and math.isfinite(self.step) and self.step > 0):
            raise ValueError(
                f"step: got {self.step} from {self.lowest}, expected a positive step from a finite z-score"
            )
        if not math.isfinite(self.background):
            raise ValueError(f"background: got {self.background}, expected a finite z-score")

    @classmethod
    def fit(cls, people: Iterable[tuple[Array, Array]], *, background: float = -3.5) -> TissueScale:
        """Make the scale of healthy reference people.

        Parameters
        ----------
        people : iterable of (numpy.ndarray or torch.Tensor, numpy.ndarray or torch.Tensor)
            Of each person the brain's intensities, in scanner units of its own, and the region of each of its voxels,
            as `match` takes them. One person will do; ten show how anatomy varies.
        background : float
            The z-score for voxels outside the brain.

        Raises
        ------
        ValueError
            If there is nobody, or somebody whom `match` would refuse.
        """
        scans = [RegionHistograms.of(values, regions) for values, regions in people]
        if not scans:
            raise ValueError("people: got none, expected at least one healthy person's intensities and regions")
        scores = [(scan.centres - scan.mean) / scan.std for scan in scans]
        for _ in range(_ROUNDS):
            scale = cls._of_densities(scans, scores, background)
            scores = [scale._map(scan)(scan.centres).astype(np.float64) for scan in scans]
            moments = [scan.moments(score) for scan, score in zip(scans, scores, strict=True)]
            mean, std = np.mean(moments, axis=0)
            scores = [(score - mean) / std for score in scores]
        return cls._of_densities(scans, scores, background)

    def match(self, values: Array, regions: Array) -> IntensityMap:
        """Make the map that brings one scan's intensities to this scale.

        Parameters
        ----------
        values : numpy.ndarray or torch.Tensor
            The intensities of the scan's brain, any shape, at about the voxel size of the reference people's.
        regions : numpy.ndarray or torch.Tensor
            Integers of the same shape: what `tissue_regions` gives for each voxel's place in the template.

        Returns
        -------
        IntensityMap
            From the scan's intensities to z-scores, and back.

        Raises
        ------
        ValueError
            If the shapes differ, values are not finite or constant, or fewer than 1000 voxels lie in a region.
        """
        return self._map(RegionHistograms.of(values, regions))

    def likelihood(self, values: Array, regions: Array) -> float:
        """Mean log-likelihood (nats) of a scan's voxels in regions once the scan is mapped.

        Intensities are counted in standard deviations of the scan, so that scales of several contrasts compare: the
        scan is most likely of the contrast whose scale gives the largest value. No parcel is given up here: that the
        ventricles fit nowhere is what tells T2w from FLAIR.

        Parameters
        ----------
        values, regions : numpy.ndarray or torch.Tensor
            As `match` takes them.

        Raises
        ------
        ValueError
            As `match`.
        """
        scan = RegionHistograms.of(values, regions)
        return float(self._line_likelihood(scan, self._line(scan)[None], give_up=False)[0])

    def to_dict(self) -> dict[str, Any]:
        """Return the scale as JSON types: see `from_dict`."""
        return {
            "densities": [list(density) for density in self.densities],
            "lowest": self.lowest,
            "step": self.step,
            "background": self.background,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TissueScale:
        """Read what `to_dict` gives.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a value is not valid.
        """
        check_form(data, TissueScaleForm, "intensity")
        return cls(tuple(map(tuple, data["densities"])), data["lowest"], data["step"], data["background"])

    @classmethod
    def _of_densities(cls, scans: list[RegionHistograms], scores: list[Floats], background: float) -> TissueScale:
        """Pool the people's histograms, each person and each tissue alike, at the z-scores of their bins."""
        count = 1 + 2 * round(_REACH / _STEP)
        table = np.zeros((len(TISSUES), count))
        for scan, score in zip(scans, scores, strict=True):
            place = np.clip((score + _REACH) / _STEP, 0, count - 1.001)
            lower = place.astype(np.int64)
            for tissue, histogram in enumerate(scan.of_tissues()):
                for index, share in ((lower, 1 - place + lower), (lower + 1, place - lower)):
                    table[tissue] += np.bincount(index, histogram * share, count)
        offsets = np.arange(-4 * _SMOOTHING, 4.01 * _SMOOTHING, _STEP)
        kernel = np.exp(-0.5 * np.square(offsets / _SMOOTHING))
        table = np.stack([np.convolve(row, kernel, mode="same") for row in table])
        table /= np.maximum(table.sum(axis=1, keepdims=True) * _STEP, np.finfo(float).tiny)
        used = np.flatnonzero(table.max(axis=0) > 5e-5)  # what rounding leaves
        table = table[:, used[0] : used[-1] + 1].round(4)
        return cls(tuple(map(tuple, table.tolist())), float(used[0] * _STEP - _REACH), _STEP, background)

    @property
    def _table(self) -> Floats:
        return np.asarray(self.densities, dtype=np.float64)

    @property
    def _points(self) -> Floats:
        return np.asarray(self.lowest + self.step * np.arange(len(self.densities[0])), dtype=np.float64)

    @property
    def _modes(self) -> Floats:
        """Z-score where each tissue is densest, weighted by its share there: regions of fluid hold tissue as well."""
        table = self._table
        return self._points[(np.square(table) / np.maximum(table.sum(axis=0), 1e-9)).argmax(axis=1)]

    def _line(self, scan: RegionHistograms) -> Floats:
        """Logarithm of the gain and offset of the most likely line, as `_line_scores` takes them."""
        grid = np.stack(np.meshgrid(_GAINS, _OFFSETS, indexing="ij"), axis=-1).reshape(-1, 2)
        likelihoods = self._line_likelihood(scan, grid)
        steps = np.array([_GAINS[1] - _GAINS[0], _OFFSETS[1] - _OFFSETS[0]]) / 2
        ways = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)], dtype=np.float64)
        return _climb(lambda lines: self._line_likelihood(scan, lines), grid[likelihoods.argmax()], ways * steps)

    def _line_scores(self, scan: RegionHistograms, lines: Floats) -> tuple[Floats, Floats]:
        """Offsets `[K]` and gains `[K]` in z-scores: lines `[K, 2]` start from one that matches mean and deviation."""
        shares = (TISSUE_WEIGHTS / self._table.sum(axis=1)) @ self._table
        mean = shares @ self._points
        std = math.sqrt(shares @ np.square(self._points - mean))
        return mean + lines[:, 1], std * np.exp(lines[:, 0])

    def _line_likelihood(self, scan: RegionHistograms, lines: Floats, give_up: bool = True) -> Floats:
        offsets, gains = self._line_scores(scan, lines)
        return self._likelihood(scan, offsets[:, None] + gains[:, None] * scan.standard, gains[:, None], give_up)

    def _likelihood(self, scan: RegionHistograms, scores: Floats, slopes: Floats, give_up: bool = True) -> Floats:
        """Mean log-likelihood `[K]` of a scan whose bins have `scores [K, B]`, at `slopes` per standard deviation."""
        total = np.zeros(len(scores))
        for tissue, density in enumerate(self._table):
            healthy = np.interp(scores, self._points, density, left=0.0, right=0.0) * slopes
            voxel = np.log((1 - _OUTLIERS) * healthy + _OUTLIERS * _OUTLIER_DENSITY)
            parcels = scan.tissues == tissue
            parcel = voxel @ scan.histograms[parcels].T
            if give_up:
                parcel = _FLOOR + np.logaddexp(_SHARPNESS * (parcel - _FLOOR), 0.0) / _SHARPNESS
            total += parcel @ scan.weights[parcels]
        return total

    def _map(self, scan: RegionHistograms) -> IntensityMap:
        line = self._line(scan)
        (offset,), (gain,) = self._line_scores(scan, line[None])
        straight = offset + gain * scan.standard
        modes = np.sort(self._modes)
        knots = np.array([modes[0] - _REACH, *modes, modes[-1] + _REACH])
        intensities = scan.mean + scan.std * (knots - offset) / gain
        if np.diff(modes).min() < _CLOSEST_TISSUES:
            return IntensityMap(tuple(intensities[[0, -1]].tolist()), tuple(knots[[0, -1]].tolist()))
        segment = np.clip(np.searchsorted(knots, straight) - 1, 0, len(knots) - 2)

        def likelihood(shifts: Floats) -> Floats:
            images = _bend(modes, shifts)
            slopes = np.diff(images) / np.diff(knots)
            scores = images[:, segment] + slopes[:, segment] * (straight - knots[segment])
            part = (modes[1] - modes[0]) / (modes[2] - modes[0])
            bend = shifts[:, 1] - (1 - part) * shifts[:, 0] - part * shifts[:, 2]
            result = self._likelihood(scan, scores, gain * slopes[:, segment]) - _STIFFNESS * np.square(bend / 0.3)
            return np.where((slopes.min(axis=1) < _SLOPES[0]) | (slopes.max(axis=1) > _SLOPES[1]), -np.inf, result)

        ways = np.concatenate([np.eye(3), np.ones((1, 3))])
        shifts = _climb(likelihood, np.zeros(3), 0.16 * np.concatenate([ways, -ways]))
        return IntensityMap(tuple(intensities.tolist()), tuple(_bend(modes, shifts[None])[0].tolist()))


def _bend(modes: Floats, shifts: Floats) -> Floats:
    """Images `[K, 5]` of the knots when the modes move by `shifts [K, 3]`; outside goes on with the modes' slope."""
    moved = modes + shifts
    beyond = _REACH * (moved[:, 2:] - moved[:, :1]) / (modes[2] - modes[0])
    return np.concatenate([moved[:, :1] - beyond, moved, moved[:, 2:] + beyond], axis=1)


def _climb(function: Callable[[Floats], Floats], best: Floats, ways: Floats) -> Floats:
    """Walk uphill along the steepest of the `ways [W, N]`, in ever smaller steps down to a hundredth of them."""
    value, size = function(best[None])[0], 1.0
    while size > 0.01:
        there = best + size * ways
        values = function(there)
        if values.max() > value + 1e-9:
            best, value = there[values.argmax()], values.max()
        else:
            size /= 2
    return best
