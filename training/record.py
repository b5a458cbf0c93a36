"""Records of a run: ``metrics.csv``, TensorBoard events, pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from lesioncore.data.files import replace_atomically

METRICS = "metrics.csv"
_POSITION = ("update", "slices_seen", "learning_rate")


class Recorder:
    """Collects a run's figures and writes them; writes nothing without a directory.

    Training figures in a row of ``metrics.csv`` are means over the updates since the row before. The file is whole at
    any time. A picture goes to ``pictures/`` where matplotlib is installed (extra ``figures``).

    Parameters
    ----------
    directory : path or None
        The run's folder, created when absent.
    tensorboard : bool
        Write TensorBoard events to ``tensorboard/`` as well (extra ``tensorboard``).

    Raises
    ------
    ModuleNotFoundError
        If `tensorboard` is asked for and not installed.
    """

    def __init__(self, directory: Path | None, *, tensorboard: bool = False) -> None:
        self._directory = directory
        self._rows: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._count = 0
        self._board: Any = None
        if directory is None:
            return
        directory.mkdir(parents=True, exist_ok=True)
        if tensorboard:
            if find_spec("tensorboard") is None:
                raise ModuleNotFoundError(
                    "TensorBoard is not installed; pip install 'lesioncore[tensorboard]', or train without it"
                )
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(directory / "tensorboard"))

    def take_up(self, update: int) -> dict[str, float]:
        """Go on after `update`: later rows, of updates that will be done again, are dropped.

        Returns the latest figures that were written.
        """
        if self._directory is None or not (self._directory / METRICS).is_file():
            return {}
        with (self._directory / METRICS).open(newline="") as file:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        self._rows = [row for row in rows if row["update"] <= update]
        latest = {key: value for row in self._rows for key, value in row.items()}
        return {key: value for key, value in latest.items() if key not in _POSITION}

    def add(self, figures: Mapping[str, float]) -> None:
        """Count one update's figures towards the next row."""
        for key, value in figures.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._count += 1

    def row(self, update: int, seen: int, rate: float, validation: Mapping[str, float]) -> None:
        """Write a row; `validation` is empty where there was none."""
        means = {key: value / self._count for key, value in self._sums.items()}
        self._sums, self._count = {}, 0
        if self._directory is None:
            return
        position = dict(zip(_POSITION, (update, seen, rate), strict=True))
        self._rows.append({**position, **means, **validation})
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        with replace_atomically(self._directory / METRICS) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({key: f"{value:.8g}" for key, value in row.items()} for row in self._rows)
        if self._board is not None:
            for key, value in {"learning_rate": rate, **means, **validation}.items():
                self._board.add_scalar(key, value, seen)
            self._board.flush()

    def picture(self, seen: int, rows: Mapping[str, Tensor]) -> None:
        """Write slices as a PNG: one row of the picture for each name, ``[n, 1, H, W]`` z-scores each."""
        if self._directory is None or find_spec("matplotlib") is None:
            return
        from lesioncore.training.pictures import draw

        folder = self._directory / "pictures"
        folder.mkdir(exist_ok=True)
        with replace_atomically(folder / f"{seen:09d}.png") as temporary:
            draw(rows, temporary)
        if self._board is not None:
            for name, slices in rows.items():
                self._board.add_images(name, (slices.clamp(-3.5, 3.5) / 7 + 0.5).cpu(), seen)

    def close(self) -> None:
        """Finish the TensorBoard file."""
        if self._board is not None:
            self._board.close()
