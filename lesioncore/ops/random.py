"""Random numbers that are a function of their stream and their place in it alone, drawn where they are needed.

A stream is a row of an int64 tensor ``[N, 2]`` on the device: its seed, and how often it was drawn from. CUDA graphs
read it when they are replayed, and nothing waits for the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lesioncore.ops.library import register_fakes

register_fakes(["normal"])


def streams_of(seeds: Sequence[int]) -> Tensor:
    """Streams ``[N, 2]`` from any integers as seeds, of which 64 bits count; not drawn from yet."""
    wrapped = [((seed + 2**63) % 2**64) - 2**63 for seed in seeds]
    return torch.tensor([wrapped, [0] * len(wrapped)], dtype=torch.int64).T.contiguous()


def normal(streams: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers ``[N, *shape]``, float32, of streams ``[N, 2]``; the streams are left as they are.

    The same on CPUs and CUDA devices to within a rounding.

    Raises
    ------
    RuntimeError
        If `streams` has another shape, type or layout.

    Notes
    -----
    Philox4x32-10 (Salmon et al., SC 2011, doi:10.1145/2063384.2063405) keyed by the seed, its counter the place in the
    slice and the call; Box and Muller's transform (1958).
    """
    out = torch.empty((len(streams), *shape), dtype=torch.float32, device=streams.device)
    torch.ops.lesioncore.normal(streams, out)
    return out
