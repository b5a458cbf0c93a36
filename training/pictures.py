"""Pictures of slices, which show what a model has learnt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

LIMIT = 3.5
"""Z-score that is drawn white; its negative is black."""


def draw(rows: Mapping[str, Tensor], path: Path) -> None:
    """Write a grid of slices as PNG.

    Parameters
    ----------
    rows : mapping of str to Tensor
        ``[n, 1, H, W]`` z-scores for each row of the picture, named at its left; nose up.
    path : path
        The file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(slices) for slices in rows.values())
    # A slice's first axis runs from left to right, its second from back to front.
    pictures = [slices[:, 0].float().cpu().transpose(1, 2).flip(1) for slices in rows.values()]
    height, width = pictures[0].shape[1:]
    mosaic = torch.full((len(rows) * height, columns * width), -LIMIT)
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            mosaic[i * height : (i + 1) * height, j * width : (j + 1) * width] = picture
    figure = Figure(figsize=(mosaic.shape[1] / 100 + 0.3, mosaic.shape[0] / 100), facecolor="black")
    FigureCanvasAgg(figure)
    left = 0.3 / figure.get_figwidth()
    axes = figure.add_axes((left, 0.0, 1 - left, 1.0))
    axes.imshow(mosaic.numpy(), cmap="gray", vmin=-LIMIT, vmax=LIMIT, interpolation="nearest")
    axes.axis("off")
    for i, name in enumerate(rows):
        y = 1 - (i + 0.5) / len(rows)
        figure.text(left / 2, y, name, color="white", size=7, rotation=90, ha="center", va="center")
    figure.savefig(path, dpi=100, facecolor="black")
