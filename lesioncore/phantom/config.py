"""Strengths of everything the phantom varies: one frozen, validated record."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

Range = tuple[float, float]


@dataclass(frozen=True)
class PhantomConfig:
    """Strengths of the simulated population and of its lesions.

    A pair is the range of a uniform draw made once per subject; a single number is a standard deviation or an
    amplitude. Setting an amplitude to 0, or a range to one point, switches that source of variation off.

    Attributes
    ----------
    rotation_deg, scale, shift_mm : float
        Standard deviations of the affine residual left by a registration to MNI space: rotation about each axis,
        relative scale along each axis, shift along each axis.
    deformation_mm : tuple of float
        Standard deviation of the smooth deformation at each control spacing of `deformation_spacing_mm`.
    deformation_spacing_mm : tuple of float
        Control spacings of the deformation in millimetres, one per entry of `deformation_mm`.
    gyri_mm : float
        Standard deviation of the fine warp (8 mm control spacing) that folds the cortical ribbon.
    gyri_logit : float
        Standard deviation of the random field added to the tissue log-odds near the cortex; it opens, closes and
        moves single sulci.
    sharpness : float
        Power put on the group-average tissue probabilities: one subject's tissues have sharper borders than the mean.
    ventricle_mm : (float, float)
        Outward displacement of the lateral ventricles' wall; negative shrinks them.
    atrophy : (float, float)
        Log-odds added to cerebrospinal fluid in the sulci (ageing).
    strip_mm : float
        Standard deviation of where the skull stripping cuts, around its mean.
    contrast_spread : float
        Factor on the subject-to-subject standard deviation of every tissue intensity.
    regional_contrast : (float, float)
        Strength of the regional (myelin, iron) intensity deviations found in the ICBM152 T1 average.
    periventricular : (float, float)
        Strength of the periventricular white-matter signal change, as a fraction of the grey-white difference.
    texture : float
        Standard deviation of the within-tissue intensity texture, as a fraction of the tissue's intensity.
    bias : (float, float)
        Standard deviation of the log of the smooth multiplicative bias field.
    snr : (float, float)
        White-matter signal-to-noise ratio of a 1 mm voxel; noise falls with the square root of the voxel's volume.
    gain : (float, float)
        White-matter intensity in scanner units.
    lesion_radius_mm : (float, float)
        Radius of the sphere that has the lesion's volume.
    lesion_contrast : float
        Factor on the lesion's intensity change; 1 is the calibrated difficulty, 0 leaves the lesion invisible.
    lesion_irregularity : float
        Relative strength of the noise that roughens the lesion's border and its inside.
    mass_effect : (float, float)
        Outward displacement of tissue around a glioma, as a fraction of its core's radius.

    Raises
    ------
    ValueError
        If a number is not finite, negative where only a size makes sense, or a range is reversed.
    """

    rotation_deg: float = 2.5
    scale: float = 0.025
    shift_mm: float = 1.5
    deformation_mm: tuple[float, ...] = (2.5, 1.2, 0.7)
    deformation_spacing_mm: tuple[float, ...] = (40.0, 20.0, 10.0)
    gyri_mm: float = 1.2
    gyri_logit: float = 1.0
    sharpness: float = 2.5
    ventricle_mm: Range = (-1.0, 4.0)
    atrophy: Range = (0.3, 1.4)
    strip_mm: float = 0.7
    contrast_spread: float = 1.0
    regional_contrast: Range = (0.6, 1.3)
    periventricular: Range = (0.0, 0.8)
    texture: float = 0.025
    bias: Range = (0.015, 0.06)
    snr: Range = (16.0, 36.0)
    gain: Range = (300.0, 900.0)
    lesion_radius_mm: Range = (8.0, 25.0)
    lesion_contrast: float = 1.0
    lesion_irregularity: float = 1.0
    mass_effect: Range = (0.0, 0.25)

    def __post_init__(self) -> None:
        signed = {"ventricle_mm", "atrophy"}
        positive = {"sharpness", "snr", "gain", "lesion_radius_mm", "deformation_spacing_mm"}
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers:
                if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
                    raise ValueError(f"PhantomConfig.{field.name}: got {value!r}, expected finite numbers")
                if field.name in positive and number <= 0:
                    raise ValueError(f"PhantomConfig.{field.name}: got {value!r}, expected numbers above 0")
                if field.name not in signed and number < 0:
                    raise ValueError(f"PhantomConfig.{field.name}: got {value!r}, expected numbers of at least 0")
            if field.type == "float" and isinstance(value, tuple):
                raise ValueError(f"PhantomConfig.{field.name}: got {value!r}, expected one number")
            if field.type == "Range" and not (isinstance(value, tuple) and len(value) == 2 and value[0] <= value[1]):
                raise ValueError(f"PhantomConfig.{field.name}: got {value!r}, expected (low, high) with low <= high")
        # Past this the displacement around the core would fold the tissue.
        if self.mass_effect[1] > 0.5:
            raise ValueError(f"PhantomConfig.mass_effect: got {self.mass_effect!r}, expected at most 0.5")
        if len(self.deformation_mm) != len(self.deformation_spacing_mm):
            raise ValueError(
                f"PhantomConfig.deformation_mm: got {len(self.deformation_mm)}, expected one amplitude per entry of "
                f"deformation_spacing_mm ({len(self.deformation_spacing_mm)})"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the strengths as JSON-able values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
