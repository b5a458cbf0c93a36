"""``lesioncore.restore``: from scans to their most probable healthy images, and what had to change."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lesioncore import _ops
from lesioncore.batches import computing
from lesioncore.calibration import Calibration
from lesioncore.choice import AUTO, choose_prior
from lesioncore.config import RestoreConfig
from lesioncore.precision import precision_for
from lesioncore.priors import load_prior
from lesioncore.priors.base import PriorMetadata, metadata_of
from lesioncore.result import Restoration, RunRecord
from lesioncore.scan import Scan, Volume, prepare_all
from lesioncore.solve import solve_stacks
from lesioncore.spread_map import SpreadMap


def restore(
    volume: Volume | Sequence[Volume],
    prior: Any = AUTO,
    *,
    mask: Volume | Sequence[Volume] | None = None,
    affine: np.ndarray | None = None,
    config: RestoreConfig | None = None,
    device: str | torch.device = "auto",
    progress: Callable[[int, int], None] | bool | None = None,
    generator: torch.Generator | None = None,
) -> Any:
    """Restore a scan to the most probable healthy image under a prior (Chen et al., MedIA 2020, Eq. 6).

    Maximises ``-tv_weight * TV(X - Y) + ELBO(X)`` over the brain's pixels, slice by slice in the transversal plane.
    Not a medical device.

    Parameters
    ----------
    volume : path, nibabel image, ndarray, Tensor, or a list of them
        Scans, with their skull or without. Images may be stored in any orientation. Arrays and tensors are
        ``[X, Y, Z]`` in RAS+ order at the prior's voxel size unless `affine` is given, or slices ``[N, 1, H, W]`` on
        the prior's grid. The slices of a list share batches; the result of each scan is the same as alone.
    prior : Prior or str
        From :func:`lesioncore.load_prior`, or any object with ``elbo(x) -> [N]``; or the name of one that can be
        loaded. ``"auto"`` is the embedded one of the scans' contrast (:func:`lesioncore.choose_prior`).
    mask : as `volume`, optional
        Brain masks on the scans' grids; or an installed tool that makes them, ``"hd-bet"``, ``"synthstrip"`` or
        ``"deepbet"`` (:mod:`lesioncore.preprocess.external`). When absent, the brain is what the constant background
        leaves, or extracted where there is a skull.
    affine : ndarray, optional
        4 x 4 voxel-to-world matrix (mm) for arrays and tensors.
    config : RestoreConfig, optional
        Solver and objective.
    device : str or torch.device
        ``"auto"`` takes a CUDA device where there is one, else the CPU. A module prior is moved there.
    progress : bool or callable, optional
        ``True`` shows a bar on a terminal; a callable is called as ``progress(steps_done, steps)``.
    generator : torch.Generator, optional
        Seeds the latent samples of ``latent="sample"``; seed 0 when absent, so that a run repeats.

    Returns
    -------
    Restoration or list of Restoration
        One for each scan, a list when a list came in.

    Raises
    ------
    ValueError
        If a scan, a mask or an option cannot be used; the message says what to do.
    TypeError
        If an argument is of a kind not listed.
    """
    if isinstance(prior, str):
        prior = load_prior(_chosen(volume, mask, affine) if prior == AUTO else prior)
    config = (config or RestoreConfig()).for_prior(prior)
    metadata = metadata_of(prior)
    target = resolve_device(device)
    precision = precision_for(config.precision, target, prior)
    tv_weight, smoothing = weight_of(metadata, config), smoothing_of(metadata, config)
    spread_map, calibration = (
        spread_map_of(metadata, config.spread_map),
        holding(metadata, config, tv_weight, smoothing),
    )
    if calibration is None:
        _warn_of_settings(metadata, config, tv_weight, smoothing)
    with progress_bar(progress is True, "preprocessing") as report:
        scans, several = prepare_all(
            volume,
            metadata,
            mask=mask,
            affine=affine,
            normalized=config.normalized,
            steps=config.preprocess,
            progress=report,
        )
    if config.postprocessing.active:
        for scan in scans:
            config.postprocessing.check_size(scan.voxel_size)
    seed = None
    if config.latent == "sample":
        seed = 0 if generator is None else generator.initial_seed()
    with progress_bar(progress, "restoring") as report, computing(target):
        start = time.perf_counter()
        solutions = solve_stacks(scans, prior, config, tv_weight, target, seed=seed, progress=report)
        seconds = time.perf_counter() - start
    record = RunRecord(
        metadata,
        config,
        tv_weight,
        smoothing,
        spread_map,
        calibration,
        str(target),
        solutions[0].backend,
        precision,
        seed,
        seconds / len(scans),
    )
    results = []
    for scan, found in zip(scans, solutions, strict=True):
        holds = calibration is None or not warn_of_slices(scan, calibration, stacklevel=3)
        results.append(Restoration(scan, found, record if holds else replace(record, calibration=None)))
    for result in results:
        warn_unusual(result.remarks, result.scan, metadata, stacklevel=3)
    return results if several else results[0]


def _chosen(volume: Any, mask: Any, affine: np.ndarray | None) -> str:
    """Name of the embedded prior of the scans' contrast."""
    volumes = volume if isinstance(volume, (list, tuple)) else [volume]
    masks = mask if isinstance(mask, (list, tuple)) else None if mask is None else [mask]
    return choose_prior(volumes, masks, affine=affine).prior


