"""Preprocessing of a raw scan: brain extraction, registration to the template, bias correction, each on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.preprocess.mask import brain_mask, no_contrast
from lesioncore.preprocess.template import template_depth

Step = Literal["extract", "register", "bias"]
STEPS: tuple[Step, ...] = get_args(Step)
"""All steps, in the order in which they are done."""

LARGEST_BRAIN = 2100.0
"""Volume, ml, that no brain reaches: a larger one has its skull, or its header is wrong."""

_LEAK = 0.02  # share of a brain that lies beyond the template's, after which the registration is made anew

SMALLEST_BRAIN = 850.0
"""Volume, ml, below which an adult's extracted brain is remarked on: voxel sizes in the header may be wrong."""


@dataclass(frozen=True)
class StepRecord:
    """Record of one step.

    Attributes
    ----------
    name : str
        The step.
    figures : dict
        What it decided and by which figures (JSON-able).
    seconds : float
        How long it took.
    """

    name: str
    figures: dict[str, Any]
    seconds: float


@dataclass(frozen=True, eq=False)
class PreprocessedScan:
    """A scan after the steps, on its own grid and in its own storage order.

    Attributes
    ----------
    values : ndarray
        ``[X, Y, Z]`` float32, without its bias field if that step was done.
    brain : ndarray
        ``[X, Y, Z]`` bool: the brain.
    to_template : ndarray or None
        ``[4, 4]`` from the scan's world (mm) to the template's (ICBM152 2009a, mm); None where it was not registered.
    steps : tuple of StepRecord
        What was done.
    bias : ndarray or None
        ``[X, Y, Z]`` float32, the field that `values` was divided by; None where it was not estimated.
    """

    values: npt.NDArray[np.float32]
    brain: npt.NDArray[np.bool_]
    to_template: npt.NDArray[np.float64] | None
    steps: tuple[StepRecord, ...] = field(default=())
    bias: npt.NDArray[np.float32] | None = None

    def log(self) -> list[dict[str, Any]]:
        """The steps, JSON-able."""
        return [asdict(step) for step in self.steps]


def check_steps(steps: Iterable[str]) -> tuple[Step, ...]:
    """Check the steps and sort them into the order in which they are done.

    Raises
    ------
    ValueError
        If one is unknown or named twice.
    """
    given = list(steps)
    unknown = [step for step in given if step not in STEPS]
    if unknown or len(set(given)) != len(given):
        raise ValueError(f"preprocess: got {given}, expected some of {list(STEPS)}, each once")
    return tuple(step for step in STEPS if step in given)


def parse_steps(text: str) -> tuple[Step, ...] | None:
    """Read steps from a command line: ``auto`` (None), ``none`` (no step), or names separated by commas.

    Raises
    ------
    ValueError
        As :func:`check_steps`.
    """
    if text == "auto":
        return None
    return check_steps(() if text == "none" else (name.strip() for name in text.split(",")))


