"""Masks of detected lesions from scores and a threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from lesioncore.data.arrays import to_numpy
from lesioncore.data.nifti import make_image, voxels_of
from lesioncore.restoration.volumes import Volume, read_mask
from lesioncore.scoring.postprocess import PostProcessing


def detection_mask(
    score: Any, threshold: float, postprocessing: PostProcessing, brain: Volume | None, affine: np.ndarray | None
) -> Any:
    """Mark the voxels whose score lies above a threshold, and clean the mask.

    Parameters
    ----------
    score : image, ndarray or Tensor
        From :meth:`lesioncore.Detector.detect`.
    threshold : float
        In the unit of the score.
    postprocessing : PostProcessing
        How the mask is cleaned.
    brain : path, nibabel image, ndarray or Tensor, or None
        Brain mask on the score's grid; nothing is detected outside it.
    affine : ndarray or None
        4 x 4 voxel-to-world matrix (mm) of a score that is an array or a tensor.

    Returns
    -------
    image, ndarray or Tensor
        Bool mask of the kind and shape of `score`.

    Raises
    ------
    ValueError
        If `brain` lies on another grid; or if `postprocessing` is active, but `brain` or the voxel size is missing.
    """
    if isinstance(score, SpatialImage):
        detected = _clean(voxels_of(score) > threshold, postprocessing, brain, score.affine)
        return make_image(detected, score.affine, header=score.header)
    detected = _clean(to_numpy(score, "score") > threshold, postprocessing, brain, affine)
    return torch.from_numpy(detected).to(score.device) if isinstance(score, Tensor) else detected


def _clean(
    detected: np.ndarray, postprocessing: PostProcessing, brain: Volume | None, affine: np.ndarray | None
) -> np.ndarray:
    """Remove detections outside the brain, and apply the post-processing."""
    brain_mask = None if brain is None else read_mask(brain, detected.shape, affine, name="brain")
    if brain_mask is not None:
        detected = detected & brain_mask
    if not postprocessing.active:
        return detected
    if brain_mask is None:
        raise ValueError(f"brain: got none, expected the brain mask, which {postprocessing} needs")
    return postprocessing.clean(detected, brain_mask, None if affine is None else voxel_sizes(affine))
