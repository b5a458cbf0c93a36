"""The result of a restoration, and its files."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import voxel_sizes

from lesioncore.about import NOTE
from lesioncore.calibration.record import Calibration
from lesioncore.metrics.limits import LIMIT_KEYS, LIMITS
from lesioncore.preprocess.pipeline import voxel_ml
from lesioncore.restoration.prior_choice import doubt
from lesioncore.restoration.run import RunRecord
from lesioncore.restoration.saving import saving
from lesioncore.restoration.scan import Scan
from lesioncore.scoring.deviation import Deviation, deviation, score_of
from lesioncore.solvers import Solution


class Restoration:
    """A restored scan, with images on the grid, affine and storage order of its input.

    Images are of the input's kind: nibabel images for paths and images, arrays or tensors for arrays and tensors.

    Attributes
    ----------
    restored
        The most probable healthy image, in the input's units and range, with its bias field. It is the input outside
        the brain and where nothing changed. Elsewhere it is as coarse as the prior's grid, with the input's own finer
        detail; where the change is large, such as in a lesion, only with as much of it as is usual in this brain.
    residual
        Signed ``D = Y - X``, z-scores of the prior's intensity scale; 0 outside the brain.
    score
        The detection map: ``|D|``, with ``D`` smoothed in three dimensions and divided by healthy spread
        (:func:`lesioncore.scoring.deviation.deviation`) if the configuration or the calibration says so; ``D`` or
        ``-D`` where only bright or only dark lesions are sought (:class:`lesioncore.RestoreConfig`).
    spread : float
        Spread of the smoothed residual over the brain, z-scores.
    brain_mask
        The brain mask that was given or derived.
    objective : list of float
        Mean of the objective over the slices with brain, in nats, at the observation and after each step.
    remarks : list of str
        What is implausible about the scan (:func:`lesioncore.restoration.plausibility.doubts`), and `unusual`; a phrase
        for each.
    unusual : list of str
        Differences of the scan from the prior's contrast or from the calibration's healthy scans.
    solution : Solution
        Restored slices on the prior's grid, and the objective of each problem.
    scan : Scan
        The prepared scan.
    record : RunRecord
        The options of the run, and its backend, seed and time.
    """

    def __init__(self, scan: Scan, solution: Solution, record: RunRecord) -> None:
        self.scan = scan
        self.solution = solution
        self.record = record
        self._masks: dict[float, np.ndarray] = {}  # cleaned masks by threshold, since cleaning is slow
        slices = max(1, int(scan.brain_rows.sum()))
        self.objective = (solution.objective.double().sum(1) / slices).tolist()

    def __repr__(self) -> str:
        source = type(self.scan.source).__name__ if self.scan.path is None else self.scan.path.name
        shape = " x ".join(map(str, self.scan.brain().shape))
        thresholds = "calibrated" if self.record.calibration else "no thresholds"
        prior, precision = self.record.metadata.name, self.record.precision
        return f"Restoration({source}, {shape}, prior {prior!r}, {precision}, {thresholds})"

    @property
    def slice_residual(self) -> torch.Tensor:
        """``D = Y - X`` on the prior's grid, ``[N, 1, H, W]`` z-scores."""
        return self.scan.slices - self.solution.restored

    @cached_property
    def _residual(self) -> np.ndarray:
        return self.scan.residual(self.slice_residual)

    @cached_property
    def _deviation(self) -> Deviation:
        return deviation(self.slice_residual, self.scan, self.record.scoring, self.record.spread_map)

    @property
    def spread(self) -> float:
        return self._deviation.spread

    @cached_property
    def _score(self) -> np.ndarray:
        return score_of(self.scan.residual(self._deviation.values), self.record.scoring.sign)

    @cached_property
    def _restored(self) -> np.ndarray:
        return self.scan.restored(self.slice_residual, self.spread)

    @cached_property
    def restored(self) -> Any:
        return self.scan.like_input(self._restored)

    @cached_property
    def residual(self) -> Any:
        return self.scan.like_input(self._residual)

    @cached_property
    def score(self) -> Any:
        return self.scan.like_input(self._score)

    @cached_property
    def brain_mask(self) -> Any:
        return self.scan.like_input(self.scan.brain())

    def mask(self, fpr: float = 0.05, *, risk: float | None = None) -> Any:
        """Detected lesion at a false-positive-rate limit, by the prior's calibrated threshold (paper section 2.2.3).

        The mask is cleaned if the configuration says so (:class:`lesioncore.PostProcessing`).

        Parameters
        ----------
        fpr : float
            Largest fraction of the calibration's healthy brain pixels that may lie above the threshold.
        risk : float, optional
            Bound each person's rate instead of the pooled one: that of a new healthy person exceeds `fpr` with at most
            this probability (:meth:`lesioncore.calibration.healthy.HealthyScores.threshold`).

        Raises
        ------
        ValueError
            If the prior has no calibration that holds for this run and this kind of input, `fpr` or `risk` is out of
            range, or the calibration has too few people for `risk`.
        """
        return self.scan.like_input(self._mask(self._calibration().threshold(fpr, risk)))

    def _mask(self, threshold: float) -> np.ndarray:
        postprocessing = self.record.config.postprocessing
        if not postprocessing.active:
            return self._score > threshold
        if threshold not in self._masks:
            size = None if self.scan.affine is None else voxel_sizes(self.scan.affine)
            self._masks[threshold] = postprocessing.clean(self._score > threshold, self.scan.brain(), size)
        return self._masks[threshold].copy()

    @cached_property
    def remarks(self) -> list[str]:
        return [*self.scan.remarks, *self.unusual]

    @cached_property
    def unusual(self) -> list[str]:
        mismatch = doubt(self.scan, self.record.metadata.modality)
        remarks = [] if mismatch is None else [mismatch]
        if self.record.calibration is None:
            return remarks
        scores = self._score[self.scan.brain()]
        return remarks + self.record.calibration.unusual(scores, self.scan.bend, self.scan.extent, self.spread)

    def rank(self) -> Any:
        """Fraction of the calibration's healthy brain pixels that score lower, in [0, 1], for each voxel.

        Raises
        ------
        ValueError
            If the prior has no calibration that holds for this run and this kind of input.
        """
        return self.scan.like_input(self._calibration().rank(self._score))

    def _calibration(self) -> Calibration:
        record = self.record
        if record.calibration is None:
            calibration = record.metadata.calibration
            weight, smoothing = record.tv_weight, record.scoring.smoothing
            if calibration is not None and calibration.for_settings(record.config.settings(), weight, smoothing):
                raise ValueError(
                    f"calibration: the thresholds of prior {record.metadata.name!r} are those of whole volumes and do"
                    " not hold for slices without geometry; give restore a volume, or run lesioncore.calibrate on such"
                    " slices"
                )
            raise ValueError(
                f"calibration: prior {record.metadata.name!r} has no calibration for these settings; use the calibrated"
                " ones or run lesioncore.calibrate on healthy scans"
            )
        return record.calibration

    @cached_property
    def volumes(self) -> dict[str, Any]:
        """Volumes in ml (JSON-able): ``BrainMillilitres`` of the brain, ``DetectedMillilitres`` at each limit.

        None stands for what has no geometry, and for detections without thresholds that hold.
        """
        if self.scan.affine is None:
            return {"BrainMillilitres": None, "DetectedMillilitres": None}
        voxel = voxel_ml(self.scan.affine)
        detected, calibration = None, self.record.calibration
        if calibration is not None:
            masks = {f"{limit:g}": self._mask(calibration.threshold(limit)) for limit in LIMITS}
            detected = {limit: round(int(np.count_nonzero(mask)) * voxel, 3) for limit, mask in masks.items()}
        brain = round(int(np.count_nonzero(self.scan.brain())) * voxel, 3)
        return {"BrainMillilitres": brain, "DetectedMillilitres": detected}

    def sidecar(self) -> dict[str, Any]:
        """Description of the result and of how it was computed (JSON-able)."""
        from lesioncore import __version__

        record = self.record
        return {
            "GeneratedBy": {"Name": "lesioncore", "Version": __version__, "torch": torch.__version__},
            **self.scan.sources,
            **record.decided(record.seed),
            "Contrast": record.metadata.modality,
            **self.volumes,
            "Remarks": self.remarks,
            "Preprocessing": [asdict(step) for step in self.scan.steps],
            "ToTemplate": None if self.scan.to_template is None else self.scan.to_template.round(6).tolist(),
            "ResidualSpread": round(self.spread, 6),
            "Device": str(record.device),
            "Backend": record.backend,
            "Seconds": round(record.seconds, 3),
            "Objective": [round(value, 3) for value in self.objective],
            "Units": {
                "residual": "z-score of the prior's intensity scale",
                "ResidualSpread": "z-score",
                "score": "times its spread over the brain" if record.scoring.standardize else "z-score",
                "restored": "as the input",
                "BrainMillilitres": "ml",
                "DetectedMillilitres": "ml",
                "Smoothing": "mm",
                "ToTemplate": "world mm of the input to MNI mm (ICBM152 nonlinear symmetric 2009a)",
                "PostProcessing": "mm; min_volume mm^3",
            },
            "Note": NOTE,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The images that :meth:`save` writes, by its keys, on the input's grid and in its storage order."""
        arrays = {"restored": self._restored, "residual": self._residual, "score": self._score}
        arrays["brain"] = self.scan.brain()
        if (calibration := self.record.calibration) is not None:
            arrays["probability"] = calibration.rank(self._score)
            arrays |= {key: self._mask(calibration.threshold(limit)) for key, limit in LIMIT_KEYS.items()}
        return arrays

    def save(
        self, directory: str | os.PathLike[str], *, name: str | None = None, figure: bool = False
    ) -> dict[str, Path]:
        """Write NIfTI files and a JSON sidecar; names follow BIDS derivatives.

        Parameters
        ----------
        directory : path
            Folder, which is created where it is missing. The files appear in it together, the sidecar last, which has
            their sizes and hashes. They replace all files of an earlier restoration of these names, its report too.
        name : str, optional
            Base name such as ``sub-01_T2w``; when absent, that of the input file.
        figure : bool
            Draw a figure, too (:func:`lesioncore.restoration.figure.restoration_figure`).

        Returns
        -------
        dict
            Paths of the written files by name: ``restored``, ``residual``, ``score``, ``brain``, ``sidecar``; with a
            calibration also ``probability``, ``fpr01``, ``fpr05``, ``fpr10``, and with `figure` also ``figure``.

        Raises
        ------
        ValueError
            If the input was slices, which have no geometry to save, or no `name` can be derived.
        ImportError
            If `figure` is set and matplotlib, the extra `figures`, is missing.
        """
        with saving(self, directory, name=name, figure=figure) as saved:
            pass
        return saved.files
