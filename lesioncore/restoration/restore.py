"""Restoration of scans to their most probable healthy images: ``lesioncore.restore``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lesioncore.engine.progress import ProgressBar
from lesioncore.models import load_prior
from lesioncore.prior_names import AUTO
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.prepare import prepare_all
from lesioncore.restoration.prior_choice import choose_prior
from lesioncore.restoration.remarks import warn_of_slices, warn_unusual
from lesioncore.restoration.result import Restoration
from lesioncore.restoration.run import Run, RunRecord
from lesioncore.restoration.scan import Scan
from lesioncore.restoration.solve import solve_stacks
from lesioncore.restoration.volumes import Volume
from lesioncore.torch_modes import own_modes


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
        From :func:`lesioncore.load_prior`, or any object with ``elbo(x) -> [N]``; or the name of a prior that can be
        loaded. ``"auto"`` is the embedded prior of the scans' contrast (:func:`lesioncore.choose_prior`).
    mask : as `volume`, optional
        Brain masks on the scans' grids; or an installed tool that makes them, ``"hd-bet"``, ``"synthstrip"`` or
        ``"deepbet"`` (:mod:`lesioncore.preprocess.external`). When absent, the brain is extracted where there is a
        skull, else it is all but the constant background.
    affine : ndarray, optional
        4 x 4 voxel-to-world matrix (mm) for arrays and tensors.
    config : RestoreConfig, optional
        Solver and objective.
    device : str or torch.device
        ``"auto"`` takes a CUDA device where there is one, else the CPU. A module prior is moved there.
    progress : bool or callable, optional
        ``True`` shows a bar on a terminal, and a line for each stage elsewhere; a callable is called as
        ``progress(steps_done, steps)``.
    generator : torch.Generator, optional
        Its initial seed is that of the latent samples of ``latent="sample"``. When absent, the seed is 0, so that a run
        is reproducible.

    Returns
    -------
    Restoration or list of Restoration
        The result; a list with one for each scan if `volume` is a list.

    Raises
    ------
    ValueError
        If a scan, a mask or an option cannot be used; the message says what to do.
    TypeError
        If an argument is of a kind not listed.
    """
    with own_modes():
        if isinstance(prior, str):
            prior = load_prior(_chosen(volume, mask, affine) if prior == AUTO else prior)
        run = Run.of(prior, config, device)
        return restore_scans(
            volume, prior, run, mask=mask, affine=affine, progress=progress, generator=generator, stacklevel=3
        )


def restore_scans(
    volume: Volume | Scan | Sequence[Volume | Scan],
    prior: Any,
    run: Run,
    *,
    mask: Volume | Sequence[Volume] | None = None,
    affine: np.ndarray | None = None,
    progress: Callable[[int, int], None] | bool | None = None,
    generator: torch.Generator | None = None,
    stacklevel: int = 2,
) -> Any:
    """Restore scans with the decided options of a run; other arguments and errors as for :func:`restore`.

    Parameters
    ----------
    volume : as for :func:`restore`, or Scan
        Scans; one that is prepared for the run already is taken as it is.
    run : Run
        The run; it must have been made for `prior`.
    stacklevel : int
        Stack level of warnings, as for :func:`warnings.warn`.
    """
    config = run.config
    _ = run.spread_map  # raises before the computation where a map is needed and missing
    run.warn_of_settings(stacklevel=stacklevel)
    what = _called(volume)
    raw = any(not isinstance(one, Scan) for one in (volume if isinstance(volume, (list, tuple)) else [volume]))
    with ProgressBar(progress is True and raw, f"preprocessing {what}") as report:
        scans, several = prepare_all(
            volume,
            run.metadata,
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
    with ProgressBar(progress, f"restoring {what}") as report:
        solutions = solve_stacks(scans, prior, run, seed=seed, progress=report)
    seconds = sum(solution.seconds for solution in solutions) / len(scans)
    record = RunRecord.after(run, backend=solutions[0].backend, seed=seed, seconds=seconds)
    results = []
    for scan, solution in zip(scans, solutions, strict=True):
        holds = run.calibration is None or not warn_of_slices(scan, run.calibration, stacklevel=stacklevel + 1)
        results.append(Restoration(scan, solution, record if holds else record.without_thresholds()))
    for result in results:
        warn_unusual(result.unusual, result.scan, run.metadata, stacklevel=stacklevel + 1)
    return results if several else results[0]


def _called(volume: Any) -> str:
    """What progress calls the scans: a file's name, or how many there are."""
    if isinstance(volume, (list, tuple)):
        return _called(volume[0]) if len(volume) == 1 else f"{len(volume)} scans"
    path = volume.path if isinstance(volume, Scan) else volume
    return Path(path).name if isinstance(path, (str, os.PathLike)) else "a scan"


def _chosen(volume: Any, mask: Any, affine: np.ndarray | None) -> str:
    """Name of the embedded prior of the scans' contrast."""
    volumes = volume if isinstance(volume, (list, tuple)) else [volume]
    masks = mask if isinstance(mask, (list, tuple)) else None if mask is None else [mask]
    return choose_prior(volumes, masks, affine=affine).prior
