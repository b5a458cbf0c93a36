"""One scan on its way to a prior's slices and back: geometry, mask and intensities, whatever kind it came as."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from lesioncore.data.affine_grid import AffineGridPlan
from lesioncore.data.arrays import to_numpy
from lesioncore.data.files import file_digest
from lesioncore.data.grid import GridPlan, SliceGrid, as_slices, as_volume
from lesioncore.data.nifti import check_image, load_image, make_image
from lesioncore.data.orientation import Orientation
from lesioncore.preprocess import IntensityMap, brain_mask
from lesioncore.preprocess.external import is_tool, tool_mask
from lesioncore.preprocess.pipeline import (
    LARGEST_BRAIN,
    SMALLEST_BRAIN,
    PreprocessedScan,
    Step,
    StepRecord,
    check_steps,
    preprocess,
)
from lesioncore.preprocess.scale import match_scale, regions_of
from lesioncore.priors.base import PriorMetadata

BACKGROUND = -3.5
"""Z-score outside the brain (paper section 3.1)."""

Volume = str | os.PathLike[str] | SpatialImage | np.ndarray | Tensor


@dataclass
class SliceStack:
    """Slices of one volume on a prior's grid.

    Attributes
    ----------
    slices, mask : Tensor
        ``[N, 1, H, W]`` z-scores, and the brain there (bool).
    voxel_size : tuple of float or None
        Size (mm) of the pixels (left-right, posterior-anterior) and the slices' spacing; None when unknown.
    bend : float or None
        How far the scan's intensities had to be bent to fit the prior's reference
        (:attr:`lesioncore.preprocess.IntensityMap.bend`); None when unknown.
    registered : bool
        The slices are those of the template (:meth:`lesioncore.data.affine_grid.AffineGridPlan.of`), so that a pixel is
        the same place of everyone's brain.
    """

    slices: Tensor
    mask: Tensor
    voxel_size: tuple[float, float, float] | None
    bend: float | None = field(default=None, kw_only=True)
    registered: bool = field(default=False, kw_only=True)

    @property
    def brain_rows(self) -> Tensor:
        """Which slices have brain, bool ``[N]``."""
        # NumPy stops at a slice's first pixel of brain, torch reads all.
        return torch.from_numpy(self.mask.flatten(1).numpy().any(1))

    @property
    def extent(self) -> tuple[float, float, float] | None:
        """How far the brain reaches from left to right, back to front and bottom to top, mm; None when unknown.

        Half a per cent of it beyond either end does not count, so that stray voxels of a mask do not.
        """
        if self.voxel_size is None or not self.brain_rows.any():
            return None
        lengths = []
        for axis, size in zip((1, 2, 0), self.voxel_size, strict=True):
            share = self.mask[:, 0].movedim(axis, 0).flatten(1).sum(1).cumsum(0) / self.mask.sum()
            lengths.append(int(((share > 0.005) & (share < 0.995)).sum() + 1) * size)
        return lengths[0], lengths[1], lengths[2]

    def in_brain(self, slices: Tensor) -> np.ndarray:
        """The brain's values of a residual ``[N, 1, H, W]``, flat: those of the mask's pixels."""
        return slices[self.mask].numpy()


@dataclass
class Scan(SliceStack):
    """A scan prepared for a prior, with its way back; made by :func:`prepare`."""

    source: Any
    path: Path | None
    affine: np.ndarray | None
    _values: Tensor
    _brain: Tensor
    _orientation: Orientation | None
    _plan: GridPlan | AffineGridPlan | None
    _mapping: IntensityMap | None
    steps: tuple[StepRecord, ...] = field(default=(), kw_only=True)
    sources: dict[str, Any] = field(default_factory=lambda: sources_of(None, None), kw_only=True)

    def in_brain(self, slices: Tensor) -> np.ndarray:
        """The brain's values of a residual ``[N, 1, H, W]``, flat: those of the input's own voxels."""
        return self.residual(slices)[self.brain()]

    def tissues(self) -> tuple[Tensor, np.ndarray]:
        """The brain's values on the prior's grid and their regions in the template, as ``TissueScale`` takes them.

        Raises
        ------
        ValueError
            If the scan is not registered.
        """
        places = self._plan.grid_to_template if isinstance(self._plan, AffineGridPlan) else None
        mask = as_volume(self.mask)
        return as_volume(self.slices)[mask], regions_of(mask, places)

    def residual(self, slices: Tensor) -> np.ndarray:
        """Bring a residual ``[N, 1, H, W]`` (z-scores) to the input's grid and storage order; 0 outside the brain."""
        return self._store(self._on_input_grid(slices))

    def restored(self, residual: np.ndarray) -> np.ndarray:
        """Input minus a residual that is on its grid, in the input's own intensity units.

        Where the residual is 0 the input is kept to the bit, so that resampling never blurs healthy tissue.
        """
        values, changed = self._store(self._values).copy(), residual != 0
        if self._mapping is None:
            values[changed] -= residual[changed]
        else:
            values[changed] = self._mapping.inverse(self._mapping(values[changed]) - residual[changed])
        return values

    def label_on_slices(self, label: np.ndarray) -> Tensor:
        """Bring a bool label on the input's grid to the prior's: ``[N, 1, H, W]``, pixels more than half in it."""
        if self._orientation is None:
            return torch.from_numpy(label)
        volume = torch.from_numpy(self._orientation.to_ras(label))
        if self._plan is None:
            return volume.permute(2, 0, 1).unsqueeze(1)
        return self._plan.mask_to_grid(volume)

    def brain(self) -> np.ndarray:
        """Brain mask (bool) on the input's grid."""
        return self._store(self._brain)

    def like_input(self, array: np.ndarray) -> Any:
        """Give `array` the input's own kind: an image for paths and images, an array or a tensor otherwise."""
        if isinstance(self.source, SpatialImage):
            return make_image(array, self.source.affine, header=self.source.header)
        if isinstance(self.source, Tensor):
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.source.device)
        return array

    def _on_input_grid(self, slices: Tensor) -> Tensor:
        slices = slices.detach().cpu()
        if self._plan is None:
            volume = slices if self._values.dim() == 4 else slices[:, 0].permute(1, 2, 0)
        else:
            volume = self._plan.from_grid(slices, self.mask)
        return torch.where(self._brain, volume, torch.zeros((), dtype=volume.dtype))

    def _store(self, volume: Tensor) -> np.ndarray:
        array = volume.contiguous().numpy()
        return array if self._orientation is None else self._orientation.from_ras(array)


