"""Independence of results from the modes that a caller has set in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def own_modes() -> Iterator[None]:
    """Compute as if the caller had set no mode: no inference mode, no autocast, tensors on the CPU where none is named.

    Inference mode cannot give the gradients that restoration follows, and autocast would round what scores are made of.
    A context for a ``with`` statement, or a decorator of a function: ``@own_modes()``.
    """
    with ExitStack() as modes:
        if torch.is_inference_mode_enabled():
            modes.enter_context(torch.inference_mode(False))
            modes.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                modes.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        yield
