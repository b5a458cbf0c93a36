"""Training options that all models share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lesioncore.choices import check_seed
from lesioncore.training.augment import Augmentation


@dataclass(frozen=True)
class TrainingConfig:
    """Options of :func:`lesioncore.training.fit`.

    Parameters
    ----------
    slices_seen : int
        Length of the run: slices drawn in all, each epoch in a new order.
    batch_size : int
        Slices in one update, over all processes together. Small ones pay where time is short: they make more updates of
        the same slices.
    learning_rate : float
        Adam's peak learning rate; it rises linearly over `warmup`.
    schedule : {"cosine", "constant"}
        How the learning rate goes on from its peak: to 0 along a cosine, or not at all.
    warmup : float
        Share of the run in which the learning rate and the KL terms' weight rise to their full values.
    gradient_clip : float
        Largest norm of an update's gradient; 0 for no limit.
    validate_every : int
        Slices seen between validations; 0 validates at the end alone.
    patience : int
        Stop after so many validations without a better loss; 0 never stops early.
    checkpoint_every : int
        Slices seen between checkpoints, from which a killed run goes on; there is always one at the end.
    precision : {"auto", "float32", "bfloat16"}
        Of the networks' arithmetic; weights and losses stay float32. ``"auto"`` is bfloat16 on a CUDA device with such
        instructions, else float32.
    channels_last : bool
        Memory format of the networks; 1.6 times faster on CPUs, and what tensor cores want.
    augmentation : Augmentation
        Random changes of the training slices.
    tensorboard : bool
        Write TensorBoard events beside ``metrics.csv`` (extra ``tensorboard``).
    seed : int
        Of the initial weights, the order, the augmentation and the latent samples.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    slices_seen: int = 28_000
    batch_size: int = 8
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    gradient_clip: float = 1.0
    validate_every: int = 4_000
    patience: int = 0
    checkpoint_every: int = 4_000
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.slices_seen < 1 or self.batch_size < 2:
            raise ValueError(
                f"slices_seen, batch_size: got {self.slices_seen}, {self.batch_size}, expected >= 1 and >= 2"
                " (batch normalisation needs two slices)"
            )
        if not self.learning_rate > 0 or not 0 <= self.warmup <= 1:
            raise ValueError(
                f"learning_rate, warmup: got {self.learning_rate}, {self.warmup}, expected > 0 and in [0, 1]"
            )
        if not self.gradient_clip >= 0:
            raise ValueError(f"gradient_clip: got {self.gradient_clip}, expected a number >= 0")
        for name in ("validate_every", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a number >= 0")
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every: got {self.checkpoint_every}, expected at least 1")
        check_seed(self.seed)

    @property
    def updates(self) -> int:
        """Updates in the whole run."""
        return -(-self.slices_seen // self.batch_size)
