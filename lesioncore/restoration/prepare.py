"""Preparation of a scan for a prior: reading, preprocessing, resampling to its slices, matching of intensities."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from lesioncore.data.affine_grid import AffineGridPlan
from lesioncore.data.grid import GridPlan, SliceGrid, as_slices, as_volume
from lesioncore.data.nifti import load_image
from lesioncore.data.orientation import Orientation
from lesioncore.models.prior import PriorMetadata
from lesioncore.preprocess.external import is_tool
from lesioncore.preprocess.mask import brain_mask
from lesioncore.preprocess.pipeline import PreprocessedScan, Step, check_steps, preprocess, within_mask
from lesioncore.preprocess.scale import match_scale
from lesioncore.restoration.plausibility import check_grey_values, check_size, doubts
from lesioncore.restoration.scan import BACKGROUND, Scan
from lesioncore.restoration.volumes import Volume, brain_of, read_mask, read_volume, sources_of


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
        The prior's grid and intensity scale. Without a grid the scan is not resampled, without a scale its intensities
        are not changed.
    mask : same kinds, optional
        Brain mask on the grid of `volume`; nonzero is brain. Or an installed tool that makes one, ``"hd-bet"``,
        ``"synthstrip"`` or ``"deepbet"`` (:mod:`lesioncore.preprocess.external`). When absent, the brain is extracted
        where there is a skull, else it is all but the constant background.
    affine : ndarray, optional
        4 x 4 voxel-to-world matrix (mm) of a `volume` that is an array or a tensor.
    normalized : bool
        Whether the values are the prior's z-scores already.
    steps : sequence of {"extract", "register", "bias"}, optional
        Steps of preprocessing of a volume (:func:`lesioncore.preprocess.pipeline.preprocess`); when absent, those of
        the prior's training.
    to_template : ndarray, optional
        4 x 4 matrix from the scan's world to the template's (mm), for a scan that was preprocessed already; none of the
        steps is done then.
    progress : callable, optional
        Called as ``progress(done, all)`` after each step.

    Returns
    -------
    Scan
        Slices on the prior's grid, with the transformation back.

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
        If the brain was extracted though no step asks for it, since the scan has its skull or no constant background;
        or if something about the scan is implausible (:func:`lesioncore.restoration.plausibility.doubts`).
    """
    path = Path(volume) if isinstance(volume, (str, os.PathLike)) else None
    masked = mask is not None
    source = volume if path is None else load_image(path, allow_infinite=masked)
    values, image_affine = read_volume(source, masked=masked)
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
    given = None if mask is None else brain_of(mask, values, world, image_affine if affine is None else affine)
    orientation = Orientation.from_affine(world, values.shape)
    wanted = metadata.preprocessing if steps is None else check_steps(steps)
    observed = orientation.to_ras(values)
    preprocessed = preprocess(
        observed,
        orientation.ras_affine,
        mask=None if given is None else orientation.to_ras(given),
        steps=wanted if to_template is None else (),
        progress=progress,
    )
    name = (source.get_filename() if isinstance(source, SpatialImage) else None) or "volume"
    _warn_of_extraction(name, wanted, preprocessed)
    world_to_template = preprocessed.to_template if to_template is None else to_template
    registered = "register" in wanted and world_to_template is not None
    voxel_to_template = world_to_template @ orientation.ras_affine if registered else None
    if not normalized and metadata.intensity is not None:
        check_grey_values(observed, preprocessed.brain, name)
    remarks: list[str] = []
    if metadata.grid is not None:  # without one, the prior knows no millimetres
        check_size(orientation, preprocessed.brain, metadata.grid, name)
        template = world_to_template if registered else None
        remarks = doubts(preprocessed.values, preprocessed.brain, orientation, metadata.grid, template)
    if remarks:
        warnings.warn(f"{name}: {'; '.join(remarks)}. Check header and brain mask: results may be wrong", stacklevel=2)
    ras, brain = torch.from_numpy(preprocessed.values), torch.from_numpy(preprocessed.brain)
    plan = _resampling(metadata.grid, orientation, brain, voxel_to_template)
    if plan is None:
        on_grid, coarse = as_slices(brain), as_slices(ras)
        grid_to_template = voxel_to_template
        voxel_size = orientation.voxel_size
    else:
        # Intensities are matched at the prior's resolution: a finer scan's percentiles differ, since fewer of its
        # voxels mix tissues.
        on_grid, coarse = plan.mask_to_grid(brain), plan.to_grid(ras, 0.0, mask=brain)
        grid_to_template = plan.grid_to_template if isinstance(plan, AffineGridPlan) else None
        voxel_size = (plan.grid.voxel_size, plan.grid.voxel_size, plan.slice_spacing)
    if not on_grid.any():
        raise ValueError(f"{name}: no pixel of the prior's slices has brain in more than half of it; check the mask")
    mapping = None
    if not normalized and metadata.intensity is not None:
        mapping = match_scale(metadata.intensity, as_volume(coarse), as_volume(on_grid), grid_to_template)
    fill = metadata.intensity.background if metadata.intensity else BACKGROUND
    slices = torch.where(on_grid, coarse if mapping is None else mapping(coarse), fill)
    return Scan(
        slices=slices,
        mask=on_grid,
        voxel_size=voxel_size,
        bend=None if mapping is None else mapping.bend,
        registered=isinstance(plan, AffineGridPlan),
        source=source,
        path=path,
        affine=world,
        steps=preprocessed.steps,
        remarks=tuple(remarks),
        sources=sources_of(path, mask if isinstance(mask, (str, os.PathLike)) else None),
        ras_observed=torch.from_numpy(np.where(np.isnan(observed), preprocessed.values, observed)),
        ras_values=ras,
        ras_brain=brain,
        orientation=orientation,
        grid_plan=plan,
        intensity_map=mapping,
        ras_bias=None if preprocessed.bias is None else torch.from_numpy(preprocessed.bias),
    )


