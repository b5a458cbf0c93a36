"""One update of a learner outside a training run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lesioncore.training.learner import Batch, Learner, UpdateContext


def one_update(learner: Learner, slices: Tensor, *, step: Sequence[str] = (), seed: int = 0) -> dict[str, Tensor]:
    """Figures of one update in which only the parts named in `step` move."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(len(slices), *shape, generator=generator, dtype=slices.dtype)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(len(slices), *shape, generator=generator, dtype=slices.dtype)

    def minimise(part: str, loss: Tensor) -> None:
        assert loss.dim() == 0
        parameters = list(learner.parts()[part].parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        assert any(g is not None and bool(g.any()) for g in gradients)
        if part in step:
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter -= 0.01 * gradient

    learner.train()
    labels = torch.ones(slices.shape, dtype=torch.uint8)
    return dict(learner.update(Batch(slices, labels), UpdateContext(0, 1.0, normal, uniform, minimise)))


def moved(learner: Learner, before: dict[str, Tensor]) -> set[str]:
    """Names of the parameters that are not what they were, to the bit."""
    return {name for name, value in learner.named_parameters() if not torch.equal(value, before[name])}


def parameters(learner: Learner) -> dict[str, Tensor]:
    """Copies of all parameters."""
    return {name: value.detach().clone() for name, value in learner.named_parameters()}
