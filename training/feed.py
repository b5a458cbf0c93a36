"""Training slices, read ahead of the updates that need them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from lesioncore.restoration.scan import BACKGROUND
from lesioncore.training.distributed import ProcessGroup
from lesioncore.training.draws import order
from lesioncore.training.learner import Batch


class SliceSource(Protocol):
    """Anything that holds slices by number: tensors in memory, or rows of a :class:`SliceCache`."""

    def __len__(self) -> int:
        """Number of slices."""
        ...

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Slices ``[n, 1, H, W]`` float32 and labels ``[n, 1, H, W]`` uint8 (0 background, 1 brain, 2 lesion)."""
        ...

    def key(self) -> str:
        """Hash of the content: a run is taken up with the data it was started with."""
        ...


class TensorSlices:
    """Slices in memory.

    Parameters
    ----------
    slices : Tensor
        ``[N, 1, H, W]`` z-scores.
    labels : Tensor, optional
        ``[N, 1, H, W]`` uint8; brain wherever a slice is not -3.5 when absent.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit.
    """

    def __init__(self, slices: Tensor, labels: Tensor | None = None) -> None:
        if slices.dim() != 4 or slices.shape[1] != 1 or not slices.is_floating_point():
            raise ValueError(f"slices: got {tuple(slices.shape)} {slices.dtype}, expected floating point [N, 1, H, W]")
        if labels is None:
            labels = (slices != BACKGROUND).to(torch.uint8)
        if labels.shape != slices.shape or labels.dtype != torch.uint8:
            raise ValueError(
                f"labels: got {tuple(labels.shape)} {labels.dtype}, expected uint8 of the slices' shape"
                f" {tuple(slices.shape)}"
            )
        self._slices, self._labels = slices.float(), labels

    def __len__(self) -> int:
        return len(self._slices)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self._slices[rows], self._labels[rows]

    def key(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self._slices, self._labels):
            digest.update(repr(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


class Feed:
    """Batches of a run in their order, read by a thread while the device computes.

    Attributes
    ----------
    waited : float
        Seconds that the run spent waiting for data.
    """

    def __init__(self, source: SliceSource, *, batch_size: int, seed: int, group: ProcessGroup, ahead: int = 3) -> None:
        self._source, self._batch_size, self._seed, self._group, self._ahead = source, batch_size, seed, group, ahead
        self.waited = 0.0

    def batches(self, first: int, last: int) -> Generator[Batch, None, None]:
        """This process's part of the batches of updates `first` to `last` - 1."""
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as reader:
            queue: list[Future[Batch]] = []
            try:
                for update in range(first, last + self._ahead):
                    if update < last:
                        queue.append(reader.submit(self._read, update))
                    if update - first < self._ahead:
                        continue
                    start = time.perf_counter()
                    batch = queue.pop(0).result()
                    self.waited += time.perf_counter() - start
                    device = self._group.device
                    yield Batch(batch.slices.to(device, non_blocking=True), batch.labels.to(device, non_blocking=True))
            finally:
                for future in queue:
                    future.cancel()

    def _read(self, update: int) -> Batch:
        rows = order(len(self._source), self._batch_size, self._seed, update)
        slices, labels = self._source.batch(rows[self._group.share(len(rows))])
        if self._group.device.type == "cuda":
            slices, labels = slices.pin_memory(), labels.pin_memory()
        return Batch(slices, labels)
