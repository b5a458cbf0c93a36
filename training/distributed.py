"""One training run shared by several processes, each with an equal part of every batch (``torchrun``)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among those that train together; a group of one by default."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` items; the same number for each process where `count` divides."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over the processes, in one message.

        Done by hand and not by ``DistributedDataParallel``, whose hooks on ``forward`` do not fit learners that call
        several methods of several networks in one update.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sum each value over the processes, in float64."""
        if self.size == 1 or not values:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def synchronise(self, module: nn.Module) -> nn.Module:
        """Give `module` batch normalisation over the whole batch instead of each process's part."""
        if self.size == 1:
            return module
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(module)
        for child in module.modules():
            if type(child) is nn.BatchNorm2d:
                child.__class__ = _SyncBatchNorm2d
        return module


class _SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over all processes on CPUs, where torch has none."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        pixels = x.new_tensor(float(x.numel() // x.shape[1]))
        dist.all_reduce(pixels)
        mean = all_reduce(x.sum((0, 2, 3))) / pixels
        centred = x - mean.view(1, -1, 1, 1)
        variance = all_reduce(centred.square().sum((0, 2, 3))) / pixels
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * pixels / (pixels - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


@contextmanager
def process_group(device: str | torch.device = "auto") -> Iterator[ProcessGroup]:
    """Join the processes that ``torchrun`` started; alone where there are none.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes a CUDA device where there is one, else the CPU. Each process of a machine takes a CUDA device
        of its own.
    """
    from lesioncore.engine.device import resolve_device

    size = int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ and "WORLD_SIZE" in os.environ else 1
    target = resolve_device(device)
    if size == 1:
        yield ProcessGroup(target)
        return
    if target.type == "cuda":
        target = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(target)
    # The others wait while the first process prepares and calibrates, which may take hours.
    dist.init_process_group("nccl" if target.type == "cuda" else "gloo", timeout=timedelta(days=2))
    try:
        yield ProcessGroup(target, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
