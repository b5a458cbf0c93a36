"""A CUDA graph imitated on the CPU: a function's operations recorded once and run again on the same tensors."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READ = torch.ops.aten._local_scalar_dense


class Recorder(TorchDispatchMode):
    """Records all operations; one that hands a value to the host is an error, as it is in a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function.overloadpacket is _READ:
            raise RuntimeError("a value is read in a capture")
        results = function(*arguments, **(options or {}))
        self.calls.append((function, arguments, options or {}, results))
        return results


class Tape:
    """Stands in for ``lesioncore.engine.cuda_graphs.CapturedGraph``: a replay repeats the recorded operations."""

    made = 0

    def __init__(self, function, device) -> None:
        type(self).made += 1
        with Recorder() as recorder:
            self.results = function()
        self._calls = recorder.calls

    @torch.no_grad()
    def replay(self) -> None:
        for function, arguments, options, results in self._calls:
            for kept, computed in zip(tree_leaves(results), tree_leaves(function(*arguments, **options)), strict=True):
                if isinstance(kept, torch.Tensor) and kept.data_ptr() != computed.data_ptr():
                    kept.copy_(computed)
