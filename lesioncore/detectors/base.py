"""The interface of all detectors: a score of how lesion-like each voxel of a scan is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.calibration.record import Calibration
from lesioncore.data.stack import SliceStack
from lesioncore.detectors.masks import detection_mask
from lesioncore.engine.device import resolve_device
from lesioncore.engine.progress import ProgressBar
from lesioncore.models.prior import PriorMetadata
from lesioncore.preprocess.pipeline import Step
from lesioncore.restoration.healthy_scans import healthy_scans
from lesioncore.restoration.prepare import prepare_all
from lesioncore.restoration.remarks import warn_of_slices, warn_unusual
from lesioncore.restoration.scan import Scan
from lesioncore.restoration.volumes import Volume
from lesioncore.scoring.postprocess import PostProcessing
from lesioncore.scoring.spread_map import SpreadMap
from lesioncore.torch_modes import own_modes

Progress: TypeAlias = Callable[[int, int], None]
"""Called as ``progress(done, all)``; the unit of both depends on the detector."""


@dataclass(frozen=True)
class ScanScore:
    """Score of a scan on its own voxels.

    Attributes
    ----------
    values : ndarray
        Scores with the scan's shape and storage order; 0 outside the brain.
    spread : float or None
        Spread in z-scores of the deviation that was scored (:func:`lesioncore.scoring.spread.robust_spread`); None for
        a score that is not made of a deviation.
    """

    values: np.ndarray
    spread: float | None = None


class Detector(ABC):
    """Scores each voxel of a scan; a higher score means that a lesion is more likely.

    A subclass implements :meth:`score_stacks`, on which the other methods build.

    Attributes
    ----------
    name : str
        Name in tables and on the command line.
    metadata : PriorMetadata
        Grid and intensity scale of the slices that the detector scores, and its calibration. Without a grid, or without
        a scale, the scan's own voxels or values are scored.
    smoothing : float
        Standard deviation, mm, of the Gaussian that smooths the deviation before it is scored; 0 for no smoothing.
    bounded : bool
        Scores lie in [0, 1], as probabilities and ranks do.
    normalized : bool
        The values of the scans are z-scores of the detector's intensity scale already.
    preprocess : tuple of {"extract", "register", "bias"} or None
        How scans are preprocessed (:func:`lesioncore.preprocess.pipeline.preprocess`); None for the steps that the
        model was trained with. May be set.
    tv_weight : float or None
        Data-consistency weight, for a detector that has one.
    spread_map : bool
        Deviations are divided by the spread of healthy people's deviations at each place of the template. In a
        calibration, the scores of a person then depend on the other people.
    postprocessing : PostProcessing
        How masks are cleaned; may be set. Thresholds do not depend on it.
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
        """Steps of preprocessing: `preprocess`, or the model's own where that is None."""
        return self.metadata.preprocessing if self.preprocess is None else self.preprocess

    def settings(self) -> dict[str, Any]:
        """Return the settings, beside model and weight, that scores and so thresholds depend on (JSON-able)."""
        return {"detector": self.name, "preprocess": None if self.preprocess is None else list(self.preprocess)}

    def precision_on(self, device: torch.device) -> str | None:
        """Return the number format in which the network multiplies on a device; None if torch's settings decide it."""
        return None

    def __repr__(self) -> str:
        options = {**self._options(), "tv_weight": self.tv_weight, "smoothing": self.smoothing or None}
        options["postprocessing"] = self.postprocessing if self.postprocessing.active else None
        parts = [repr(self.metadata.name), *(f"{key}={value!r}" for key, value in options.items() if value is not None)]
        calibration = self.calibration
        people = "not calibrated" if calibration is None else f"calibrated on {calibration.subjects} healthy scans"
        return f"<{type(self).__name__} {', '.join(parts)}; {people}>"

    def _options(self) -> dict[str, Any]:
        """Settings by which `repr` tells detectors of a class apart; `repr` leaves out those that are None."""
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
            ``True`` shows a bar on a terminal, and a line elsewhere; a callable is called as ``progress(done, all)``.

        Returns
        -------
        image, ndarray or Tensor, or a list of them
            Scores, float32, higher for what is more likely a lesion, 0 outside the brain. They are of the input's kind
            and have its grid, affine and storage order; a list of scans gives a list of scores.

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used; the message says what to do.
        """
        with own_modes():
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
        outputs = [scan.like_input(score.values) for scan, score in zip(scans, scores, strict=True)]
        return outputs if several else outputs[0]

    @own_modes()
    def thresholds(
        self,
        healthy: Sequence[Volume | SliceStack],
        *,
        masks: Sequence[Volume] | None = None,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> Calibration:
        """Find the thresholds that keep false-positive-rate limits on healthy scans (paper section 2.2.3).

        For each limit, at most that share of the scored healthy brain voxels lies above the threshold. Scans are scored
        on their own voxels, as by :meth:`detect`. A :class:`~lesioncore.data.stack.SliceStack` that is not a prepared
        scan has no voxels of its own, so its pixels on the detector's grid are scored.

        Parameters
        ----------
        healthy : sequence of volumes or SliceStack
            Scans of healthy people that the detector was not trained on; they may be prepared already.
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
            If there are no scans, one cannot be used, two are the same, or one is of another contrast by its
            intensities and its name tells none; or if the numbers of scans and masks differ.
        """
        target = resolve_device(device)
        stacks = healthy_scans(healthy, self.metadata, masks=masks, normalized=self.normalized, steps=self.preprocess)
        scores, spread_map = self._healthy_scores(
            stacks, target, lambda done: None if progress is None else progress(done, len(healthy))
        )
        return Calibration(self.settings(), self.tv_weight, scores, self.smoothing, spread_map=spread_map)

    def _healthy_scores(
        self, stacks: Iterable[SliceStack], device: torch.device, progress: Callable[[int], None]
    ) -> tuple[HealthyScores, SpreadMap | None]:
        """Score healthy scans; return the scores with the spread map, if the detector uses one.

        `progress` is called with the number of scans done, after each.
        """
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
        calibration = self.metadata.calibration
        if calibration is None:
            return None
        return calibration.for_settings(self.settings(), self.tv_weight, self.smoothing)

    def mask(
        self,
        score: Any,
        fpr: float = 0.05,
        *,
        risk: float | None = None,
        brain: Volume | None = None,
        affine: np.ndarray | None = None,
    ) -> Any:
        """Detect lesions at a false-positive-rate limit.

        Parameters
        ----------
        score : image, ndarray or Tensor
            From :meth:`detect`.
        fpr : float
            At most this share of the calibration's healthy brain voxels lies above the threshold.
        risk : float, optional
            Choose the threshold so that a new healthy person exceeds `fpr` with at most this probability
            (:meth:`lesioncore.calibration.healthy.HealthyScores.threshold`).
        brain : path, nibabel image, ndarray or Tensor, optional
            Brain mask on the score's grid; nothing is detected outside it. Required if `postprocessing` is active.
        affine : ndarray, optional
            4 x 4 voxel-to-world matrix (mm) of a score that is an array or a tensor. Required if `postprocessing` is
            active.

        Returns
        -------
        image, ndarray or Tensor
            Bool mask of the kind and shape of `score`.

        Raises
        ------
        ValueError
            If the detector has no thresholds for its settings, or `fpr` is out of their range; if `brain` lies on
            another grid; or if `postprocessing` is active, but `brain` or the voxel size is missing.
        """
        if self.calibration is None:
            raise ValueError(
                f"mask: detector {self.name!r} has no thresholds for its settings {self.settings()}; set"
                " detector.metadata = detector.metadata.with_calibration(detector.thresholds(healthy)) on healthy scans"
            )
        threshold = self.calibration.threshold(fpr, risk)
        return detection_mask(score, threshold, self.postprocessing, brain, affine)

    def score_scans(
        self, scans: Sequence[Scan], *, device: torch.device, progress: Progress | None = None
    ) -> list[ScanScore]:
        """Score prepared scans on their own voxels.

        Parameters
        ----------
        scans : sequence of Scan
            From :func:`lesioncore.restoration.scan.prepare`.
        device : torch.device
            Where slices are scored.
        progress : callable, optional
            Called as ``progress(done, all)``.

        Returns
        -------
        list of ScanScore
            One for each scan.
        """
        scores = self.score_stacks(scans, device=device, progress=progress)
        return [ScanScore(scan.residual(score)) for scan, score in zip(scans, scores, strict=True)]
