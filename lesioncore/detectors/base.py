"""The interface of all detectors: a score of how lesion-like each voxel of a scan is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.calibration.record import Calibration
from lesioncore.data.arrays import to_numpy
from lesioncore.data.nifti import make_image
from lesioncore.data.stack import SliceStack
from lesioncore.engine.device import resolve_device
from lesioncore.engine.progress import ProgressBar
from lesioncore.models.prior import PriorMetadata
from lesioncore.preprocess.pipeline import Step
from lesioncore.restoration.remarks import warn_of_slices, warn_unusual
from lesioncore.restoration.scan import Scan, prepare, prepare_all
from lesioncore.restoration.volumes import Volume, check_several, read_mask
from lesioncore.scoring.postprocess import PostProcessing
from lesioncore.scoring.spread_map import SpreadMap

Sign: TypeAlias = Literal[1, -1] | None
"""Lesions are brighter (+1) or darker (-1) than healthy tissue, or may be either (None)."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called as ``progress(done, all)``, in units of the detector's own."""


@dataclass(frozen=True)
class ScanScore:
    """Score of a scan on its own voxels.

    Attributes
    ----------
    values : ndarray
        In the scan's storage order; 0 outside the brain.
    spread : float or None
        Spread of the deviation behind it, z-scores (:func:`lesioncore.scoring.spread.robust_spread`); None if there is
        none.
    """

    values: np.ndarray
    spread: float | None = None


