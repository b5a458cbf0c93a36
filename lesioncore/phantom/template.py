"""The ICBM152 tissue maps that nilearn ships, as the population's mean anatomy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Field of view of every phantom in millimetres (MNI): the template's brain and room for a larger one. Each side is a
# multiple of 4 mm, so that 1, 2 and 4 mm grids share their outer faces.
FOV_LOW = (-92.0, -124.0, -88.0)
FOV_HIGH = (92.0, 88.0, 96.0)

# Box that every random field's control points cover; changing it changes every subject.
FIELD_LOW = (-92.0, -124.0, -84.0)
FIELD_HIGH = (92.0, 88.0, 96.0)

_COARSE_MM = 2.0
_COARSE_MAPS = frozenset({"depth", "ventricle", "ventricle_pull"})
_LOG_FLOOR = 0.01


def scipy_ndimage() -> ModuleType:
    """Return `scipy.ndimage`, or say which extra brings it."""
    try:
        import scipy.ndimage
    except ImportError as error:
        raise ImportError("the phantom needs scipy; install it with: pip install 'lesioncore[phantom]'") from error
    return scipy.ndimage


@dataclass(frozen=True)
class Template:
    """Mean anatomy, on two grids whose first voxel's centre is `origin` (mm).

    Attributes
    ----------
    grey_logit, csf_logit : float32 `[X, Y, Z]`, 1 mm
        Log-odds of grey matter and of cerebrospinal fluid against white matter.
    regional : float32 `[X, Y, Z]`, 1 mm
        T1 intensity not explained by the tissue fractions (myelin, iron), in units of the white-matter intensity.
    depth : float32, 2 mm
        Signed distance in mm to the brain's surface, positive inside.
    ventricle : float32, 2 mm
        Signed distance in mm to the lateral ventricles' wall, positive outside.
    ventricle_pull : float32 `[3, ...]`, 2 mm
        Backward displacement field that moves the ventricles' wall outward by 1 mm.
    """

    origin: NDArray[np.float64]
    coarse_origin: NDArray[np.float64]
    grey_logit: Array
    csf_logit: Array
    regional: Array
    depth: Array
    ventricle: Array
    ventricle_pull: Array

    def sample(self, name: str, points: Array) -> Array:
        """Linear interpolation of the map `name` at `points [3, N]` in mm; the border is continued outside."""
        values: Array = getattr(self, name)
        origin, spacing = (self.coarse_origin, _COARSE_MM) if name in _COARSE_MAPS else (self.origin, 1.0)
        coordinates = (points - origin[:, None].astype(np.float32)) / np.float32(spacing)
        return sample_linear(values, coordinates)


def sample_linear(values: Array, coordinates: Array) -> Array:
    """Linear interpolation of `values [(C,) X, Y, Z]` at voxel `coordinates [3, N]`: `[(C,) N]`."""
    interpolate = scipy_ndimage().map_coordinates
    if values.ndim == 4:
        return np.stack([sample_linear(channel, coordinates) for channel in values])
    return np.asarray(interpolate(values, coordinates, order=1, mode="nearest", output=np.float32), dtype=np.float32)


def read_maps() -> tuple[Array, Array, Array, NDArray[np.float64]]:
    """T1w intensity, grey and white matter (0 to 1) of the ICBM152 template at 1 mm, `[X, Y, Z]`, and their affine."""
    # nilearn's public loaders rescale and mask these maps, which takes seconds and removes grey matter's outer tail.
    try:
        import nilearn
    except ImportError as error:
        raise ImportError("the phantom needs nilearn; install it with: pip install 'lesioncore[phantom]'") from error
    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    maps, affine = [], np.eye(4)
    for name in ("t1", "gm", "wm"):
        path = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
        if not path.is_file():
            raise FileNotFoundError(
                f"nilearn {nilearn.__version__} does not hold the ICBM152 map {path.name}; "
                "install a version that does: pip install 'lesioncore[phantom]'"
            )
        image = nib.nifti1.load(path)
        maps.append(np.asarray(image.dataobj, dtype=np.float32))
        affine = np.asarray(image.affine, dtype=np.float64)
    return maps[0], maps[1] / 255.0, maps[2] / 255.0, affine


def _signed_distance(inside: NDArray[np.bool_], spacing: float) -> Array:
    ndimage = scipy_ndimage()
    outward = ndimage.distance_transform_edt(~inside)
    inward = ndimage.distance_transform_edt(inside)
    return ((inward - outward) * spacing).astype(np.float32)


def _lateral_ventricles(csf: Array, origin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The largest central body of fluid on the coarse grid: lateral ventricles without the fissures."""
    ndimage = scipy_ndimage()
    x, y, z = (origin[axis] + _COARSE_MM * np.arange(csf.shape[axis]) for axis in range(3))
    box = (np.abs(x)[:, None, None] < 40) & ((y > -60) & (y < 42))[None, :, None] & ((z > -8) & (z < 34))[None, None, :]
    # Between the ventricles' bodies and the callosal cistern above and the quadrigeminal cistern behind there is no
    # fluid-free gap in the average, so those are cut off by position.
    cistern = (np.abs(x)[:, None, None] < 12) & (y < -26)[None, :, None] & (z < 40)[None, None, :]
    labels, _ = ndimage.label((csf > 0.5) & box & ~cistern)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = sizes > 0.2 * sizes.max()
    kept[0] = False
    return np.asarray(kept[labels])


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the ICBM152 maps and derive what the simulation samples from (about two seconds, then cached)."""
    ndimage = scipy_ndimage()
    t1, grey, white, affine = read_maps()
    origin = affine[:3, 3].astype(np.float64)
    brain = t1 > 0
    csf = np.clip(1.0 - grey - white, 0.0, 1.0)

    log_white = np.log(white + _LOG_FLOOR)
    pure = [t1[brain & (map_ > 0.9)].mean() for map_ in (csf, grey, white)]
    explained = pure[0] * csf + pure[1] * grey + pure[2] * white
    # Near the surface the average mixes skull and sinuses into the tissue, which is no property of it.
    deep = ndimage.gaussian_filter(ndimage.binary_erosion(brain, iterations=5).astype(np.float32), 2.0)
    regional = ndimage.gaussian_filter(np.where(brain, t1 - explained, 0.0), 1.0) * deep

    # The margin keeps a surface where the average is cut by its field of view.
    pad = 16
    coarse_brain = np.pad(brain, pad)[::2, ::2, ::2]
    # The average's mask is open around the sella; the envelope of a skull-stripped brain is not.
    coarse_brain = ndimage.binary_closing(coarse_brain, iterations=5)
    for k in range(coarse_brain.shape[2]):
        coarse_brain[:, :, k] = ndimage.binary_fill_holes(coarse_brain[:, :, k])
    coarse_csf = np.pad(csf * brain, pad)[::2, ::2, ::2]
    coarse_origin = origin - pad
    depth = _signed_distance(coarse_brain, _COARSE_MM)
    inside = _lateral_ventricles(coarse_csf, coarse_origin)
    ventricle = -_signed_distance(inside, _COARSE_MM)
    smooth = ndimage.gaussian_filter(ventricle, 1.5)
    normal = np.stack(np.gradient(smooth, _COARSE_MM)).astype(np.float32)
    reach = np.exp(-((np.where(ventricle > 0, ventricle / 14.0, ventricle / 6.0)) ** 2)).astype(np.float32)
    return Template(
        origin=origin,
        coarse_origin=coarse_origin,
        grey_logit=(np.log(grey + _LOG_FLOOR) - log_white).astype(np.float32),
        csf_logit=(np.log(csf + _LOG_FLOOR) - log_white).astype(np.float32),
        regional=(regional / pure[2]).astype(np.float32),
        depth=depth,
        ventricle=smooth.astype(np.float32),
        ventricle_pull=-normal * reach,
    )