def rescaled(scan: Scan, metadata: PriorMetadata) -> Scan:
    """Bring a prepared volume to the intensities of another prior of the same grid and preprocessing.

    Parameters
    ----------
    scan : Scan
        From :func:`prepare` with the first prior's metadata.
    metadata : PriorMetadata
        The other prior's.

    Returns
    -------
    Scan
        What :func:`prepare` makes of the scan with `metadata`.
    """
    if metadata.intensity is None:
        raise ValueError("metadata: got no intensity scale, expected a prior that has one")
    plan = scan.grid_plan
    coarse = as_slices(scan.ras_values) if plan is None else plan.to_grid(scan.ras_values, 0.0, mask=scan.ras_brain)
    places = plan.grid_to_template if isinstance(plan, AffineGridPlan) else None
    mapping = match_scale(metadata.intensity, as_volume(coarse), as_volume(scan.mask), places)
    slices = torch.where(scan.mask, mapping(coarse), metadata.intensity.background)
    return replace(scan, slices=slices, bend=mapping.bend, intensity_map=mapping)


def _warn_of_extraction(name: str, wanted: Sequence[Step], preprocessed: PreprocessedScan) -> None:
    """Warn if the brain was extracted though no step asks for it."""
    if not preprocessed.steps or preprocessed.steps[0].name != "extract":
        return
    facts = preprocessed.steps[0].figures
    if "extract" not in wanted:
        warnings.warn(
            f"{name}: the scan has its skull, or no constant background, so the brain was extracted"
            f" ({facts['brain_ml']:.0f} ml, confidence {facts['confidence']:.2f}); look at the brain mask, or give one",
            stacklevel=3,
        )


def _resampling(
    grid: SliceGrid | None, orientation: Orientation, brain: Tensor, voxel_to_template: np.ndarray | None
) -> GridPlan | AffineGridPlan | None:
    """Resampling to the prior's slices: the template's for a registered scan, else along the scan's own axes."""
    if grid is None:
        return None
    if voxel_to_template is None:
        return grid.plan(orientation.ras_shape, orientation.voxel_size, brain)
    return AffineGridPlan.of(grid, orientation.ras_shape, voxel_to_template, brain)


def prepare_all(
    volume: Volume | Scan | Sequence[Volume | Scan],
    metadata: PriorMetadata,
    *,
    mask: Volume | Sequence[Volume] | None = None,
    affine: np.ndarray | None = None,
    normalized: bool = False,
    steps: Sequence[Step] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Scan], bool]:
    """Prepare one scan or each scan of a list, with its mask; parameters are as for :func:`prepare`.

    A scan that is prepared for this prior already is taken as it is.

    Returns
    -------
    scans : list of Scan
        The prepared scans.
    several : bool
        Whether `volume` is a list.

    Raises
    ------
    ValueError, TypeError
        As for :func:`prepare`; also for an empty list, or where the number of masks is not that of the scans.
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
        scan
        if isinstance(scan, Scan)
        else prepare(scan, metadata, mask=brain, affine=affine, normalized=normalized, steps=steps, progress=progress)
        for scan, brain in zip(volumes, masks, strict=True)
    ]
    return scans, several


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
    missing = np.isnan(values)
    if within := int(np.count_nonzero(missing & brain.numpy())):
        raise within_mask(within)
    if missing.any():
        lowest = fill if normalized else min(0.0, float(np.nanmin(values)))
        tensor = torch.where(torch.from_numpy(missing), lowest, tensor)
    if not brain.numpy().any():  # NumPy stops at the first brain voxel, torch reads all
        raise ValueError("mask: no voxel is brain; check that it belongs to this scan")
    mapping = None
    if not normalized and metadata.intensity is not None:
        check_grey_values(values, brain.numpy(), "volume")
        mapping = match_scale(metadata.intensity, tensor, brain, None)
    slices = torch.where(brain, tensor if mapping is None else mapping(tensor), fill)
    bend = None if mapping is None else mapping.bend
    return Scan(
        slices=slices,
        mask=brain,
        voxel_size=None,
        bend=bend,
        source=source,
        ras_observed=tensor,
        ras_values=tensor,
        ras_brain=brain,
        intensity_map=mapping,
    )