def prepare(
    volume: Volume,
    metadata: PriorMetadata,
    *,
    mask: Volume | None = None,
    affine: np.ndarray | None = None,
    normalized: bool = False,
    steps: Sequence[Step] | None = None,
    to_template: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Bring a scan to a prior's grid and intensities (method: paper section 3.1).

    Parameters
    ----------
    volume : path, nibabel image, ndarray or Tensor
        A 3-D scan, with its skull or without; an array or a tensor is ``[X, Y, Z]`` in RAS+ order at the prior's voxel
        size unless `affine` says otherwise. Or slices ``[N, 1, H, W]`` that are on the prior's grid already.
    metadata : PriorMetadata
        The prior's grid and intensity scale; what it lacks is left as it is.
    mask : same kinds, optional
        Brain mask on the grid of `volume`; nonzero is brain. Or a tool that is installed and makes one, ``"hd-bet"``,
        ``"synthstrip"`` or ``"deepbet"`` (:mod:`lesioncore.preprocess.external`). Derived from the background when
        absent, or where there is a skull by extraction.
    affine : ndarray, optional
        4 x 4 voxel-to-world matrix (mm) of a `volume` that is an array or a tensor.
    normalized : bool
        The values are the prior's z-scores already.
    steps : sequence of {"extract", "register", "bias"}, optional
        How a volume is preprocessed (:func:`lesioncore.preprocess.pipeline.preprocess`); as the prior was trained when
        absent.
    to_template : ndarray, optional
        4 x 4 from the scan's world to the template's (mm): the scan was preprocessed already, and none of the steps is
        done.
    progress : callable, optional
        Called as ``progress(done, all)`` after each step.

    Raises
    ------
    ValueError
        If shape, mask, values or geometry cannot be used; the message says what to do.
    TypeError
        If `volume` or `mask` is of a kind not listed.
    ImportError
        If a step needs SimpleITK, of the extra ``preprocess``, which is missing.

    Warns
    -----
    UserWarning
        If the brain was extracted though no step asks for it, since the scan has its skull.
    """
    path = Path(volume) if isinstance(volume, (str, os.PathLike)) else None
    source = volume if path is None else load_image(path)
    values, image_affine = read_volume(source)
    if image_affine is not None and affine is not None:
        raise ValueError("affine: given beside an image that has its own; give it for arrays and tensors alone")
    if values.ndim == 4:
        given = None if mask is None else read_mask(mask, values.shape, image_affine)
        return _prepare_slices(source, values, given, metadata, affine, normalized)
    if values.ndim != 3:
        raise ValueError(f"volume: got shape {values.shape}, expected [X, Y, Z] or slices [N, 1, H, W]")
    world = image_affine if image_affine is not None else affine
    if world is None:
        world = np.diag([*([metadata.grid.voxel_size if metadata.grid else 1.0] * 3), 1.0])
    given = None if mask is None else brain_of(mask, values, world, image_affine)
    orientation = Orientation.from_affine(world, values.shape)
    wanted = metadata.preprocessing if steps is None else check_steps(steps)
    found = preprocess(
        orientation.to_ras(values),
        orientation.ras_affine,
        mask=None if given is None else orientation.to_ras(given),
        steps=wanted if to_template is None else (),
        progress=progress,
    )
    _warn_of_extraction("volume" if path is None else str(path), wanted, found)
    world_to_template = found.to_template if to_template is None else to_template
    voxel_to_template = None
    if "register" in wanted and world_to_template is not None:
        voxel_to_template = world_to_template @ orientation.ras_affine
    ras, brain = torch.from_numpy(found.values), torch.from_numpy(found.brain)
    plan = _plan(metadata.grid, orientation, brain, voxel_to_template)
    if plan is None:
        on_grid, coarse = as_slices(brain), as_slices(ras)
        grid_to_template = voxel_to_template
        voxel_size = orientation.voxel_size
    else:
        # Standardised at the prior's own resolution: a finer scan's percentiles differ, since fewer voxels mix tissues.
        on_grid, coarse = plan.mask_to_grid(brain), plan.to_grid(ras, 0.0, mask=brain)
        grid_to_template = plan.grid_to_template if isinstance(plan, AffineGridPlan) else None
        voxel_size = (plan.grid.voxel_size, plan.grid.voxel_size, plan.slice_spacing)
    mapping = None
    if not normalized and metadata.intensity is not None:
        volumes = (as_volume(coarse), as_volume(on_grid)) if on_grid.any() else (ras, brain)
        places = grid_to_template if on_grid.any() else voxel_to_template
        mapping = match_scale(metadata.intensity, *volumes, places)
    fill = metadata.intensity.background if metadata.intensity else BACKGROUND
    slices = torch.where(on_grid, coarse if mapping is None else mapping(coarse), fill)
    return Scan(
        slices,
        on_grid,
        voxel_size,
        source,
        path,
        world,
        ras,
        brain,
        orientation,
        plan,
        mapping,
        bend=None if mapping is None else mapping.bend,
        registered=isinstance(plan, AffineGridPlan),
        steps=found.steps,
        sources=sources_of(path, mask if isinstance(mask, (str, os.PathLike)) else None),
    )


def _warn_of_extraction(name: str, wanted: Sequence[Step], found: PreprocessedScan) -> None:
    """Say that an extracted brain is of no brain's size, or was extracted though no step asks for it."""
    if not found.steps or found.steps[0].name != "extract":
        return
    facts = found.steps[0].figures
    if not SMALLEST_BRAIN <= facts["brain_ml"] <= LARGEST_BRAIN and facts["input"] != "mask":
        warnings.warn(
            f"{name}: the extracted brain has {facts['brain_ml']:.0f} ml, an adult's {SMALLEST_BRAIN:g} to"
            f" {LARGEST_BRAIN:g}; check the voxel sizes in the header, and the brain mask",
            stacklevel=3,
        )
    if "extract" not in wanted:
        warnings.warn(
            f"{name}: the scan has its skull, so the brain was extracted ({facts['brain_ml']:.0f} ml, confidence"
            f" {facts['confidence']:.2f}); look at the brain mask, or give one",
            stacklevel=3,
        )


def _plan(
    grid: SliceGrid | None, orientation: Orientation, brain: Tensor, voxel_to_template: np.ndarray | None
) -> GridPlan | AffineGridPlan | None:
    """The way to the prior's slices: of the template where the scan is registered, along its own axes otherwise."""
    if grid is None:
        return None
    if voxel_to_template is None:
        return grid.plan(orientation.ras_shape, orientation.voxel_size, brain)
    return AffineGridPlan.of(grid, orientation.ras_shape, voxel_to_template, brain)


def sources_of(scan: Path | None, mask: str | os.PathLike[str] | None) -> dict[str, Any]:
    """What a scan is read from (JSON-able): names of files and hashes of what they hold, or the mask's tool."""
    facts: dict[str, Any] = {}
    for what, source in (("Source", scan), ("Mask", mask)):
        path = None if source is None or is_tool(source) else Path(source)
        facts |= {what: source, f"{what}SHA256": None}
        if path is not None:
            facts |= {what: path.name, f"{what}SHA256": file_digest(path).hex()}
    return facts


def prepare_all(
    volume: Volume | Sequence[Volume],
    metadata: PriorMetadata,
    *,
    mask: Volume | Sequence[Volume] | None = None,
    affine: np.ndarray | None = None,
    normalized: bool = False,
    steps: Sequence[Step] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Scan], bool]:
    """Prepare one scan or each of a list, with its mask; also tells whether a list came in.

    Raises
    ------
    ValueError, TypeError
        As :func:`prepare`; also for an empty list, and for masks that are not one for each scan.
    """
    several = isinstance(volume, (list, tuple))
    volumes: list[Any] = list(volume) if isinstance(volume, (list, tuple)) else [volume]
    masks: list[Any] = list(mask) if isinstance(mask, (list, tuple)) else [mask]
    if not volumes:
        raise ValueError("volume: got an empty list, expected at least one scan")
    if mask is None:
        masks = [None] * len(volumes)
    elif is_tool(mask):
        masks = [mask] * len(volumes)
    elif len(masks) != len(volumes) or several != isinstance(mask, (list, tuple)):
        raise ValueError(f"mask: expected one for each scan, a list for a list of {len(volumes)}, or None")
    scans = [
        prepare(one, metadata, mask=its_mask, affine=affine, normalized=normalized, steps=steps, progress=progress)
        for one, its_mask in zip(volumes, masks, strict=True)
    ]
    return scans, several


