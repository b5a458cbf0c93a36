"""A head around real average anatomy: the ICBM152 T1w template with a lesion, a skull and a scanner of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesioncore.phantom.anatomy import Anatomy, Tissue, grid_axes, turned
from lesioncore.phantom.config import PhantomConfig
from lesioncore.phantom.contrast import SEQUENCES, Levels
from lesioncore.phantom.fields import Array, Axes, random_field
from lesioncore.phantom.lesions import plan_lesion
from lesioncore.phantom.simulate import SPLITS, Phantom, check_arguments, check_index
from lesioncore.phantom.template import FIELD_HIGH, FIELD_LOW, read_maps, sample_linear, scipy_ndimage

_PAD_MM = 16.0
_FLUID_MM, _SKULL_MM, _SCALP_MM = 2.0, 8.0, 14.0  # from the brain, where each of the layers ends
_SKULL, _SCALP = 0.12, 1.15  # intensities, white matter's being 1
_TILT_DEG, _SHIFT_MM = 12.0, 15.0  # largest, about and along each axis
_BIAS, _TEXTURE, _SNR, _GAIN = 0.12, 0.02, 30.0, 400.0

# The mean brain, undeformed.
MEAN_ANATOMY = PhantomConfig(
    rotation_deg=0.0,
    scale=0.0,
    shift_mm=0.0,
    deformation_mm=(),
    deformation_spacing_mm=(),
    gyri_mm=0.0,
    gyri_logit=0.0,
    sharpness=1.0,
    ventricle_mm=(0.0, 0.0),
    atrophy=(0.0, 0.0),
    strip_mm=0.0,
    mass_effect=(0.0, 0.0),
)


def template_head(subject: int, *, lesion: str | None = "stroke", voxel_size: float = 1.0) -> Phantom:
    """A T1w head with the brain of the ICBM152 template (2009a, the average of 152 people's scans) and a lesion.

    Real anatomy without anybody's scan: the brain's intensities are the average's, smoother than a person's. The lesion
    is one of the phantom's. Fluid, skull and scalp are layers around the brain; tilt and shift in the scanner, the
    coil's bias field, texture and Rician noise are drawn for each subject.

    Parameters
    ----------
    subject : int
        Number of the draws, from 0.
    lesion : {None, "glioma", "stroke"}
    voxel_size : float
        Millimetres, 0.5 to 8.

    Returns
    -------
    Phantom
        Its `image` has its skull and lies oblique in the world of its `affine`.

    Raises
    ------
    ValueError
        If an argument is not among the values above.
    ImportError
        If scipy or nilearn, the extra `phantom`, is missing.
    """
    subject = check_index("subject", subject)
    check_arguments("demo", "T1w", lesion, voxel_size)
    lesion_seed, scanner_seed = np.random.SeedSequence([SPLITS["demo"], subject]).spawn(2)
    rng = np.random.default_rng(scanner_seed)
    axes = grid_axes(voxel_size)
    tissue, signal, lesion_mask, drawn = _brain(lesion, lesion_seed, axes, voxel_size)
    pad = round(_PAD_MM / voxel_size)
    wide = [axis[0] + voxel_size * np.arange(-pad, axis.size + pad) for axis in axes]
    brain, lesion_mask = np.pad(tissue.mask, pad), np.pad(lesion_mask, pad)
    head = _layers(np.pad(signal, pad), brain, voxel_size, random_field(rng, 8.0, FIELD_LOW, FIELD_HIGH, wide))
    bias, texture = (random_field(rng, spacing, FIELD_LOW, FIELD_HIGH, wide) for spacing in (80.0, 5.0))
    head *= np.exp(_BIAS * bias + _TEXTURE * texture)
    noise = voxel_size**-1.5 / _SNR * rng.standard_normal((2, *head.shape), dtype=np.float32)
    image = np.rint(_GAIN * np.hypot(head + noise[0], noise[1]))
    pose, parameters = _pose(rng)
    to_world = np.diag([voxel_size] * 3 + [1.0])
    to_world[:3, 3] = [axis[0] for axis in wide]
    return Phantom(
        image=image.astype(np.float32),
        brain_mask=brain,
        lesion_mask=lesion_mask,
        affine=pose @ to_world,
        tissue=np.pad(np.stack([tissue.csf, tissue.grey, tissue.white]), [(0, 0), *[(pad, pad)] * 3]),
        parameters={"subject": subject, "contrast": "T1w", "voxel_size_mm": voxel_size, "lesion": drawn, **parameters},
        space="scanner",
    )


def _brain(
    lesion: str | None, seed: np.random.SeedSequence, axes: Axes, voxel_size: float
) -> tuple[Tissue, Array, NDArray[np.bool_], dict[str, Any] | None]:
    """The template's tissue, its T1w signal (white matter 1) with a lesion, the lesion's mask and draws."""
    anatomy = Anatomy(np.random.default_rng(0), MEAN_ANATOMY)
    tissue = anatomy.tissue(voxel_size)
    t1, _, white, affine = read_maps()
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1) - affine[:3, 3:]
    signal = sample_linear(t1 / t1[white > 0.9].mean(), points.astype(np.float32)).reshape(tissue.mask.shape)
    if lesion is None:
        return tissue, signal, np.zeros(tissue.mask.shape, bool), None
    plan = plan_lesion(lesion, seed, anatomy, MEAN_ANATOMY)
    maps, mean = plan.maps(tissue, axes, voxel_size), SEQUENCES["T1w"]
    levels = Levels(mean.csf[0], mean.grey[0], mean.white[0], mean.deep[0], mean.regional, 0.0)
    mask = maps.fraction > 0.5
    drawn = {**plan.parameters(), "volume_ml": float(mask.sum()) * voxel_size**3 / 1000.0}
    return tissue, plan.apply(signal, maps, levels, "T1w"), mask, drawn


def _layers(signal: Array, brain: NDArray[np.bool_], voxel_size: float, variation: Array) -> Array:
    """The brain's signal, with fluid, skull and scalp around it."""
    away = voxel_size * scipy_ndimage().distance_transform_edt(~brain)
    scalp = _SCALP * np.clip(1.0 + 0.15 * variation, 0.5, 1.5)
    head = np.where(away <= _SCALP_MM, scalp, 0.0)
    head[away <= _SKULL_MM] = _SKULL
    head[away <= _FLUID_MM] = SEQUENCES["T1w"].csf[0]
    # The average fades out at the brain's edge, where fluid fills the rest.
    head[brain] = np.maximum(signal[brain], SEQUENCES["T1w"].csf[0])
    return head.astype(np.float32)


def _pose(rng: np.random.Generator) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Pose of the head in the scanner: a matrix from the template's world, and its draws."""
    angles, shift = rng.uniform(-_TILT_DEG, _TILT_DEG, 3), rng.uniform(-_SHIFT_MM, _SHIFT_MM, 3)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turned(np.eye(3), angles), shift
    return pose, {"tilt_deg": angles.tolist(), "shift_mm": shift.tolist()}
