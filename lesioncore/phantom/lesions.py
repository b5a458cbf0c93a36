"""Lesions with ground truth: glioma-like and stroke-like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesioncore.phantom.anatomy import Anatomy, Displacement, Tissue
from lesioncore.phantom.config import PhantomConfig
from lesioncore.phantom.contrast import Levels
from lesioncore.phantom.fields import Array, Axes
from lesioncore.phantom.growth import LOCAL_MM, LocalGrid, ellipsoid, grow, territory, volume_level
from lesioncore.phantom.template import sample_linear

KINDS = ("glioma", "stroke")


@dataclass(frozen=True)
class LesionMaps:
    """Extent and contents of a lesion on the phantom's grid.

    Attributes
    ----------
    fraction : float32 `[X, Y, Z]`
        Fraction of each voxel that is lesion.
    core : float32 `[X, Y, Z]`
        Fraction of the lesion that is core (solid tumour, infarct cavity); the rest is oedema or gliosis.
    pattern : float32 `[X, Y, Z]`
        Smooth noise of unit variance that varies the lesion's inside.
    """

    fraction: Array
    core: Array
    pattern: Array


@dataclass(frozen=True)
class Lesion:
    """Draws of one lesion. Made by `plan_lesion`; `maps` and `apply` put it into a subject."""

    kind: str
    form: str
    centre: NDArray[np.float64]
    outward: NDArray[np.float64]
    radius_mm: float
    core_radius_mm: float
    mass_mm: float
    irregularity: float
    contrast: float
    targets: dict[str, tuple[float, float]]
    seed: np.random.SeedSequence

    def displacement(self) -> Displacement | None:
        """Backward displacement of the mass effect, or None."""
        if self.mass_mm <= 0:
            return None
        centre = self.centre[:, None].astype(np.float32)
        reach = np.float32(self.core_radius_mm)
        mass = np.float32(self.mass_mm)

        def field(points: Array) -> Array:
            offset = points - centre
            relative = np.linalg.norm(offset, axis=0) / reach
            # Largest at the core's border, linear inside, and below the slope at which tissue would fold.
            size = mass / reach * np.exp(0.5 - 0.5 * relative**2)
            return np.asarray(-offset * size, dtype=np.float32)

        return field

    def maps(self, tissue: Tissue, axes: Axes, voxel_size: float) -> LesionMaps:
        """Grow the lesion through `tissue` (the subject's, mass effect included)."""
        rng = np.random.default_rng(self.seed)
        grid = LocalGrid(self.centre, int(np.ceil((2.0 * self.radius_mm + 12.0) / LOCAL_MM)))
        origin = np.array([axis[0] for axis in axes])
        white, grey, csf = (grid.from_volume(m, origin, voxel_size) for m in (tissue.white, tissue.grey, tissue.csf))
        pattern = 0.75 * grid.noise(rng, 9.0) + 0.66 * grid.noise(rng, 4.5)
        level, core_level, border = self._levels(rng, grid, white, grey)
        # Fluid is spared: sulci and ventricles by a tumour, all but thin sulci by an infarct.
        spared_from, spared_to = (0.0, 1.0) if self.kind == "glioma" else (0.375, 1.0)
        counted = (white + grey + csf > 0.5) & (csf < 0.5 * (spared_from + spared_to))
        edge = volume_level(level, counted, self.radius_mm)
        core_edge = volume_level(np.where(level < edge, core_level, np.float32(1e6)), counted, self.core_radius_mm)

        local = np.stack([edge - level, core_edge - core_level, pattern]).astype(np.float32)
        crop, coordinates = self._voxels(grid, axes)
        shape = tuple(part.stop - part.start for part in crop)
        inward, core, pattern = sample_linear(local, coordinates).reshape(3, *shape)
        blur = 0.5 * voxel_size
        fraction = np.clip(0.5 + inward / (2.0 * max(border, blur)), 0.0, 1.0)
        fraction *= 1.0 - np.clip((tissue.csf[crop] - spared_from) / (spared_to - spared_from), 0.0, 1.0)
        out = {name: np.zeros(tissue.mask.shape, dtype=np.float32) for name in ("fraction", "core", "pattern")}
        out["fraction"][crop] = fraction * tissue.mask[crop]
        out["core"][crop] = np.clip(0.5 + core / (2.0 * max(2.5, blur)), 0.0, 1.0)
        out["pattern"][crop] = pattern
        return LesionMaps(**out)

    def _levels(
        self, rng: np.random.Generator, grid: LocalGrid, white: Array, grey: Array
    ) -> tuple[Array, Array, float]:
        """Levels (mm) of the lesion and of its core, lowest inside, and half the width of the border (mm)."""
        broad, middle, fine = (
            np.float32(self.irregularity) * grid.noise(rng, spacing) for spacing in (20.0, 10.0, 5.0)
        )
        bumps = 1.0 + 0.16 * broad + 0.10 * middle
        border = 1.2
        if self.form == "infiltrating":
            speed = np.exp(np.clip(0.5 * broad + 0.4 * middle, -1.2, 1.2))
            level = grow(white, grey, speed, float(rng.uniform(4.0, 10.0)), self.radius_mm)
            border = float(rng.uniform(1.5, 4.0))
            core_level = ellipsoid(grid, rng, 0.25) * bumps
        elif self.form == "territorial":
            depth = float(rng.uniform(1.3, 2.0)) * self.radius_mm + 6.0
            level = territory(grid, self.outward, depth, float(rng.uniform(0.5, 1.0))) * bumps
            # An infarct stays in its hemisphere and takes the cortex before the deep white matter.
            across = (grid.points[0] * np.float32(np.sign(self.centre[0]))).reshape(grid.shape)
            level = level + 3.0 * np.maximum(2.0 - across, 0.0) + 2.0 * white
            core_level = level * bumps
        else:
            level = ellipsoid(grid, rng, 0.35) * bumps
            core_level = level * bumps
        rough = np.float32(0.9) * fine
        return level + rough, core_level + rough, border

    def _voxels(self, grid: LocalGrid, axes: Axes) -> tuple[tuple[slice, slice, slice], Array]:
        slices, local = [], []
        reach = LOCAL_MM * grid.half
        for axis, centre in zip(axes, self.centre, strict=True):
            keep = np.flatnonzero(np.abs(axis - centre) <= reach)
            slices.append(slice(int(keep[0]), int(keep[-1]) + 1))
            local.append((axis[keep] - centre + reach) / LOCAL_MM)
        mesh = np.meshgrid(*local, indexing="ij")
        return (slices[0], slices[1], slices[2]), np.stack([m.ravel() for m in mesh]).astype(np.float32)

    def apply(self, signal: Array, maps: LesionMaps, levels: Levels, contrast: str) -> Array:
        """Signal with the lesion in it.

        The core replaces tissue by an intensity between grey matter and fluid that varies inside; the rim moves the
        tissue's own intensity part of the way, so that its structure stays visible.
        """
        core_target, rim_target = self.targets[contrast]
        variation = self.irregularity * maps.pattern
        core_value = levels.grey + np.clip(core_target + 0.22 * variation, -0.1, 1.0) * (levels.csf - levels.grey)
        rim_value = levels.grey + np.clip(rim_target + 0.13 * variation, -0.3, 0.9) * (levels.csf - levels.grey)
        keep = 0.25 if self.kind == "glioma" else 0.2
        rim = keep * signal + (1.0 - keep) * rim_value
        core = 0.1 * signal + 0.9 * core_value
        inside = maps.core * core + (1.0 - maps.core) * rim
        change = self.contrast * maps.fraction * (inside - signal)
        return np.asarray(signal + change, dtype=np.float32)

    def parameters(self) -> dict[str, Any]:
        """The draws of interest as JSON-able values."""
        return {
            "kind": self.kind,
            "form": self.form,
            "centre_mm": [round(float(value), 3) for value in self.centre],
            "radius_mm": self.radius_mm,
            "core_radius_mm": self.core_radius_mm,
            "mass_effect_mm": self.mass_mm,
            "intensity_grey_to_csf": {name: list(pair) for name, pair in self.targets.items()},
        }


def _choose(rng: np.random.Generator, points: Array, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One allowed lattice point, moved by up to half a lattice step."""
    if not allowed.any():
        raise RuntimeError("this anatomy leaves no place for the lesion; weaken the deformations of PhantomConfig")
    index = rng.choice(np.flatnonzero(allowed))
    return points[:, index].astype(np.float64) + rng.uniform(-1.5, 1.5, 3)


def plan_lesion(kind: str, seed: np.random.SeedSequence, anatomy: Anatomy, config: PhantomConfig) -> Lesion:
    """Draw a lesion of `kind` for a subject.

    Parameters
    ----------
    kind : {"glioma", "stroke"}
    seed : numpy.random.SeedSequence
        The subject's lesion stream.
    anatomy : Anatomy
        The subject without the lesion; the centre is chosen by its tissue.
    config : PhantomConfig
    """
    plan_seed, map_seed = seed.spawn(2)
    rng = np.random.default_rng(plan_seed)
    points, maps = anatomy.coarse()
    log_low, log_high = np.log(config.lesion_radius_mm)
    radius = float(np.exp(rng.uniform(log_low, log_high)))

    def draw(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    supratentorial = (points[2] > -14.0) & (points[1] > -85.0) & (np.abs(points[0]) > 8.0)
    outward = np.array([0.0, 0.0, 1.0])
    form = "infiltrating"
    if kind == "glioma":
        depth = maps["depth"]
        allowed = supratentorial & (maps["white"] > 0.6) & (depth > min(0.6 * radius, 14.0) + 2.0)
        allowed &= maps["ventricle"] > 2.0
        centre = _choose(rng, points, allowed)
        core_share, mass = draw(0.35, 0.75), draw(*config.mass_effect)
        targets = {
            "T2w": (draw(0.50, 1.00), draw(0.42, 0.82)),
            "T1w": (draw(0.15, 0.65), draw(-0.30, 0.20)),
        }
    else:
        mass = 0.0
        deep = bool(rng.random() < 0.25) and radius < 15.0
        if deep:
            form = "deep"
            allowed = supratentorial & (maps["ventricle"] > 2.0) & (maps["ventricle"] < 22.0) & (maps["csf"] < 0.3)
            allowed &= maps["depth"] > 18.0
        else:
            form = "territorial"
            allowed = supratentorial & (maps["depth"] > 3.0) & (maps["depth"] < 9.0) & (np.abs(points[0]) > 16.0)
        centre = _choose(rng, points, allowed)
        if not deep:
            outward = centre - np.array([0.5 * centre[0], -17.0 + 0.4 * (centre[1] + 17.0), 8.0])
            outward = outward / np.linalg.norm(outward) + 0.25 * rng.standard_normal(3)
            outward /= np.linalg.norm(outward)
        core_share = draw(0.4, 0.8)
        targets = {
            "T1w": (draw(0.65, 1.05), draw(0.35, 0.80)),
            "T2w": (draw(0.55, 1.00), draw(0.30, 0.70)),
        }
    return Lesion(
        kind=kind,
        form=form,
        centre=centre,
        outward=outward,
        radius_mm=radius,
        core_radius_mm=radius * core_share,
        mass_mm=mass * radius * core_share,
        irregularity=config.lesion_irregularity,
        contrast=config.lesion_contrast,
        targets=targets,
        seed=map_seed,
    )
