"""One simulated subject, healthy or with a lesion."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lesioncore.phantom.anatomy import Anatomy, grid_axes
from lesioncore.phantom.config import PhantomConfig
from lesioncore.phantom.contrast import SEQUENCES, Artefacts, Levels, healthy_signal
from lesioncore.phantom.fields import Array
from lesioncore.phantom.lesions import KINDS, plan_lesion

SPLITS = {"train": 1, "validation": 2, "test": 3, "demo": 4}


@dataclass(frozen=True)
class Phantom:
    """A simulated scan with its ground truth.

    Attributes
    ----------
    image : float32 `[X, Y, Z]`
        Scan in RAS+ order; whole numbers in arbitrary scanner units. That of :func:`simulate` is skull-stripped:
        exactly 0 outside the brain and at least 1 inside.
    brain_mask, lesion_mask : bool `[X, Y, Z]`
        The lesion's mask holds the voxels of which more than half is lesion; it lies inside the brain's.
    affine : float64 `[4, 4]`
        Voxel indices to millimetres of `space`.
    tissue : float32 `[3, X, Y, Z]`
        Fractions of cerebrospinal fluid, grey and white matter before the lesion; they sum to 1 in the brain.
    parameters : dict
        Every random draw of interest, JSON-able.
    space : {"mni", "scanner"}
        Where the affine leads.
    """

    image: Array
    brain_mask: NDArray[np.bool_]
    lesion_mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    tissue: Array
    parameters: dict[str, Any]
    space: str = "mni"

    def nifti(self, name: str = "image") -> nib.nifti1.Nifti1Image:
        """Return `image` (int16), `brain_mask` or `lesion_mask` (uint8) as a NIfTI image.

        Raises
        ------
        ValueError
            If `name` is none of the three.
        """
        if name not in ("image", "brain_mask", "lesion_mask"):
            raise ValueError(f"name: got {name!r}, expected 'image', 'brain_mask' or 'lesion_mask'")
        data = getattr(self, name).astype(np.int16 if name == "image" else np.uint8)
        image = nib.nifti1.Nifti1Image(data, self.affine)
        image.header.set_xyzt_units("mm", "sec")
        image.set_sform(self.affine, code=self.space)
        image.set_qform(self.affine, code=self.space)
        return image


def check_index(name: str, value: object) -> int:
    """Return `value` as an int, or raise ValueError if it is no whole number of at least 0."""
    try:
        index = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        index = -1
    if index < 0 or isinstance(value, bool):
        raise ValueError(f"{name}: got {value!r}, expected a whole number of at least 0")
    return index


def check_arguments(split: str, contrast: str, lesion: str | None, voxel_size: float) -> None:
    """Raise ValueError for a split, contrast, lesion or voxel size that the phantom does not have."""
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, expected one of {', '.join(SPLITS)}")
    if contrast not in SEQUENCES:
        raise ValueError(f"contrast: got {contrast!r}, expected one of {', '.join(SEQUENCES)}")
    if lesion is not None and lesion not in KINDS:
        raise ValueError(f"lesion: got {lesion!r}, expected None or one of {', '.join(KINDS)}")
    number = isinstance(voxel_size, (int, float)) and not isinstance(voxel_size, bool)
    if not number or not math.isfinite(voxel_size) or not 0.5 <= voxel_size <= 8.0:
        raise ValueError(f"voxel_size: got {voxel_size!r}, expected millimetres between 0.5 and 8")


def simulate(
    subject: int,
    *,
    split: str = "test",
    seed: int = 0,
    contrast: str = "T2w",
    lesion: str | None = None,
    voxel_size: float = 2.0,
    config: PhantomConfig | None = None,
) -> Phantom:
    """Simulate one subject.

    The draws of anatomy, contrast, artefacts and lesion come from separate streams of `(seed, split, subject)`: the
    same subject has the same anatomy as T1w and T2w, at any voxel size, healthy or not (a glioma's mass effect moves
    the tissue around it), and two splits never share a stream. The same arguments give the same bytes, whatever the
    number of threads; another kind of processor may round some voxels to the next whole number.

    Parameters
    ----------
    subject : int
        Number of the subject, from 0.
    split : {"train", "validation", "test", "demo"}
    seed : int
        Seed of the population.
    contrast : {"T1w", "T2w"}
    lesion : {None, "glioma", "stroke"}
    voxel_size : float
        Millimetres, 0.5 to 8.
    config : PhantomConfig, optional
        Strengths of the variation.

    Returns
    -------
    Phantom

    Raises
    ------
    ValueError
        If an argument is not among the values above.
    ImportError
        If scipy or nilearn, the extra `phantom`, is missing.
    """
    subject, seed = check_index("subject", subject), check_index("seed", seed)
    check_arguments(split, contrast, lesion, voxel_size)
    config = PhantomConfig() if config is None else config
    streams = np.random.SeedSequence([seed, SPLITS[split], subject]).spawn(4)
    anatomy_rng, contrast_rng, artefact_rng = (np.random.default_rng(stream) for stream in streams[:3])

    anatomy = Anatomy(anatomy_rng, config)
    plan = None if lesion is None else plan_lesion(lesion, streams[3], anatomy, config)
    axes = grid_axes(voxel_size)
    tissue = anatomy.tissue(voxel_size, None if plan is None else plan.displacement())
    levels = Levels.draw(contrast_rng, contrast, config)
    signal = healthy_signal(tissue, levels, anatomy.age, axes, contrast_rng)
    lesion_mask = np.zeros(tissue.mask.shape, dtype=bool)
    parameters: dict[str, Any] = {
        "subject": subject,
        "split": split,
        "seed": seed,
        "contrast": contrast,
        "voxel_size_mm": float(voxel_size),
        "anatomy": anatomy.parameters(),
        "intensity": levels.parameters(),
        "lesion": None,
    }
    if plan is not None:
        maps = plan.maps(tissue, axes, voxel_size)
        signal = plan.apply(signal, maps, levels, contrast)
        lesion_mask = maps.fraction > 0.5
        volume = float(lesion_mask.sum()) * voxel_size**3
        parameters["lesion"] = {**plan.parameters(), "volume_ml": volume / 1000.0}
    artefacts = Artefacts(artefact_rng, config)
    image = artefacts.apply(signal, tissue, levels, axes, voxel_size)
    parameters["artefacts"] = artefacts.parameters()
    parameters["config"] = config.to_dict()
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    return Phantom(
        image=image,
        brain_mask=tissue.mask,
        lesion_mask=lesion_mask,
        affine=affine,
        tissue=np.stack([tissue.csf, tissue.grey, tissue.white]),
        parameters=parameters,
    )
