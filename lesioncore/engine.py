"""Value and input gradient of a prior's ELBO over a stack of slices, in batches that do not change the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lesioncore.batches import batch_size_for, check_batch_size, in_batches
from lesioncore.priors.base import elbo_of_terms


def backend_of(prior: Any) -> str:
    """What computes a prior's gradient: ``"fused"`` blocks, or ``"autograd"`` for a prior without ``folded()``."""
    return "fused" if hasattr(prior, "folded") else "autograd"


class ElboGradient:
    """Computes ``ELBO(X)`` and ``dELBO/dX`` for a stack of slices, a batch at a time.

    Parameters
    ----------
    prior : Prior
        The model; an ``nn.Module`` is put into evaluation mode, so that batch statistics never enter. One with a method
        ``folded()`` is asked for its faster equivalent first.
    batch_size : int, optional
        Slices in one forward and backward pass; bounds the memory, never changes the mathematics. What suits the device
        when absent. Halved for good where the device runs out of memory.
    noise_seeds : sequence of int, optional
        One for each slice: each call draws a fresh reparameterised latent sample from that slice's own stream. The
        latent mean when absent.
    kl_weight : float
        Weight of the ELBO's costs, as for :func:`~lesioncore.priors.base.elbo_of_terms`; 1 is the ELBO.
    hold_posterior : bool
        Take the gradient with the latents' posterior held, from the prior's ``held_elbo``; no `kl_weight` then.

    Raises
    ------
    ValueError
        If `batch_size` is not positive, `noise_seeds` is given for a prior that cannot sample, or another `kl_weight`
        than 1 for a prior without ``elbo_terms``; or if `hold_posterior` is set for a prior without ``held_elbo``.
    """

    def __init__(
        self,
        prior: Any,
        *,
        batch_size: int | None = None,
        noise_seeds: Sequence[int] | None = None,
        kl_weight: float = 1.0,
        hold_posterior: bool = False,
    ) -> None:
        if noise_seeds is not None and not hasattr(prior, "noise_shape"):
            raise ValueError(
                f"latent: got 'sample', but {type(prior).__name__} has no noise_shape and cannot sample; use 'mean'"
            )
        if kl_weight != 1.0 and not hasattr(prior, "elbo_terms"):
            raise ValueError(
                f"kl_weight: got {kl_weight}, but {type(prior).__name__} has no elbo_terms to weigh; use 1"
            )
        if hold_posterior and not hasattr(prior, "held_elbo"):
            raise ValueError(
                f"solver: got 'em', but {type(prior).__name__} has no held_elbo and so no posterior to hold; use 'prox'"
            )
        if isinstance(prior, torch.nn.Module):
            prior.eval()
        self.prior = prior.folded() if hasattr(prior, "folded") else prior
        self.batch_size = check_batch_size(batch_size)
        self.kl_weight = kl_weight
        self.hold_posterior = hold_posterior
        # Streams are drawn on the CPU so that CPU and GPU runs see the same samples.
        self._streams = None if noise_seeds is None else [torch.Generator().manual_seed(s) for s in noise_seeds]

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ELBO and its gradient.

        Parameters
        ----------
        x : Tensor
            ``[N, 1, H, W]`` z-scores.
        rows : Tensor of int, optional
            Which slices of the whole stack these are, where some are left out; only their noise streams advance.

        Returns
        -------
        elbo : Tensor
            ``[N]`` nats, in the dtype of `x`.
        gradient : Tensor
            ``[N, 1, H, W]``, contiguous.

        Raises
        ------
        ValueError
            If the prior does not return one ELBO per slice.
        """
        elbo = x.new_empty(len(x))
        gradient = torch.empty_like(x, memory_format=torch.contiguous_format)
        noise = None if self._streams is None else self._noise(rows)

        def run(batch: slice) -> None:
            leaf = x[batch].detach().requires_grad_(True)
            with torch.enable_grad():
                value = self._value(leaf) if noise is None else self._value(leaf, noise[batch].to(leaf))
                if value.shape != (len(leaf),):
                    raise ValueError(
                        f"prior.elbo: returned shape {tuple(value.shape)} for {len(leaf)} slices, expected"
                        f" [{len(leaf)}]: one sum over pixels and latents per slice, in nats"
                    )
                (gradient[batch],) = torch.autograd.grad(value.sum(), leaf)
            elbo[batch] = value.detach()

        self.batch_size = in_batches(run, len(x), self.batch_size or batch_size_for(x, x.device))
        return elbo, gradient

    def _value(self, *arguments: Tensor) -> Tensor:
        if self.hold_posterior:
            return self.prior.held_elbo(*arguments)
        if self.kl_weight == 1.0:
            return self.prior.elbo(*arguments)
        return elbo_of_terms(self.prior.elbo_terms(*arguments), self.kl_weight)

    def _noise(self, rows: Tensor | None) -> Tensor:
        """Standard normal noise whose values depend on the slice and its number of calls, never on the batch."""
        assert self._streams is not None
        streams = self._streams if rows is None else [self._streams[row] for row in rows.tolist()]
        return torch.stack([torch.randn(self.prior.noise_shape, generator=stream) for stream in streams])
