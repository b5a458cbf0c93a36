"""One subject's anatomy: the mean brain deformed, aged, folded and given sharp tissues of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesioncore.phantom.config import PhantomConfig
from lesioncore.phantom.fields import Array, Axes, random_field, resample_lattice
from lesioncore.phantom.template import FIELD_HIGH, FIELD_LOW, FOV_HIGH, FOV_LOW, Template, load_template, sample_linear

_LATTICE_MM = 4.0
_MARGIN_MM = 12.0
_GYRI_SPACING_MM = 8.0
_SULCI_SPACING_MM = 12.0
# Skull stripping takes most of the fluid between the cortex and the dura.
_STRIP_MEAN_MM = np.float32(-0.7)
# The skull's inner surface is smooth: only deformations of at least this spacing move the brain's envelope.
_ENVELOPE_MM = 15.0
_BRAIN_CENTRE = np.array([0.0, -17.0, 5.0])

Displacement = Callable[[Array], Array]
"""Backward displacement `[3, N]` in mm at points `[3, N]` in mm."""


def grid_axes(voxel_size: float) -> list[NDArray[np.float64]]:
    """Voxel-centre positions in mm per axis of the phantom's grid."""
    axes: list[NDArray[np.float64]] = []
    for low, high in zip(FOV_LOW, FOV_HIGH, strict=True):
        count = int(np.ceil((high - low) / voxel_size - 1e-9))
        axes.append(low + voxel_size * (np.arange(count, dtype=np.float64) + 0.5))
    return axes


def _points(axes: Axes) -> Array:
    return np.stack([p.ravel() for p in np.meshgrid(*axes, indexing="ij")]).astype(np.float32)


def _split(axes: Axes, parts: int) -> list[NDArray[np.float64]]:
    """Sub-voxel positions: `parts` per voxel and axis, their mean at the voxel's centre."""
    split = []
    for axis in axes:
        step = axis[1] - axis[0]
        offsets = ((np.arange(parts) + 0.5) / parts - 0.5) * step
        split.append((axis[:, None] + offsets).ravel())
    return split


