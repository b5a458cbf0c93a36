"""Random numbers of a run: each follows from seed, purpose and update, so that a run can be taken up again."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from lesioncore.training.distributed import ProcessGroup


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A stream of its own for each seed, purpose and index."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


class Draws:
    """Random tensors of one update, drawn for the whole batch so that each process takes its part of the same."""

    def __init__(self, seed: int, purpose: str, index: int, count: int, group: ProcessGroup) -> None:
        self._stream = generator(seed, purpose, index)
        self._count, self._group = count, group

    def normal(self, *shape: int) -> Tensor:
        """Standard normal ``[n, *shape]``."""
        return self._share(torch.randn(self._count, *shape, generator=self._stream))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), ``[n, *shape]``."""
        return self._share(torch.rand(self._count, *shape, generator=self._stream))

    def _share(self, whole: Tensor) -> Tensor:
        return whole[self._group.share(self._count)].to(self._group.device)


def order(count: int, batch_size: int, seed: int, update: int) -> Tensor:
    """Items of an update: each epoch in an order of its own, its last incomplete batch left out."""
    epoch, position = divmod(update, count // batch_size)
    return _epoch(count, seed, epoch)[position * batch_size :][:batch_size]


@lru_cache(maxsize=2)
def _epoch(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator(seed, "order", epoch))