def check_several(healthy: Sequence[Any], masks: Sequence[Any] | None) -> None:
    """Raise ``ValueError`` unless `healthy` is a list of scans, with a mask for each if there are any."""
    if isinstance(healthy, (str, os.PathLike)):
        raise ValueError(
            f"healthy: got {str(healthy)!r} alone, expected a list of scans, such as sorted(folder.glob(...))"
        )
    if len(healthy) == 0:
        raise ValueError("healthy: got no scans, expected at least one")
    if isinstance(masks, str):
        raise ValueError(f"masks: got {masks!r} alone, expected one for each scan; give [{masks!r}] * len(healthy)")
    if masks is not None and len(masks) != len(healthy):
        raise ValueError(f"masks: got {len(masks)}, expected one for each of {len(healthy)} scans")


def brain_of(mask: Volume, values: np.ndarray, world: np.ndarray, affine: np.ndarray | None) -> npt.NDArray[np.bool_]:
    """The brain of a volume by a mask or a tool (:func:`read_mask`, :func:`lesioncore.preprocess.external.tool_mask`).

    `world` is the volume's voxel-to-world matrix (mm), `affine` the same where it is an image.
    """
    return tool_mask(mask, values, world) if is_tool(mask) else read_mask(mask, values.shape, affine)


def read_mask(
    mask: Volume, shape: tuple[int, ...], affine: np.ndarray | None, *, name: str = "mask"
) -> npt.NDArray[np.bool_]:
    """Read a mask that belongs to a volume; nonzero is in it.

    Parameters
    ----------
    mask : path, nibabel image, ndarray or Tensor
        The mask; fractional values are warned of.
    shape : tuple of int
        Shape of the volume.
    affine : ndarray or None
        The volume's 4 x 4 voxel-to-world matrix (mm), if it is an image.
    name : str
        What errors call the mask.

    Raises
    ------
    ValueError
        If it lies on another grid than the volume.
    TypeError
        If `mask` is of a kind not listed.
    """
    mask = load_image(mask) if isinstance(mask, (str, os.PathLike)) else mask
    if isinstance(mask, (np.ndarray, Tensor)) and mask.dtype in (np.bool_, torch.bool):
        voxels, mask_affine = np.array(to_numpy(mask, name), order="C"), None
    else:
        voxels, mask_affine = read_volume(mask, name)
    if voxels.shape != shape:
        raise ValueError(f"{name}: got shape {voxels.shape}, expected that of the volume, {shape}")
    # A tenth of a millimetre is far below any voxel and far above what headers lose to rounding.
    if affine is not None and mask_affine is not None and not np.allclose(affine, mask_affine, atol=0.1):
        raise ValueError(f"{name}: its affine differs from the volume's; resample it to the volume's grid first")
    if voxels.dtype != np.bool_ and (np.abs(voxels - np.rint(voxels)) > 0.01).any():  # scaled integers are rounded
        warnings.warn(
            f"{name}: has values that are no whole numbers, and every nonzero voxel counts as in it; threshold a map of"
            " probabilities first",
            stacklevel=2,
        )
    return voxels if voxels.dtype == np.bool_ else voxels != 0


