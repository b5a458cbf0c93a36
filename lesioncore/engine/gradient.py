"""Value and input gradient of a prior's ELBO over a stack of slices, in batches that do not change the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lesioncore.engine.batches import batch_size_for, check_batch_size, in_batches
from lesioncore.engine.evaluator import evaluator_for
from lesioncore.models.prior import FixesPosterior, SamplesLatents, WeighsCosts, require
from lesioncore.ops.random import streams_of


class ElboGradient:
    """Computes ``ELBO(X)`` (nats) and ``dELBO/dX`` for a stack of slices, a batch at a time.

    Parameters
    ----------
    prior : Prior
        The model. An ``nn.Module`` is put into evaluation mode, so that batch statistics never enter. Where the prior
        has a method ``for_inference()``, the faster equivalent that this returns is used.
    batch_size : int, optional
        Slices in one forward and backward pass, which bounds the memory and does not change the mathematics. When
        absent, it suits the device. It is halved, and stays so, where the device runs out of memory.
    noise_seeds : sequence of int, optional
        One seed for each slice: each call draws a new reparameterised sample of the latents from the slice's own
        stream. When absent, the latents' mean is taken.
    kl_weight : float
        Weight of the ELBO's costs, as for :func:`~lesioncore.models.prior.elbo_of_terms`; 1 is the ELBO.
    fix_posterior : bool
        Take the gradient with the latents' posterior held fixed, from the prior's ``fixed_posterior_elbo``; `kl_weight`
        has no effect then.
    dtype : torch.dtype
        Type that the network computes in; sums over pixels and latents keep the input's type.

    Raises
    ------
    ValueError
        If `batch_size` is not positive, `noise_seeds` is given for a prior that cannot sample, or another `kl_weight`
        than 1 for a prior without ``elbo_terms``; if `fix_posterior` is set for a prior without
        ``fixed_posterior_elbo``, or another `dtype` than float32 for a prior without fused blocks.
    """

    def __init__(
        self,
        prior: Any,
        *,
        batch_size: int | None = None,
        noise_seeds: Sequence[int] | None = None,
        kl_weight: float = 1.0,
        fix_posterior: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if noise_seeds is not None:
            require(prior, SamplesLatents, "latent: got 'sample'", "'mean'")
        if kl_weight != 1.0:
            require(prior, WeighsCosts, f"kl_weight: got {kl_weight}", "1")
        if fix_posterior:
            require(prior, FixesPosterior, "solver: got 'em'", "'prox'")
        if isinstance(prior, torch.nn.Module):
            prior.eval()
        self._evaluator = evaluator_for(prior, kl_weight, fix_posterior, dtype)
        self._earlier_replays = self._evaluator.replays
        self.batch_size = check_batch_size(batch_size)
        self._streams = None if noise_seeds is None else streams_of(noise_seeds)

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the ELBO and its gradient.

        Parameters
        ----------
        x : Tensor
            ``[N, 1, H, W]`` z-scores.
        rows : Tensor of int, optional
            ``[N]`` indices of these slices in the whole stack, where some are left out; only their noise streams
            advance.

        Returns
        -------
        elbo : Tensor
            ``[N]`` nats, in the dtype of `x`.
        gradient : Tensor
            ``[N, 1, H, W]`` nats per z-score, contiguous.

        Raises
        ------
        ValueError
            If the prior does not return one ELBO for each slice.
        """
        elbo = x.new_empty(len(x))
        gradient = torch.empty_like(x, memory_format=torch.contiguous_format)
        inputs = (x,) if self._streams is None else (x, self._next_streams(rows, x.device))

        def run(batch: slice) -> None:
            elbo[batch], gradient[batch] = self._evaluator(*(tensor[batch] for tensor in inputs))

        self.batch_size = in_batches(run, len(x), self.batch_size or batch_size_for(x, x.device))
        return elbo, gradient

    @property
    def backend(self) -> str:
        """How the gradient was computed: by ``"fused"`` blocks, by ``"captured"`` ones where they were replayed as a
        CUDA graph, or by ``"autograd"`` alone for a prior without ``for_inference()``.
        """
        if not self._evaluator.fused:
            return "autograd"
        return "captured" if self._evaluator.replays > self._earlier_replays else "fused"

    def _next_streams(self, rows: Tensor | None, device: torch.device) -> Tensor:
        """Return the slices' streams for this call and advance them.

        A sample depends on the slice and the number of its calls, never on the batch.
        """
        assert self._streams is not None
        self._streams = self._streams.to(device)
        streams = (self._streams if rows is None else self._streams[rows]).clone()
        self._streams[slice(None) if rows is None else rows, 1] += 1
        return streams
