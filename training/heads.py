"""Random heads with known brains: real T1w scans changed at random, and contrasts rendered from their anatomy.

What a network learns from such heads is the brain's shape and what borders on it, whatever the contrast: the rendered
ones follow SynthStrip (Hoopes et al., NeuroImage 2022), with fractions of tissue in place of labels, so that partial
volumes are those of a real scan.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

VOXEL_SIZE = 2.0
# MUSE region numbers. What is not listed is cortex.
_CSF, _VENTRICLES = (1, 46), (4, 11, 49, 50, 51, 52)
_GROUPS: dict[int, tuple[int, ...]] = {
    1: _CSF,
    2: _VENTRICLES,
    3: (*range(81, 91), 93, 94),  # white matter of the lobes, fornix, anterior limb of the internal capsule
    4: (40, 41),  # white matter of the cerebellum
    5: (38, 39, 71, 72, 73),  # its cortex and vermis
    6: (35, 61, 62),  # brain stem, ventral diencephalon
    7: (23, 30, 36, 37, 57, 58),  # striatum
    8: (59, 60),  # thalamus
    9: (55, 56),  # pallidum
    10: (31, 32, 47, 48, 75, 76),  # amygdala, hippocampus, basal forebrain
    # Limbic cortex: cingulate, insula, parahippocampal.
    12: (*range(100, 104), 116, 117, 138, 139, 166, 167, *range(170, 174), 186, 187),
    13: (91, 92),  # posterior limb of the internal capsule, where the pyramidal tract lies
    14: (95,),  # corpus callosum
}
_CORTEX = 11
GROUPS = 15
"""Number of groups of regions, the background included."""
_FARTHEST = 60  # mm, of the distances that are kept


@dataclass
class Head:
    """One person's head on a grid of 2 mm in RAS+ order; all tensors are ``[X, Y, Z]``.

    Attributes
    ----------
    t1 : Tensor
        float16, the T1w scan; white matter is near 1.
    csf, white : Tensor
        uint8, fractions of CSF and of white matter in the brain, 255 for all; the rest is grey matter.
    group : Tensor
        uint8, group of regions; 0 outside the brain.
    distance : Tensor
        int8, mm to the surface of the conventional brain mask, negative inside.
    core : Tensor
        bool, the brain without the rim of CSF around it.
    solid : Tensor
        bool, inside the head, dark bone and sinuses included.
    """

    t1: Tensor
    csf: Tensor
    white: Tensor
    group: Tensor
    distance: Tensor
    core: Tensor
    solid: Tensor

    @property
    def brain(self) -> Tensor:
        """The conventional mask, bool."""
        return self.group > 0

    def to_dict(self) -> dict[str, Tensor]:
        """The tensors by name, for safetensors."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}


def make_head(t1: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_], regions: npt.NDArray[np.integer]) -> Head:
    """Take apart a T1w head of 2 mm in RAS+ order.

    Parameters
    ----------
    t1 : numpy.ndarray
        ``[X, Y, Z]``, the scan.
    brain : numpy.ndarray
        Same shape, bool: the closed conventional mask.
    regions : numpy.ndarray
        Same shape, MUSE region numbers; 0 in the brain is taken as CSF.

    Raises
    ------
    ValueError
        If shapes differ, or white matter, cortex or ventricles are missing.
    """
    from scipy import ndimage

    if not t1.shape == brain.shape == regions.shape or t1.ndim != 3:
        raise ValueError(f"t1, brain, regions: got shapes {t1.shape}, {brain.shape}, {regions.shape}, expected one 3-D")
    group = np.where(brain, _CORTEX, 0).astype(np.uint8)
    for number, members in _GROUPS.items():
        group[brain & np.isin(regions, members)] = number
    group[brain & (regions == 0)] = 1
    if min((group == number).sum() for number in (2, 3, _CORTEX)) < 100:
        raise ValueError("regions: got no ventricles, white matter or cortex, expected MUSE region numbers")
    flat = t1 / _bias(t1, group)
    dark, grey, bright = (float(np.median(flat[group == number])) for number in (2, _CORTEX, 3))
    grey = max(grey, dark + 0.3 * (bright - dark))
    csf = np.clip((grey - flat) / (grey - dark), 0, 1)
    white = np.clip((flat - grey) / (bright - grey), 0, 1)
    away = VOXEL_SIZE * (ndimage.distance_transform_edt(~brain) - ndimage.distance_transform_edt(brain))
    head = flat > 0.15 * bright
    head = ndimage.binary_opening(head, iterations=1)
    solid = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(head, 8), iterations=6))[8:-8, 8:-8, 8:-8]
    return Head(
        t1=torch.from_numpy((flat / bright).clip(0, 4).astype(np.float16)),
        csf=torch.from_numpy(np.rint(255 * csf * brain).astype(np.uint8)),
        white=torch.from_numpy(np.rint(255 * white * brain).astype(np.uint8)),
        group=torch.from_numpy(group),
        distance=torch.from_numpy(np.rint(away).clip(-_FARTHEST, _FARTHEST).astype(np.int8)),
        core=torch.from_numpy(brain_core(brain, (csf < 0.5) | (group == 2))),
        solid=torch.from_numpy(solid | brain),
    )


def brain_core(brain: npt.NDArray[np.bool_], parenchyma: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The brain without the rim of CSF: its parenchyma and ventricles, closed by 6 mm and filled.

    Sulci narrower than 12 mm and all ventricles belong to it, so that it is one smooth body; sheets of dura and veins
    in the rim do not.
    """
    from scipy import ndimage

    solid = ndimage.binary_opening(brain & parenchyma, iterations=1)
    numbers, count = ndimage.label(solid)
    solid = numbers == 1 + np.argmax(ndimage.sum_labels(solid, numbers, range(1, count + 1)))
    reach = 6.0 / VOXEL_SIZE
    padded = np.pad(solid, 8)
    grown = ndimage.distance_transform_edt(~padded) <= reach
    closed = (ndimage.distance_transform_edt(grown) > reach)[8:-8, 8:-8, 8:-8]
    return ndimage.binary_fill_holes(closed | solid) & brain


def _bias(t1: npt.NDArray[np.float32], group: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A smooth field: a polynomial of third degree in the logarithm of white matter, held constant beyond the brain."""
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in t1.shape), indexing="ij"), -1).astype(np.float32)
    white = np.isin(group, (3, 4, 13, 14)) & (t1 > 0)
    inside = group > 0
    low, high = places[inside].min(0), places[inside].max(0)

    def terms(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        x = np.clip(x, low, high)
        powers = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
        return np.stack([x[..., 0] ** i * x[..., 1] ** j * x[..., 2] ** k for i, j, k in powers], -1)

    few = np.flatnonzero(white)[::7]  # of some 70 000 voxels, for 20 unknowns
    weights, *_ = np.linalg.lstsq(terms(places.reshape(-1, 3)[few]), np.log(t1.reshape(-1)[few]), rcond=None)
    return np.exp(terms(places) @ weights).astype(np.float32)