def _prepare_slices(
    source: Any,
    values: np.ndarray,
    given: np.ndarray | None,
    metadata: PriorMetadata,
    affine: np.ndarray | None,
    normalized: bool,
) -> Scan:
    if values.shape[1] != 1:
        raise ValueError(f"volume: got shape {values.shape}, expected slices [N, 1, H, W]")
    if affine is not None:
        raise ValueError("affine: slices [N, 1, H, W] are on the prior's grid already; give it for volumes alone")
    if metadata.grid is not None and values.shape[2:] != metadata.grid.shape:
        raise ValueError(
            f"volume: got slices of {values.shape[2:]} pixels, expected {metadata.grid.shape} at"
            f" {metadata.grid.voxel_size:g} mm; give a 3-D volume with its affine to have it resampled"
        )
    tensor = torch.from_numpy(values)
    fill = metadata.intensity.background if metadata.intensity else BACKGROUND
    if given is not None:
        brain = torch.from_numpy(given)
    elif normalized or metadata.intensity is None:
        brain = tensor != fill
    else:
        brain = brain_mask(tensor[:, 0]).unsqueeze(1)
    if not brain.numpy().any():  # as for brain_rows
        raise ValueError("mask: no voxel is brain; check that it belongs to this scan")
    mapping = None
    if not normalized and metadata.intensity is not None:
        mapping = match_scale(metadata.intensity, tensor, brain, None)
    slices = torch.where(brain, tensor if mapping is None else mapping(tensor), fill)
    bend = None if mapping is None else mapping.bend
    return Scan(slices, brain, None, source, None, None, tensor, brain, None, None, mapping, bend=bend)


def read_volume(volume: Volume, name: str = "volume") -> tuple[np.ndarray, np.ndarray | None]:
    """Float32 voxels as stored, and the affine of an image.

    Raises
    ------
    ValueError, TypeError
        As :func:`prepare`; `name` is what errors call the volume.
    """
    volume = load_image(volume) if isinstance(volume, (str, os.PathLike)) else volume
    if isinstance(volume, SpatialImage):
        image = check_image(volume, name)
        return image.get_fdata(dtype=np.float32), np.asarray(image.affine, dtype=np.float64)
    if not isinstance(volume, (np.ndarray, Tensor)):
        raise TypeError(
            f"{name}: got {type(volume).__name__}, expected a path, a nibabel image, a NumPy array or a torch tensor"
        )
    array = np.array(to_numpy(volume, name), dtype=np.float32, order="C")
    if array.size == 0:
        raise ValueError(f"{name}: got shape {array.shape}, expected at least one voxel along each axis")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ValueError(f"{name}: {bad} of {array.size} voxels are NaN or infinite; clean the scan first")
    return array, None
