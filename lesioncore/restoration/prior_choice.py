"""The choice of the embedded prior by a scan's contrast, where none is named."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lesioncore.data.names import contrast_of, several
from lesioncore.models import Prior, load_prior
from lesioncore.preprocess.tissue_scale import TissueScale
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.scan import Scan
from lesioncore.restoration.volumes import Volume
from lesioncore.torch_modes import own_modes

PRIORS = {"T1w": "real-t1", "T2w": "real-t2", "FLAIR": "real-flair"}
"""Embedded prior of each contrast. They share a grid and a preprocessing."""

# Nats per voxel. Of 50 real scans each fitted its own contrast best: by .2 to .56, one with 88 ml of lesions by .08.
_DOUBT = 0.05


@dataclass(frozen=True)
class Choice:
    """A prior that was chosen for a scan.

    Attributes
    ----------
    prior : str
        Name of the embedded prior.
    contrast : {"T1w", "T2w", "FLAIR"}
        What the scan was taken for.
    reason : str
        What spoke for it.
    """

    prior: str
    contrast: str
    reason: str


@own_modes()
def choose_prior(
    volumes: Sequence[Volume], masks: Sequence[Volume | None] | None = None, *, affine: np.ndarray | None = None
) -> Choice:
    """Choose the embedded prior of the contrast of some scans.

    The contrast is what the files' names tell (:func:`lesioncore.data.names.contrast_of`), such as ``_T2w``. Where none
    tells one, the first scan is preprocessed, and the contrast whose healthy tissues its intensities fit best is taken.

    Parameters
    ----------
    volumes : sequence of path, nibabel image, ndarray or Tensor
        Scans of one contrast, as for :func:`lesioncore.restore`.
    masks : sequence of the same, optional
        Brain masks.
    affine : ndarray, optional
        4 x 4 voxel-to-world matrix (mm) for arrays and tensors.

    Raises
    ------
    ValueError
        If the names say different contrasts, one that no embedded prior is for, or the scan cannot be used.
    """
    if len(volumes) == 0:
        raise ValueError("volume: got an empty list, expected at least one scan")
    paths = [Path(volume) for volume in volumes if isinstance(volume, (str, os.PathLike))]
    contrasts = [contrast_of(path) for path in paths]
    named = sorted({contrast for contrast in contrasts if contrast is not None})
    if mixed := several(contrasts):
        raise ValueError(
            f"prior: got 'auto' for scans of {mixed}, expected scans of one contrast; name the prior of the one that is"
            f" wanted, such as {', '.join(PRIORS.values())}: other contrasts in folders are then left out"
        )
    if named and named[0] not in PRIORS:
        raise ValueError(f"prior: no embedded prior is for {named[0]} scans, only for {', '.join(PRIORS)}; name one")
    if named:
        return Choice(PRIORS[named[0]], named[0], "the file's name")
    if getattr(volumes[0], "ndim", 3) == 4:
        raise ValueError("prior: got 'auto' for slices, which have no place in the template; name a prior")
    scan = prepare(
        volumes[0], _metadata(load_prior(PRIORS["T1w"])), mask=None if masks is None else masks[0], affine=affine
    )
    return choose_by_intensities(scan)


@own_modes()
def choose_by_intensities(scan: Scan) -> Choice:
    """Choose the embedded prior of the contrast whose healthy tissues a registered scan fits best.

    Raises
    ------
    ValueError
        If the scan shows too little of the brain.

    Warns
    -----
    UserWarning
        If two contrasts fit about as well.
    """
    fits = likelihoods(scan)
    if not fits:
        raise ValueError(
            "prior: got 'auto' for a scan that covers too little of the brain to tell its contrast; name one"
        )
    first, second = sorted(fits, key=lambda contrast: -fits[contrast])[:2]
    if fits[first] - fits[second] < _DOUBT:
        warnings.warn(
            f"prior: the scan's intensities fit {first} and {second} about as well; {first} is taken. Name the prior"
            " if this is wrong",
            stacklevel=2,
        )
    return Choice(PRIORS[first], first, "its intensities")


@own_modes()
def likelihoods(scan: Scan) -> dict[str, float]:
    """How well a registered scan fits the healthy tissues of each contrast, nats per voxel.

    Empty for a scan that is not registered, or that has too few voxels in the template's regions.
    """
    try:
        values, regions = scan.tissues()
        return {contrast: scale.likelihood(values, regions) for contrast, scale in _scales().items()}
    except ValueError:
        return {}


@lru_cache(maxsize=1)
def _scales() -> dict[str, TissueScale]:
    scales = {contrast: _metadata(load_prior(name)).intensity for contrast, name in PRIORS.items()}
    assert all(isinstance(scale, TissueScale) for scale in scales.values())
    return scales


def doubt(scan: Scan, contrast: str | None) -> str | None:
    """What speaks against a scan being of a contrast, as a sentence; None where its intensities fit."""
    if contrast not in PRIORS:
        return None
    fits = likelihoods(scan)
    best = max(fits, key=lambda name: fits[name], default=contrast)
    if best == contrast or fits[best] - fits[contrast] < _DOUBT:
        return None
    return f"its intensities fit {best} better than {contrast}"


def _metadata(prior: Prior) -> Any:
    return prior.metadata  # type: ignore[attr-defined]