def turned(matrix: NDArray[np.float64], degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """A linear map `[3, 3]` followed by turns about each axis in their order."""
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


@dataclass(frozen=True)
class Tissue:
    """Tissue fractions on a grid, 0 outside the brain.

    Attributes
    ----------
    mask : bool `[X, Y, Z]`
    csf, grey, white : float32 `[X, Y, Z]`, fractions that sum to 1 inside the mask
    regional : float32 `[X, Y, Z]`, T1 intensity deviation in units of white matter
    deep : float32 `[X, Y, Z]`, weight of the region that holds the deep grey nuclei
    ventricle : float32 `[X, Y, Z]`, mm from the wall of the lateral ventricles, positive outside them
    """

    mask: NDArray[np.bool_]
    csf: Array
    grey: Array
    white: Array
    regional: Array
    deep: Array
    ventricle: Array


class Anatomy:
    """The draws that make one subject's anatomy, independent of any voxel grid.

    Parameters
    ----------
    rng : numpy.random.Generator
        The subject's anatomy stream.
    config : PhantomConfig
    """

    def __init__(self, rng: np.random.Generator, config: PhantomConfig) -> None:
        self.template: Template = load_template()
        self.config = config
        self.low = [low - _MARGIN_MM for low in FIELD_LOW]
        self.high = [high + _MARGIN_MM for high in FIELD_HIGH]
        self.lattice = [
            np.arange(low, high + 0.5 * _LATTICE_MM, _LATTICE_MM, dtype=np.float64)
            for low, high in zip(self.low, self.high, strict=True)
        ]
        self.shape = tuple(axis.size for axis in self.lattice)
        self.points = _points(self.lattice)

        age = rng.uniform(0.0, 1.0)
        mix = 0.6 * age + 0.4 * rng.uniform(0.0, 1.0, 2)
        self.age = float(age)
        self.ventricle_mm = float(np.interp(mix[0], [0.1, 0.9], config.ventricle_mm))
        self.asymmetry = float(rng.normal(0.0, 0.15))
        self.atrophy = float(np.interp(mix[1], [0.1, 0.9], config.atrophy))
        self.rotation_deg = np.clip(rng.normal(0.0, 1.0, 3), -2.5, 2.5) * config.rotation_deg
        self.scale = 1.0 + np.clip(rng.normal(0.0, 1.0, 3), -2.2, 2.2) * config.scale
        self.shift_mm = np.clip(rng.normal(0.0, 1.0, 3), -2.5, 2.5) * config.shift_mm

        self._displacement = self._draw_displacement(rng)
        self._csf_logit, self._grey_logit, self._sulci = self._draw_folding(rng)
        self._margin = _STRIP_MEAN_MM + np.float32(config.strip_mm) * self._field(rng, 20.0)

    def _field(self, rng: np.random.Generator, spacing: float) -> Array:
        return random_field(rng, spacing, self.low, self.high, self.lattice)

    def _draw_displacement(self, rng: np.random.Generator) -> Array:
        config, template = self.config, self.template
        smooth = np.zeros((3, *self.shape), dtype=np.float32)
        fine = np.zeros_like(smooth)
        for spacing, amplitude in zip(config.deformation_spacing_mm, config.deformation_mm, strict=True):
            for axis in range(3):
                target = smooth if spacing >= _ENVELOPE_MM else fine
                target[axis] += np.float32(amplitude) * self._field(rng, spacing)
        cortex = self._cortex(self.points)
        for axis in range(3):
            fine[axis] += np.float32(config.gyri_mm) * cortex * self._field(rng, _GYRI_SPACING_MM)

        envelope = self._affine(self.points) + smooth.reshape(3, -1)
        self._envelope = (envelope - self.points).reshape(3, *self.shape).astype(np.float32)
        moved = envelope + fine.reshape(3, -1)
        side = 1.0 + self.asymmetry * np.tanh(moved[0] / 15.0)
        moved += np.float32(self.ventricle_mm) * side * template.sample("ventricle_pull", moved)
        return (moved - self.points).reshape(3, *self.shape).astype(np.float32)

    def _cortex(self, points: Array) -> Array:
        """Weight of the cortical ribbon: 1 near the surface, 0 in the depth, on the lattice."""
        depth = self.template.sample("depth", points)
        return np.clip((30.0 - depth) / 12.0, 0.0, 1.0).reshape(self.shape).astype(np.float32)

    def _draw_folding(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Log-odds offsets of fluid and grey matter, and the field whose zero level is the subject's own sulci."""
        cortex = self._cortex(self.points)
        regional_atrophy = 1.0 + 0.25 * self._field(rng, 35.0)
        csf = 0.7 * self.config.gyri_logit * self._field(rng, 5.0) + self.atrophy * regional_atrophy
        grey = self.config.gyri_logit * (0.7 * self._field(rng, 6.0) - 1.2)
        sulci = self._field(rng, _SULCI_SPACING_MM) + 4.0 * (1.0 - cortex)
        return (csf * cortex).astype(np.float32), (grey * cortex).astype(np.float32), sulci.astype(np.float32)

    def _affine(self, points: Array) -> Array:
        matrix = turned(np.diag(self.scale), self.rotation_deg)
        inverse = np.linalg.inv(matrix).astype(np.float32)
        centre = _BRAIN_CENTRE.astype(np.float32)[:, None]
        return inverse @ (points - centre - self.shift_mm.astype(np.float32)[:, None]) + centre

    def coarse(self) -> tuple[Array, dict[str, Array]]:
        """The anatomy on the 4 mm lattice: points `[3, N]` in mm and the maps by name `[N]`.

        The maps are the brain's `depth`, the distance to the `ventricle`, and the fractions `csf`, `grey`, `white`.
        """
        q = self.points + self._displacement.reshape(3, -1)
        csf, grey = self._fractions(q, self._csf_logit.ravel(), self._grey_logit.ravel(), self._sulci.ravel())
        maps = {"ventricle": self.template.sample("ventricle", q), "depth": self._depth(self._envelope).ravel()}
        return self.points, {**maps, "csf": csf, "grey": grey, "white": 1.0 - csf - grey}

    def _depth(self, envelope: Array) -> Array:
        """Distance in mm to the subject's brain surface on the lattice, positive inside."""
        return self.template.sample("depth", self.points + envelope.reshape(3, -1)).reshape(self.shape) + self._margin

    def _fractions(self, q: Array, csf_offset: Array, grey_offset: Array, sulci: Array) -> tuple[Array, Array]:
        """Softmax of the sharpened template log-odds plus this subject's offsets at template points `q [3, N]`.

        The zero level of `sulci` is a set of sheets: fluid opens along them where the mean brain is cortex, and grey
        matter lines them into the white matter below.
        """
        power = np.float32(self.config.sharpness)
        fold = np.float32(self.config.gyri_logit)
        squared = sulci * sulci
        csf_offset = csf_offset + fold * 4.2 * np.exp(squared * np.float32(-1.0 / 0.15**2))
        grey_offset = grey_offset + fold * 3.0 * np.exp(squared * np.float32(-1.0 / 0.4**2))
        csf = np.exp(np.minimum(power * self.template.sample("csf_logit", q) + csf_offset, 60.0))
        grey = np.exp(np.minimum(power * self.template.sample("grey_logit", q) + grey_offset, 60.0))
        total = 1.0 + csf + grey
        return csf / total, grey / total

    def tissue(self, voxel_size: float, displacement: Displacement | None = None) -> Tissue:
        """Tissue fractions on the phantom's grid, averaged over each voxel.

        Parameters
        ----------
        voxel_size : float
            Millimetres. From 1.4 mm up, every voxel is the mean of 2 x 2 x 2 points.
        displacement : callable, optional
            A further backward displacement (mass effect of a lesion).
        """
        full = grid_axes(voxel_size)
        warp = self._displacement
        if displacement is not None:
            shift = displacement(self.points)
            nodes = (self.points + shift - np.array(self.low, dtype=np.float32)[:, None]) / np.float32(_LATTICE_MM)
            warp = sample_linear(warp, nodes).reshape(warp.shape) + shift.reshape(warp.shape)
        q = self.points + warp.reshape(3, -1)
        depth_nodes = self._depth(self._envelope)
        ventricle_nodes = self.template.sample("ventricle", q).reshape(self.shape)

        # Only the brain's bounding box is worked on.
        crop, axes = self._bounding_box(depth_nodes, full)
        mask = resample_lattice(depth_nodes, self.lattice, axes) > 0
        parts = 2 if voxel_size >= 1.4 else 1
        fine_axes = _split(axes, parts)
        fine_mask = mask
        for axis in range(3):
            fine_mask = np.repeat(fine_mask, parts, axis=axis)
        position = np.meshgrid(*[axis.astype(np.float32) for axis in fine_axes], indexing="ij", sparse=True)
        fine_q = np.stack(
            [(resample_lattice(warp[axis], self.lattice, fine_axes) + position[axis])[fine_mask] for axis in range(3)]
        )
        offsets = [
            resample_lattice(values, self.lattice, fine_axes)[fine_mask]
            for values in (self._csf_logit, self._grey_logit, self._sulci)
        ]
        csf_points, grey_points = self._fractions(fine_q, *offsets)

        def voxels(values: Array) -> Array:
            fine = np.zeros(fine_mask.shape, dtype=np.float32)
            fine[fine_mask] = values
            for axis in range(3):
                if parts > 1:
                    low = [slice(None)] * 3
                    high = [slice(None)] * 3
                    low[axis], high[axis] = slice(0, None, 2), slice(1, None, 2)
                    fine = 0.5 * (fine[tuple(low)] + fine[tuple(high)])
            return fine

        def place(values: Array) -> Array:
            out = np.zeros([axis.size for axis in full], dtype=np.float32)
            out[crop] = np.where(mask, values, 0.0)
            return out

        csf, grey = voxels(csf_points), voxels(grey_points)
        points = np.meshgrid(*[axis.astype(np.float32) for axis in axes], indexing="ij", sparse=True)
        centre_q = np.stack(
            [(resample_lattice(warp[axis], self.lattice, axes) + points[axis])[mask] for axis in range(3)]
        )
        regional = np.zeros(mask.shape, dtype=np.float32)
        regional[mask] = self.template.sample("regional", centre_q)
        return Tissue(
            mask=place(mask.astype(np.float32)) > 0,
            csf=place(csf),
            grey=place(grey),
            white=place(1.0 - csf - grey),
            regional=place(regional),
            deep=place(resample_lattice(self._deep(q), self.lattice, axes)),
            ventricle=place(resample_lattice(ventricle_nodes, self.lattice, axes)),
        )

    def _deep(self, q: Array) -> Array:
        """Soft box (MNI) around thalamus and basal ganglia, inside the insular cortex."""
        x, y, z = q.reshape(3, *self.shape)

        def edge(distance: Array) -> Array:
            return 0.5 * (1.0 + np.tanh(distance / 3.0))

        inside = edge(34.0 - np.abs(x)) * edge(26.0 - y) * edge(y + 36.0) * edge(24.0 - z) * edge(z + 14.0)
        return inside.astype(np.float32)

    def _bounding_box(self, depth: Array, full: Axes) -> tuple[tuple[slice, slice, slice], list[NDArray[np.float64]]]:
        inside = depth > -_LATTICE_MM
        slices, axes = [], []
        for axis in range(3):
            hit = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
            low, high = self.lattice[axis][hit[0]], self.lattice[axis][hit[-1]]
            keep = np.flatnonzero((full[axis] >= low) & (full[axis] <= high))
            slices.append(slice(int(keep[0]), int(keep[-1]) + 1))
            axes.append(full[axis][keep])
        return (slices[0], slices[1], slices[2]), axes

    def parameters(self) -> dict[str, Any]:
        """The draws of interest as JSON-able values."""
        return {
            "age_index": self.age,
            "ventricle_mm": self.ventricle_mm,
            "ventricle_asymmetry": self.asymmetry,
            "atrophy": self.atrophy,
            "rotation_deg": self.rotation_deg.tolist(),
            "scale": self.scale.tolist(),
            "shift_mm": self.shift_mm.tolist(),
        }