def preprocess(
    values: npt.NDArray[np.float32],
    affine: npt.NDArray[np.float64],
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    steps: Sequence[Step] = STEPS,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> PreprocessedScan:
    """Find the brain, register it to the template and take the bias field off.

    Parameters
    ----------
    values : ndarray
        ``[X, Y, Z]`` float32, as stored; what is NaN is background.
    affine : ndarray
        ``[4, 4]``, voxel indices to mm (RAS+).
    mask : ndarray, optional
        ``[X, Y, Z]`` bool: a brain mask. The brain lies within it.
    steps : sequence of {"extract", "register", "bias"}
        What to do. ``"extract"`` finds the brain by the network of :mod:`lesioncore.preprocess.extraction`, also in a
        scan without its skull, so that brains end at the same place whoever stripped them: it gives the core, without
        the rim of CSF. Where the scan is registered as well, the template has a say (:func:`template_depth`): what lies
        far beyond its brain, such as a neck, is no brain, and what lies deep in it is, such as a dark lesion that the
        network took for fluid. Without it the brain is `mask`, or what the constant background leaves; and where
        neither is a brain, since the scan has its skull, it is extracted all the same.
        ``"register"`` (:mod:`lesioncore.preprocess.registration`) needs SimpleITK, and so does ``"bias"``
        (:mod:`lesioncore.preprocess.bias`), which registers for itself where that was not asked for.
    device : str or torch.device
        Where the network runs.
    progress : callable, optional
        Called as ``progress(done, all)`` after each step.

    Raises
    ------
    ValueError
        If no brain is found, the registration fails, NaN lie within `mask`, or an argument cannot be used.
    ImportError
        If SimpleITK, of the extra ``preprocess``, is needed and missing.
    """
    wanted = check_steps(steps)
    done: list[StepRecord] = []

    def finish(name: str, figures: dict[str, Any], start: float) -> None:
        done.append(StepRecord(name, figures, round(time.perf_counter() - start, 3)))
        if progress is not None:
            progress(len(done), max(len(done), len(wanted)))

    missing = np.isnan(values)
    if missing.any():
        within = 0 if mask is None else int(np.count_nonzero(missing & mask))
        if within:
            raise within_mask(within)
        values = np.where(missing, min(np.float32(0), np.fmin.reduce(values, axis=None)), values)
    start = time.perf_counter()
    background = None if "extract" in wanted or mask is not None else background_brain(values, affine)
    if "extract" in wanted or (mask is None and background is None):
        brain, limit, figures = _extract(values, affine, mask, device)
        finish("extract", figures, start)
    else:
        given = mask if mask is not None else background
        assert given is not None
        brain = limit = given
    if not brain.any():
        raise ValueError("mask: no voxel is brain; check that it belongs to this scan")
    to_template = bias = None
    if "register" in wanted or "bias" in wanted:
        start = time.perf_counter()
        brain, matrix, figures = _register(values, affine, brain, limit if "extract" in wanted else None)
        finish("register", figures, start)
        to_template = matrix if "register" in wanted else None
        if "bias" in wanted:
            from lesioncore.preprocess.bias import correct_bias

            start = time.perf_counter()
            values, bias = correct_bias(values, affine, brain, matrix)
            finish("bias", {"log_field_sd": round(float(np.log(bias[brain]).std()), 4)}, start)
    return PreprocessedScan(values, brain & ~missing, to_template, tuple(done), bias)


def within_mask(voxels: int) -> ValueError:
    """The error for a scan in which so many voxels of its brain mask have no intensity."""
    return ValueError(
        f"volume: {voxels} voxels within the mask are NaN or infinite, expected intensities; mend the scan or the mask"
    )


def _register(
    values: npt.NDArray[np.float32],
    affine: npt.NDArray[np.float64],
    brain: npt.NDArray[np.bool_],
    limit: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], dict[str, Any]]:
    """Register the brain; returns the brain, the matrix to the template, and figures.

    Where the brain was extracted, `limit` is what no brain reaches beyond, and the template corrects the brain.
    """
    from lesioncore.preprocess.registration import register

    registration = register(values, affine, brain)
    quality: dict[str, Any] = {}
    if limit is not None:
        depth = template_depth(brain.shape, registration.matrix @ affine)
        near = brain & (depth > 0)
        if np.count_nonzero(near) < (1 - _LEAK) * np.count_nonzero(brain):  # what lies beyond distorted it
            registration = register(values, affine, near)
            depth = template_depth(brain.shape, registration.matrix @ affine)
        deep = (depth == 2) & limit & ~brain
        for name, part in (("beyond_ml", brain & (depth == 0)), ("deep_ml", deep)):
            quality[name] = round(volume_ml(part, affine), 1)
        brain = (brain & (depth > 0)) | deep
    quality |= {name: np.round(figure, 3).tolist() for name, figure in asdict(registration.quality).items()}
    return brain, registration.matrix, quality


def _extract(
    values: npt.NDArray[np.float32],
    affine: npt.NDArray[np.float64],
    mask: npt.NDArray[np.bool_] | None,
    device: str | torch.device,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
    """The core of the brain, within `mask` if there is one, the limit that no brain reaches beyond, and figures."""
    from lesioncore.preprocess.extraction import core_within, extract_brain, head_or_brain

    if mask is None:
        extracted = extract_brain(values, affine, device=device)
        kind: str
        kind, share = head_or_brain(values, affine, extracted)
        stripped_to = background_brain(values, affine) if kind == "brain" else None
    else:
        if not mask.any():
            raise ValueError("mask: no voxel is brain; check that it belongs to this scan")
        # The network knows stripped scans as exactly 0 around the brain.
        stripped = np.where(mask, values - min(0.0, float(values[mask].min())), np.float32(0))
        extracted = extract_brain(stripped, affine, device=device)
        kind, share, stripped_to = "mask", 0.0, mask
    brain = extracted.core if stripped_to is None else core_within(stripped_to, affine, extracted)
    limit = values > values.min() if stripped_to is None else stripped_to  # what was cut off or padded is no brain
    figures = {
        "input": kind,
        "signal_around": round(share, 3),
        "brain_ml": round(volume_ml(brain, affine), 1),
        "mask_ml": round(extracted.volume, 1),
        "confidence": round(extracted.confidence, 4),
    }
    return brain, limit, figures


def background_brain(values: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
    """The brain of a scan without its skull, by its constant background; None where that leaves no brain.

    Raises
    ------
    ValueError
        If the scan is empty.
    """
    if values.min() == values.max():
        raise no_contrast(float(values.flat[0]))
    try:
        return brain_mask(values, largest=LARGEST_BRAIN / (values.size * voxel_ml(affine)))
    except ValueError:  # no background of one value, or hardly any: air and skull are there
        return None


def volume_ml(mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> float:
    """Volume of a mask in ml."""
    return float(np.count_nonzero(mask)) * voxel_ml(affine)


def voxel_ml(affine: npt.NDArray[np.float64]) -> float:
    """Volume of a voxel in ml."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