class Detector(ABC):
    """Scores each voxel of a scan, higher for what is more likely a lesion.

    A subclass gives :meth:`score_stacks`; all else follows from it.

    Attributes
    ----------
    name : str
        What it is called in tables and on the command line.
    metadata : PriorMetadata
        Grid and intensities of the slices it works on, and its thresholds, if there are any; what it lacks is left as
        it is in the scan.
    smoothing : float
        Standard deviation, mm, of the Gaussian that smooths what it scores; 0 for a detector that has none.
    bounded : bool
        Its scores lie in [0, 1], as probabilities and ranks do.
    normalized : bool
        The values of the scans are z-scores of the detector's intensity scale already.
    preprocess : tuple of {"extract", "register", "bias"} or None
        How scans are preprocessed (:func:`lesioncore.preprocess.pipeline.preprocess`); None as the model was trained.
        May be set.
    tv_weight : float or None
        Data-consistency weight, for a detector that has one.
    spread_map : bool
        Scores are divided by healthy people's spread at each place, so that a person's follow from the others'.
    postprocessing : PostProcessing
        How its masks are cleaned; may be set. Thresholds do not depend on it.
    """

    name: str
    metadata: PriorMetadata
    smoothing: float = 0.0
    bounded: bool = False
    normalized: bool = False
    preprocess: tuple[Step, ...] | None = None
    tv_weight: float | None = None
    spread_map: bool = False
    postprocessing: PostProcessing = PostProcessing()

    @abstractmethod
    def score_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """Score slices on the detector's own grid.

        Parameters
        ----------
        stacks : sequence of SliceStack
            Prepared scans.
        device : str or torch.device
            As for :func:`lesioncore.restore`.
        progress : callable, optional
            Called as ``progress(done, all)``.

        Returns
        -------
        list of Tensor
            ``[N, 1, H, W]`` float32 on the CPU for each stack; 0 outside its mask. A stack's score does not depend on
            the others.
        """

    @property
    def steps(self) -> tuple[Step, ...]:
        """How scans are preprocessed, where `preprocess` leaves it to the model."""
        return self.metadata.preprocessing if self.preprocess is None else self.preprocess

    def settings(self) -> dict[str, Any]:
        """What thresholds belong to: all that changes a score beside model and weight (JSON-able)."""
        return {"detector": self.name, "preprocess": None if self.preprocess is None else list(self.preprocess)}

    def precision_on(self, device: torch.device) -> str | None:
        """What its network multiplies in on a device; None where that is left to torch's own settings."""
        return None

    def __repr__(self) -> str:
        options = {**self._options(), "tv_weight": self.tv_weight, "smoothing": self.smoothing or None}
        options["postprocessing"] = self.postprocessing if self.postprocessing.active else None
        parts = [repr(self.metadata.name), *(f"{key}={value!r}" for key, value in options.items() if value is not None)]
        found = self.calibration
        people = "not calibrated" if found is None else f"calibrated on {found.subjects} healthy scans"
        return f"<{type(self).__name__} {', '.join(parts)}; {people}>"

    def _options(self) -> dict[str, Any]:
        """The settings that tell it from others of its class, None for those that are not worth a word."""
        return {key: value for key, value in self.settings().items() if key not in ("detector", "preprocess")}

    def detect(
        self,
        volume: Volume | Sequence[Volume],
        *,
        mask: Volume | Sequence[Volume] | None = None,
        affine: np.ndarray | None = None,
        device: str | torch.device = "auto",
        progress: Progress | bool | None = None,
    ) -> Any:
        """Score a scan.

        Parameters
        ----------
        volume, mask, affine, device
            As for :func:`lesioncore.restore`.
        progress : bool or callable, optional
            ``True`` shows a bar on a terminal; a callable is called as ``progress(done, all)``.

        Returns
        -------
        image, ndarray or Tensor, or a list of them
            float32, higher is more lesion-like, 0 outside the brain: on the grid, with the affine and in the storage
            order of its input and of the input's kind; a list when a list came in.

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used; the message says what to do.
        """
        target = resolve_device(device)
        scans, several = prepare_all(
            volume, self.metadata, mask=mask, affine=affine, normalized=self.normalized, steps=self.preprocess
        )
        with ProgressBar(progress, self.name) as report:
            scores = self.score_scans(scans, device=target, progress=report)
        calibration = self.calibration
        if calibration is not None:
            for scan, score in zip(scans, scores, strict=True):
                warn_of_slices(scan, calibration, stacklevel=3)
                remarks = calibration.unusual(score.values[scan.brain()], scan.bend, scan.extent, score.spread)
                warn_unusual(remarks, scan, self.metadata, stacklevel=3)
        found = [scan.like_input(score.values) for scan, score in zip(scans, scores, strict=True)]
        return found if several else found[0]

    def thresholds(
        self,
        healthy: Sequence[Volume | SliceStack],
        *,
        masks: Sequence[Volume] | None = None,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> Calibration:
        """Find the thresholds that hold false-positive-rate limits on healthy scans (paper section 2.2.3).

        At most the share of a limit of the healthy brain voxels that were scored lies above its threshold. Scans are
        scored as :meth:`detect` does, each on its own voxels; a :class:`~lesioncore.data.stack.SliceStack` that is no
        prepared scan has no voxels of its own and counts by its pixels on the detector's grid.

        Parameters
        ----------
        healthy : sequence of volumes or SliceStack
            Scans of healthy people that the detector was not trained on, or prepared already.
        masks : sequence of volumes, optional
            Brain masks; derived when absent.
        device : str or torch.device
            As for :meth:`detect`.
        progress : callable, optional
            Called as ``progress(done, all)`` after each scan.

        Returns
        -------
        Calibration
            Attach with ``detector.metadata = detector.metadata.with_calibration(calibration)``.

        Raises
        ------
        ValueError
            If there are no scans, or not as many masks.
        """
        check_several(healthy, masks)
        target = resolve_device(device)
        its_masks: Sequence[Volume | None] = [None] * len(healthy) if masks is None else masks
        stacks = (
            one
            if isinstance(one, SliceStack)
            else prepare(one, self.metadata, mask=mask, normalized=self.normalized, steps=self.preprocess)
            for one, mask in zip(healthy, its_masks, strict=True)
        )
        scores, spread_map = self._healthy_scores(
            stacks, target, lambda done: None if progress is None else progress(done, len(healthy))
        )
        return Calibration(self.settings(), self.tv_weight, scores, self.smoothing, spread_map=spread_map)

    def _healthy_scores(
        self, stacks: Iterable[SliceStack], device: torch.device, progress: Callable[[int], None]
    ) -> tuple[HealthyScores, SpreadMap | None]:
        """Scores of healthy people, and the map by which they are divided; called back with those that are done."""
        summaries = []
        for done, stack in enumerate(stacks, start=1):
            if isinstance(stack, Scan):
                (score,) = self.score_scans([stack], device=device)
                values, spread = score.values[stack.brain()], score.spread
            else:
                values, spread = self.score_stacks([stack], device=device)[0][stack.mask].numpy(), None
            summaries.append(HealthyScores.of(values, stack.bend, stack.extent, spread))
            progress(done)
        return merged(summaries), None

    @property
    def calibration(self) -> Calibration | None:
        """The metadata's calibration, if it was made for these settings."""
        found = self.metadata.calibration
        return None if found is None else found.for_settings(self.settings(), self.tv_weight, self.smoothing)

    def mask(
        self,
        score: Any,
        fpr: float = 0.05,
        *,
        risk: float | None = None,
        brain: Volume | None = None,
        affine: np.ndarray | None = None,
    ) -> Any:
        """Detected lesion at a false-positive-rate limit.

        Parameters
        ----------
        score : image, ndarray or Tensor
            From :meth:`detect`.
        fpr : float
            At most this share of the calibration's healthy brain voxels lies above the threshold.
        risk : float, optional
            Bound people instead: a new healthy person exceeds `fpr` with at most this probability
            (:meth:`lesioncore.calibration.healthy.HealthyScores.threshold`).
        brain : path, nibabel image, ndarray or Tensor, optional
            Brain mask on the score's grid; nothing beyond it is detected. The detector's `postprocessing`, if there is
            any, needs it.
        affine : ndarray, optional
            4 x 4 voxel-to-world matrix (mm) of a score that is an array or a tensor, for `postprocessing` as well.

        Returns
        -------
        image, ndarray or Tensor
            Bool, of the kind of `score`.

        Raises
        ------
        ValueError
            If the detector has no thresholds for its settings, or `fpr` is out of their range; if `brain` lies on
            another grid; or if masks are to be cleaned, but the brain or the size of the voxels is not given.
        """
        if self.calibration is None:
            raise ValueError(
                f"mask: detector {self.name!r} has no thresholds for its settings {self.settings()}; set"
                " detector.metadata = detector.metadata.with_calibration(detector.thresholds(healthy)) on healthy scans"
            )
        threshold = self.calibration.threshold(fpr, risk)
        if isinstance(score, SpatialImage):
            found = self._clean(np.asanyarray(score.dataobj) > threshold, brain, score.affine)
            return make_image(found, score.affine, header=score.header)
        found = self._clean(to_numpy(score, "score") > threshold, brain, affine)
        return torch.from_numpy(found).to(score.device) if isinstance(score, Tensor) else found

    def _clean(self, detected: np.ndarray, brain: Volume | None, affine: np.ndarray | None) -> np.ndarray:
        inside = None if brain is None else read_mask(brain, detected.shape, affine, name="brain")
        if inside is not None:
            detected = detected & inside
        if not self.postprocessing.active:
            return detected
        if inside is None:
            raise ValueError(f"brain: got none, expected the brain mask, which {self.postprocessing} needs")
        return self.postprocessing.clean(detected, inside, None if affine is None else voxel_sizes(affine))

    def score_scans(
        self, scans: Sequence[Scan], *, device: torch.device, progress: Progress | None = None
    ) -> list[ScanScore]:
        """Scores on prepared scans' own voxels."""
        scores = self.score_stacks(scans, device=device, progress=progress)
        return [ScanScore(scan.residual(score)) for scan, score in zip(scans, scores, strict=True)]


def check_sign(sign: Sign) -> Sign:
    """Return `sign`, or raise ``ValueError`` if it is none of 1, -1 and None."""
    if sign not in (1, -1, None):
        raise ValueError(f"sign: got {sign!r}, expected 1 (bright lesions), -1 (dark lesions) or None (either)")
    return sign
