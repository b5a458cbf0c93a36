"""Learners, which define one update of a model's training; the run around it is the same for every model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Slices of one update, or this process's share of them.

    Attributes
    ----------
    slices : Tensor
        ``[n, 1, H, W]`` float32 z-scores.
    labels : Tensor
        ``[n, 1, H, W]`` uint8: 0 background, 1 healthy brain, 2 lesion.
    """

    slices: Tensor
    labels: Tensor


@dataclass(frozen=True)
class UpdateContext:
    """Tools that the run gives a learner for one update.

    Attributes
    ----------
    index : int
        Number of the update, from 0.
    warmup : float
        Rises from just above 0 to 1 over the run's warm-up; weight of KL terms.
    normal : callable
        ``normal(*shape)``: standard normal ``[n, *shape]`` on the batch's device. What a slice gets depends on the
        seed, the update and its place in the whole batch alone, never on how many processes share the batch.
    uniform : callable
        ``uniform(*shape)``: the same in [0, 1).
    minimise : callable
        ``minimise(part, loss)``: one optimiser step of the parameters of ``learner.parts()[part]``, and of no others,
        down the gradient of `loss`, a scalar that is a mean over this process's slices. Averages over the processes,
        clips, applies the learning-rate schedule, raises ``FloatingPointError`` when the loss is not finite.
    """

    index: int
    warmup: float
    normal: Callable[..., Tensor]
    uniform: Callable[..., Tensor]
    minimise: Callable[[str, Tensor], None]


class Learner(nn.Module, ABC):
    """A model together with how it is trained.

    Parameters
    ----------
    model : nn.Module
        What is saved at the end of the run. Networks that only training needs are further submodules of the learner.

    Attributes
    ----------
    keep : {"best", "last"}
        Whether the weights with the lowest validation loss are kept, or the last.
    betas : tuple of float
        Decay rates of Adam's two moments.
    """

    keep: ClassVar[Literal["best", "last"]] = "best"
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def parts(self) -> Mapping[str, nn.Module]:
        """Groups of parameters, each with an optimiser of its own."""
        return {"model": self.model}

    @abstractmethod
    def update(self, batch: Batch, context: UpdateContext) -> Mapping[str, Tensor]:
        """Train on one batch (training mode), through ``context.minimise``.

        Returns
        -------
        mapping of str to Tensor
            Figures for metrics.csv: detached scalars, means over this process's slices. The same keys at each update.
        """

    @abstractmethod
    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        """Figures of each slice of a held-out batch (evaluation mode, no gradients), the same whatever its batch.

        Returns
        -------
        mapping of str to Tensor
            ``[n]`` each; ``"loss"`` is among them (lower is better) and decides which weights are kept.
        """

    def reconstruct(self, x: Tensor) -> Tensor | None:
        """Reconstruct slices, ``[n, 1, H, W]``, for pictures; None where a model does not."""
        return None

    def sample(self, noise: Callable[..., Tensor]) -> Tensor | None:
        """Draw slices from the model, for pictures; `noise` as ``UpdateContext.normal``; None where it cannot."""
        return None
