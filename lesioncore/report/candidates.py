"""Lesion candidates: the connected components of what was detected, in the order in which to look at them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lesioncore.calibration.record import Calibration
from lesioncore.metrics.lesions import number_components
from lesioncore.report.regions import Side, locate

Millimetres = tuple[float, float, float]


@dataclass(frozen=True)
class Candidate:
    """A connected component (26 neighbours) of what was detected.

    Attributes
    ----------
    number : int
        Its place in the list from 1 on, and its value in the labels.
    volume_ml : float
        Volume, ml.
    peak : float
        Highest score.
    mean_score : float
        Mean score of its voxels.
    centre_mm : tuple of float
        The voxel of the component that is nearest to its centre of mass, in the scan's world (mm), so that it lies
        within a bent component, too.
    peak_mm : tuple of float
        The voxel with the highest score, in the scan's world (mm).
    template_mm : tuple of float or None
        `centre_mm` in the template's space (MNI mm); None where the scan is not registered.
    region : str or None
        Region with its side that most voxels are in, such as "left frontal lobe, white matter"; None where the scan is
        not registered, or beyond the atlas.
    region_share : float or None
        Share of the voxels that are in `region`, 0 to 1.
    side : {"left", "right", "both"} or None
        Side of nine tenths of the voxels; None where the scan is not registered.
    healthy_share : float or None
        Share of the calibration's healthy voxels that score at least as high as `peak`, to the width of a bin of its
        histogram; None without a calibration.
    """

    number: int
    volume_ml: float
    peak: float
    mean_score: float
    centre_mm: Millimetres
    peak_mm: Millimetres
    template_mm: Millimetres | None = None
    region: str | None = None
    region_share: float | None = None
    side: Side | None = None
    healthy_share: float | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """What was detected in a scan, component by component.

    Attributes
    ----------
    listed : tuple of Candidate
        Those to look at, by falling product of volume and mean score.
    labels : ndarray
        ``[X, Y, Z]`` int32 on the input's grid: a candidate's number, 0 elsewhere.
    smaller : int
        Number of components below the smallest volume, which are not listed.
    smaller_ml : float
        Their volume together, ml.
    """

    listed: tuple[Candidate, ...]
    labels: npt.NDArray[np.int32]
    smaller: int
    smaller_ml: float


def find_candidates(
    score: npt.NDArray[np.floating],
    mask: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.floating],
    *,
    to_template: npt.NDArray[np.floating] | None = None,
    calibration: Calibration | None = None,
    min_volume_ml: float = 0.1,
) -> Candidates:
    """List the lesion candidates of a score map.

    They are sorted by volume times mean score, the sum of the score over the component: large ones that are a little
    unusual and small ones that are very unusual come before small ones that are a little unusual.

    Parameters
    ----------
    score : ndarray
        ``[X, Y, Z]``, higher is more lesion-like, on the input's grid and in its storage order.
    mask : ndarray
        Same shape, bool: what was detected at a limit.
    affine : ndarray
        ``[4, 4]``, voxel indices to the scan's world (mm).
    to_template : ndarray, optional
        ``[4, 4]``, the scan's world to the template's (mm), as
        :attr:`lesioncore.preprocess.pipeline.PreprocessedScan.to_template`; without it no candidate has a region.
    calibration : Calibration, optional
        Of the score's own settings; says how rare a peak is in healthy people.
    min_volume_ml : float
        Components smaller than this are counted and not listed.

    Raises
    ------
    ValueError
        If shapes differ, a matrix is no invertible affine map, the score is not finite where something was detected, or
        the smallest volume is negative or not finite.
    ImportError
        If scipy is missing.
    """
    _check(score, mask, affine, to_template, min_volume_ml)
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
    numbers = number_components(mask, 1, connectivity=3)
    places = np.argwhere(mask)
    own, scores = numbers[mask], score[mask].astype(np.float64)
    voxels = np.bincount(own, minlength=1)[1:]
    # Rounded, since a header's voxel size is not exact.
    large = np.flatnonzero(voxels >= math.ceil(round(min_volume_ml / voxel_ml, 6)))
    order = large[np.argsort(-np.bincount(own, scores, minlength=1)[1:][large], kind="stable")]
    bodies = np.split(np.argsort(own, kind="stable"), np.cumsum(voxels)[:-1])
    renumbered = np.zeros(len(voxels) + 1, np.int32)
    renumbered[order + 1] = np.arange(1, len(order) + 1)
    small = int(voxels.sum() - voxels[large].sum())
    return Candidates(
        listed=tuple(
            _candidate(number, places[bodies[k]], scores[bodies[k]], affine, voxel_ml, to_template, calibration)
            for number, k in enumerate(order, 1)
        ),
        labels=renumbered[numbers],
        smaller=len(voxels) - len(large),
        smaller_ml=small * voxel_ml,
    )


def _candidate(
    number: int,
    places: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64],
    affine: npt.NDArray[np.floating],
    voxel_ml: float,
    to_template: npt.NDArray[np.floating] | None,
    calibration: Calibration | None,
) -> Candidate:
    """One component, from its voxels' indices ``[N, 3]`` and scores ``[N]``."""
    world = _mapped(affine, places)
    centre = world[np.argmin(((world - world.mean(axis=0)) ** 2).sum(axis=1))]
    peak = float(scores.max())
    template_mm = location = None
    if to_template is not None:
        location = locate(_mapped(to_template, world))
        template_mm = _triple(_mapped(to_template, centre))
    return Candidate(
        number=number,
        volume_ml=len(places) * voxel_ml,
        peak=peak,
        mean_score=float(scores.mean()),
        centre_mm=_triple(centre),
        peak_mm=_triple(world[np.argmax(scores)]),
        template_mm=template_mm,
        region=None if location is None else location.region,
        region_share=None if location is None or location.region is None else location.share,
        side=None if location is None else location.side,
        healthy_share=None if calibration is None else 1.0 - float(calibration.rank(np.array([peak]))[0]),
    )


def _check(
    score: npt.NDArray[np.floating],
    mask: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.floating],
    to_template: npt.NDArray[np.floating] | None,
    min_volume_ml: float,
) -> None:
    if score.ndim != 3 or score.shape != mask.shape:
        raise ValueError(
            f"score, mask: got shapes {score.shape} and {mask.shape}, expected one [X, Y, Z]; give both on the scan's"
            " own grid"
        )
    if mask.dtype != np.bool_:
        raise ValueError(f"mask: got {mask.dtype}, expected bool; threshold the score first")
    for name, matrix in (("affine", affine), ("to_template", to_template)):
        if matrix is None:
            continue
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0:
            raise ValueError(
                f"{name}: got {matrix.tolist()}, expected an invertible 4 x 4 matrix; take the image's own, or that of"
                " its registration"
            )
    if not 0 <= min_volume_ml < math.inf:
        raise ValueError(f"min_volume_ml: got {min_volume_ml}, expected a finite number >= 0; give millilitres")
    if not np.isfinite(score[mask]).all():
        raise ValueError(
            "score: got numbers that are not finite, expected finite ones where something was detected; check the scan"
        )


def _mapped(matrix: npt.NDArray[np.floating], points: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Places ``[..., 3]`` through a ``[4, 4]`` affine map."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3], dtype=np.float64)


def _triple(point: npt.NDArray[np.float64]) -> Millimetres:
    return float(point[0]), float(point[1]), float(point[2])
