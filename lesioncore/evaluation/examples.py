"""Pictures of single scans, chosen from the worst to the best detected (paper Fig. 5, 6 and 9)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import torch

from lesioncore.detectors import MAPDetector
from lesioncore.evaluation.case import CaseScore
from lesioncore.evaluation.scans import load
from lesioncore.restoration.figure import restoration_figure, save_figure
from lesioncore.restoration.restore import restore
from lesioncore.restoration.search import evenly_spaced
from lesioncore.subjects import Subject

_KINDS = {"slices": (5, False), "neighbours": (9, True)}
"""Pictures of a scan: how many slices they show, and whether these are neighbours."""


def choose_examples(cases: Sequence[CaseScore], limit: float, count: int) -> list[str]:
    """Return the names of `count` scans, evenly spaced by rank from the lowest to the highest Dice at a limit."""
    order = sorted(cases, key=lambda case: case.at_limit[limit].confusion.dice)
    return [case.subject for case in evenly_spaced(order, count)]


def draw_examples(
    detector: MAPDetector,
    subjects: Sequence[Subject],
    folder: Path,
    *,
    voxel_size: float = 1.0,
    device: str | torch.device = "auto",
) -> list[Path]:
    """Restore scans and draw them: slices over the whole brain, and neighbouring ones through the lesion.

    Parameters
    ----------
    detector : MAPDetector
        Its restorations are drawn, with its thresholds and post-processing.
    subjects : sequence of Subject
        Scans with lesion masks.
    folder : Path
        Receives ``<scan>_slices.png`` and ``<scan>_neighbours.png``; those of other scans are removed from it.
    voxel_size : float
        Of simulated subjects, mm.
    device : str or torch.device
        As for :func:`lesioncore.restore`.

    Returns
    -------
    list of Path
        The pictures.

    Raises
    ------
    ValueError
        If a scan has no lesion mask.
    ImportError
        If matplotlib, the extra `figures`, is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prior = copy(detector.prior)  # a shallow copy, which shares the weights
    prior.metadata = detector.metadata  # with the evaluated thresholds, which may differ from the prior's own
    config = replace(detector.config, postprocessing=detector.postprocessing, preprocess=detector.preprocess)
    paths = []
    for subject in subjects:
        loaded = load(subject, voxel_size, ill=True)
        result = restore(
            loaded.volume,
            prior,
            mask=loaded.mask,
            affine=loaded.affine,
            config=config,
            device=device,
        )
        name = re.sub(r"[^\w.+-]+", "_", subject.id)
        for kind, (columns, consecutive) in _KINDS.items():
            path = folder / f"{name}_{kind}.png"
            figure = restoration_figure(
                result, loaded.lesion, slices=columns, consecutive=consecutive, title=subject.id
            )
            save_figure(figure, path)
            paths.append(path)
    for kind in _KINDS:
        for old in set(folder.glob(f"*_{kind}.png")) - set(paths):
            old.unlink()
    return paths
