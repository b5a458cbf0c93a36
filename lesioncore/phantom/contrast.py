"""From tissue fractions to scanner intensities: contrast, texture, bias field, Rician noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lesioncore.phantom.anatomy import Tissue
from lesioncore.phantom.config import PhantomConfig
from lesioncore.phantom.fields import Array, Axes, random_field
from lesioncore.phantom.template import FIELD_HIGH, FIELD_LOW


@dataclass(frozen=True)
class Sequence:
    """Mean intensity and subject-to-subject standard deviation of each tissue, white matter of the mean brain = 1.

    `regional` multiplies the regional deviation seen on T1; `deep` is added to deep grey matter; `periventricular` is
    the sign of the ageing signal change in white matter.
    """

    csf: tuple[float, float]
    grey: tuple[float, float]
    white: tuple[float, float]
    deep: tuple[float, float]
    regional: float
    periventricular: float


# T1w (magnetisation-prepared gradient echo): levels of the ICBM152 T1 average. T2w (turbo spin echo at 3 T).
SEQUENCES = {
    "T1w": Sequence((0.31, 0.03), (0.72, 0.025), (1.0, 0.02), (0.0, 0.015), 1.0, -1.0),
    "T2w": Sequence((2.75, 0.20), (1.36, 0.05), (1.0, 0.03), (-0.10, 0.04), -1.1, 1.0),
}


@dataclass(frozen=True)
class Levels:
    """One subject's tissue intensities in units of the mean brain's white matter."""

    csf: float
    grey: float
    white: float
    deep: float
    regional: float
    periventricular: float

    @classmethod
    def draw(cls, rng: np.random.Generator, contrast: str, config: PhantomConfig) -> Levels:
        """Draw the levels of one subject for `contrast`."""
        mean = SEQUENCES[contrast]
        draws = np.clip(rng.normal(0.0, 1.0, 4), -2.5, 2.5) * config.contrast_spread
        csf, grey, white, deep = (
            float(level + spread * draw)
            for (level, spread), draw in zip((mean.csf, mean.grey, mean.white, mean.deep), draws, strict=True)
        )
        regional = mean.regional * rng.uniform(*config.regional_contrast)
        periventricular = mean.periventricular * rng.uniform(*config.periventricular)
        return cls(csf, grey, white, deep, float(regional), float(periventricular))

    def parameters(self) -> dict[str, float]:
        """The levels as JSON-able values."""
        return asdict(self)


def healthy_signal(tissue: Tissue, levels: Levels, age: float, axes: Axes, rng: np.random.Generator) -> Array:
    """Noise-free intensity of the healthy brain `[X, Y, Z]`, before texture and bias."""
    signal = levels.csf * tissue.csf + levels.grey * tissue.grey + levels.white * tissue.white
    signal += levels.deep * tissue.deep * tissue.grey
    signal += levels.regional * tissue.regional * (1.0 - tissue.csf)

    # Caps and bands: strongest at the wall, patchy, growing with age.
    patch = np.clip(0.6 + 0.8 * random_field(rng, 9.0, FIELD_LOW, FIELD_HIGH, axes), 0.0, 2.0)
    near = np.exp(-np.maximum(tissue.ventricle, 0.0) / 4.0)
    amount = levels.periventricular * abs(levels.grey - levels.white) * (0.3 + 0.7 * age)
    signal += amount * near * patch * tissue.white
    return np.asarray(signal, dtype=np.float32)


class Artefacts:
    """Texture, bias field, noise and gain of one acquisition."""

    def __init__(self, rng: np.random.Generator, config: PhantomConfig) -> None:
        self._rng = rng
        self.texture = config.texture
        self.bias = float(rng.uniform(*config.bias))
        self.snr = float(rng.uniform(*config.snr))
        self.gain = float(np.exp(rng.uniform(*np.log(config.gain))))

    def apply(self, signal: Array, tissue: Tissue, levels: Levels, axes: Axes, voxel_size: float) -> Array:
        """Scanner image of `signal`: whole numbers, at least 1 inside the brain and exactly 0 outside."""
        rng = self._rng
        coarse, fine, bias = (random_field(rng, spacing, FIELD_LOW, FIELD_HIGH, axes) for spacing in (11.0, 4.0, 60.0))
        # White matter is smoother than the cortex at the finest scale and varies more slowly along its tracts.
        texture = self.texture * (coarse * (0.5 + 0.5 * tissue.white) + fine * (1.0 - 0.4 * tissue.white))
        field = np.exp(self.bias * bias + texture)
        image = signal * field
        sigma = levels.white / self.snr * voxel_size**-1.5
        crop = _bounding_box(tissue)
        part = image[crop]
        noise = sigma * rng.standard_normal((2, *part.shape), dtype=np.float32)
        noisy = np.hypot(part + noise[0], noise[1])
        out = np.zeros(signal.shape, dtype=np.float32)
        # A skull-stripped scan marks the background by 0, so no brain voxel may hold it.
        out[crop] = np.where(tissue.mask[crop], np.maximum(np.rint(noisy * self.gain), 1.0), 0.0)
        return out

    def parameters(self) -> dict[str, Any]:
        """The draws of interest as JSON-able values."""
        return {"bias": self.bias, "snr_1mm": self.snr, "gain": self.gain}


def _bounding_box(tissue: Tissue) -> tuple[slice, slice, slice]:
    slices = []
    for axis in range(3):
        hit = np.flatnonzero(tissue.mask.any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return slices[0], slices[1], slices[2]
