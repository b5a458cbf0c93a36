"""Pictures of single scans: the worst, the middle and the best detected (paper Fig. 5, 6 and 9)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lesioncore.data.grid import SliceGrid
from lesioncore.detectors import MAPDetector
from lesioncore.evaluation.case import CaseScore
from lesioncore.figure import restoration_figure, save_figure
from lesioncore.restore import restore
from lesioncore.subjects import Subject


def choose_examples(cases: Sequence[CaseScore], limit: float, count: int) -> list[str]:
    """Names of scans evenly spread from the lowest to the highest Dice at a limit."""
    order = sorted(cases, key=lambda case: case.at_limit[limit].confusion.dice)
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [order[place].subject for place in places]


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
        Whose restoration is drawn.
    subjects : sequence of Subject
        The scans.
    folder : Path
        Receives ``<scan>_slices.png`` and ``<scan>_neighbours.png``.
    voxel_size : float
        Of simulated subjects, mm.
    device : str or torch.device
        As for :func:`lesioncore.restore`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for subject in subjects:
        loaded = subject.load(SliceGrid(voxel_size, (200, 200)))
        result = restore(
            loaded.volume,
            detector.prior,
            mask=loaded.mask,
            affine=loaded.affine,
            config=detector.config,
            device=device,
        )
        name = re.sub(r"[^\w.+-]+", "_", subject.id)
        for kind, columns, consecutive in (("slices", 5, False), ("neighbours", 9, True)):
            path = folder / f"{name}_{kind}.png"
            save_figure(restoration_figure(result, loaded.lesion, slices=columns, consecutive=consecutive), path)
            written.append(path)
    return written
