"""How a prior is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingConfig:
    """Options of :func:`lesioncore.training.fit`.

    Parameters
    ----------
    slices_seen : int
        Length of the run: slices drawn in all, each epoch in a new order.
    batch_size : int
        Slices in one update. Small ones pay where time is short: they make more updates of the same slices.
    learning_rate : float
        Adam's peak learning rate; it rises linearly over `warmup` and falls to 0 along a cosine.
    warmup : float
        Share of the run in which the learning rate and the KL term's weight rise to their full values.
    flip : bool
        Mirror each slice left to right with probability 1/2.
    seed : int
        Of the initial weights, the order, the mirroring and the latent samples.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    slices_seen: int = 28_000
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup: float = 0.05
    flip: bool = True
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