def resolve_device(device: str | torch.device) -> torch.device:
    """``"auto"`` or a device name to a device that the native operations can use.

    Raises
    ------
    ValueError
        If a CUDA device is asked for where there is none, or its operations are not loaded.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and _ops.cuda_loaded else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: got {device!r}, expected 'auto', 'cpu' or 'cuda'") from error
    if target.type not in ("cpu", "cuda"):
        raise ValueError(f"device: got {device!r}, expected 'auto', 'cpu' or 'cuda'")
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: got 'cuda', but torch finds no CUDA device; use 'cpu' or 'auto'")
    if target.type == "cuda" and not _ops.cuda_loaded:
        raise ValueError(f"device: got 'cuda', but lesioncore's CUDA operations are not loaded: {_ops.cuda_reason}")
    return target


def warn_unusual(remarks: Sequence[str], scan: Scan, metadata: PriorMetadata, *, stacklevel: int) -> None:
    """Warn that a scan is unlike the healthy ones of the calibration, if there is anything to remark."""
    if remarks:
        warnings.warn(
            f"{'scan' if scan.path is None else scan.path}: {'; '.join(remarks)}. Thresholds may not hold: check"
            f" that it is a {metadata.modality or 'matching'} image, rightly oriented, and look at its brain mask",
            stacklevel=stacklevel,
        )


def warn_of_slices(scan: Scan, calibration: Calibration, *, stacklevel: int) -> bool:
    """Warn, and return True, if a scan is slices without geometry and the thresholds are those of whole volumes."""
    if scan.voxel_size is not None or not calibration.of_volumes:
        return False
    warnings.warn(
        "slices without geometry are restored and scored each for itself, but the thresholds are those of whole volumes"
        " and do not hold for them. Give a volume, or calibrate on such slices",
        stacklevel=stacklevel,
    )
    return True


def weight_of(metadata: PriorMetadata, config: RestoreConfig) -> float:
    """Data-consistency weight of a configuration, the prior's calibrated one where it gives none.

    Raises
    ------
    ValueError
        If there is neither.
    """
    weight = config.tv_weight
    if weight is None and metadata.calibration is not None:
        weight = metadata.calibration.tv_weight
    if weight is None:
        raise ValueError(
            f"tv_weight: prior {metadata.name!r} carries no calibration of restoration; give"
            " RestoreConfig(tv_weight=...) or run lesioncore.calibrate on healthy scans"
        )
    return weight


def smoothing_of(metadata: PriorMetadata, config: RestoreConfig) -> float:
    """Smoothing (mm) of a configuration, the prior's calibrated one where it gives none; 0 without either."""
    if config.smoothing is not None:
        return config.smoothing
    calibration = metadata.calibration
    return 0.0 if calibration is None or calibration.tv_weight is None else calibration.smoothing


def holding(metadata: PriorMetadata, config: RestoreConfig, weight: float, smoothing: float) -> Calibration | None:
    """The prior's calibration if it holds for this configuration."""
    calibration = metadata.calibration
    if calibration is None or calibration.tv_weight is None:
        return None
    return calibration.holding(config.settings(), weight, smoothing)


def spread_map_of(metadata: PriorMetadata, wanted: bool | None) -> SpreadMap | None:
    """The spread map of a model's calibration if it is wanted.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not wanted:
        return None
    found = None if metadata.calibration is None else metadata.calibration.spread_map
    if found is None:
        raise ValueError(
            f"spread_map: {metadata.name!r} carries no map of healthy people's spread; calibrate it on registered"
            " healthy scans with spread_map=True, or leave that out"
        )
    return found


def _warn_of_settings(metadata: PriorMetadata, config: RestoreConfig, weight: float, smoothing: float) -> None:
    """Warn of a calibration that does not hold, if there is one."""
    calibration = metadata.calibration
    if calibration is None or calibration.tv_weight is None:
        return
    calibrated = {
        **_flat(calibration.settings),
        "tv_weight": calibration.tv_weight,
        "smoothing": calibration.smoothing,
    }
    given = {**_flat(config.settings()), "tv_weight": weight, "smoothing": smoothing}
    if given["solver"] != calibrated["solver"]:  # then all else differs too
        given, calibrated = {"solver": given["solver"]}, {"solver": calibrated["solver"]}
    given, calibrated = ({key: repr(value) for key, value in one.items()} for one in (given, calibrated))
    pairs = {key: (given.get(key, "off"), calibrated.get(key, "off")) for key in {**given, **calibrated}}
    other = [f"{key} {mine}, not {its}" for key, (mine, its) in pairs.items() if mine != its]
    warnings.warn(
        f"prior {metadata.name!r} was calibrated with other settings ({'; '.join(other)}): its thresholds do not hold,"
        " so the result has no masks. lesioncore.calibrate makes thresholds for these settings.",
        stacklevel=3,
    )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in one level, the solver's name as ``solver``."""
    solver = dict(settings["solver"])
    return {**settings, "solver": solver.pop("name"), **solver}


class progress_bar:
    """Progress as a callable: a bar on a terminal, the caller's own function, or nothing."""

    def __init__(self, progress: Callable[[int, int], None] | bool | None, what: str) -> None:
        self._progress = progress
        self._what = what
        self._tqdm: Any = None

    def __enter__(self) -> Callable[[int, int], None] | None:
        if callable(self._progress):
            return self._progress
        if not self._progress:
            return None
        return self._advance

    def _advance(self, done: int, steps: int) -> None:
        if self._tqdm is None:  # only now: other threads' loops may have come first
            from tqdm import tqdm

            # disable=None: silent where stderr is not a terminal.
            self._tqdm = tqdm(desc=self._what, unit="step", disable=None, leave=False)
        self._tqdm.total = steps
        self._tqdm.n = done
        self._tqdm.refresh()

    def __exit__(self, *_: object) -> None:
        if self._tqdm is not None:
            self._tqdm.close()
