"""Evaluators of a prior's ELBO and its input gradient for a batch, cached per prior on CUDA devices."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lesioncore.engine.cuda_graphs import CudaGraphs
from lesioncore.models.prior import RunsFused, elbo_of_terms
from lesioncore.models.residual import compute_in
from lesioncore.ops.random import normal


class Evaluator:
    """Computes the ELBO and its gradient for a batch, ``(x, streams) -> ([N], [N, 1, H, W])``.

    With `streams` (:mod:`lesioncore.ops.random`) for a sample of the latents, without for their mean.

    Parameters
    ----------
    prior : Prior
        The model; one with a method ``for_inference()`` is asked for its faster equivalent.
    kl_weight, fix_posterior, dtype
        As for :class:`~lesioncore.engine.gradient.ElboGradient`.
    capture : bool, optional
        Replay CUDA graphs; when absent, on CUDA devices where the prior is a fused one.
    """

    def __init__(
        self,
        prior: Any,
        kl_weight: float = 1.0,
        fix_posterior: bool = False,
        dtype: torch.dtype = torch.float32,
        *,
        capture: bool | None = None,
    ) -> None:
        self.fused = isinstance(prior, RunsFused)
        self._noise_shape: tuple[int, ...] = getattr(prior, "noise_shape", ())
        self._prior = prior.for_inference() if self.fused else prior
        if dtype != torch.float32:
            compute_in(self._prior, dtype)
        if capture is None:
            capture = self.fused and _on_cuda(prior)
        self._kl_weight, self._fix_posterior = kl_weight, fix_posterior
        self._graphs = CudaGraphs(self._differentiated) if capture else None

    def __call__(self, x: Tensor, *streams: Tensor) -> tuple[Tensor, ...]:
        function = self._differentiated if self._graphs is None else self._graphs
        return function(x, *streams)

    @property
    def replays(self) -> int:
        """How often a graph has been replayed."""
        return 0 if self._graphs is None else self._graphs.replays

    def release(self) -> None:
        """Give the graphs and their memory back."""
        if self._graphs is not None:
            self._graphs.release()

    def _differentiated(self, x: Tensor, *streams: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_(True)
        noise = [normal(stream, self._noise_shape).to(x) for stream in streams]
        with torch.enable_grad():
            value = self._value(leaf, *noise)
            if value.shape != (len(leaf),):
                raise ValueError(
                    f"prior.elbo: returned shape {tuple(value.shape)} for {len(leaf)} slices, expected"
                    f" [{len(leaf)}]: one sum over pixels and latents per slice, in nats"
                )
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    def _value(self, *arguments: Tensor) -> Tensor:
        if self._fix_posterior:
            return self._prior.fixed_posterior_elbo(*arguments)
        if self._kl_weight == 1.0:
            return self._prior.elbo(*arguments)
        return elbo_of_terms(self._prior.elbo_terms(*arguments), self._kl_weight)


class _Kept:
    """The evaluators of one prior, and the weights that they were made from."""

    def __init__(self, prior: torch.nn.Module) -> None:
        self.kinds, self.bits = _snapshot(prior)
        self.evaluators: dict[Hashable, Evaluator] = {}

    def is_current(self, prior: torch.nn.Module) -> bool:
        """Whether the prior still has these weights. Compared by value: not every change leaves a trace elsewhere."""
        kinds, bits = _snapshot(prior)
        return kinds == self.kinds and torch.equal(bits, self.bits)


_kept: WeakKeyDictionary[torch.nn.Module, _Kept] = WeakKeyDictionary()
_keeping = threading.Lock()


def evaluator_for(prior: Any, kl_weight: float, fix_posterior: bool, dtype: torch.dtype) -> Evaluator:
    """An evaluator for a prior; one that may hold graphs is the same as long as the prior and its weights are."""
    options = (kl_weight, fix_posterior, dtype)
    can_capture = isinstance(prior, RunsFused) and _on_cuda(prior)
    if not can_capture:
        return Evaluator(prior, *options)
    with _keeping:
        kept = _kept.get(prior)
        if kept is None or not kept.is_current(prior):
            kept = _kept[prior] = _Kept(prior)
        if options not in kept.evaluators:
            kept.evaluators[options] = Evaluator(prior, *options)
        return kept.evaluators[options]


def release_graphs() -> None:
    """Give back the GPU memory of all CUDA graphs and weights that restorations have kept for the next scan.

    They are also given up with the prior. Must not be called while a restoration runs.
    """
    with _keeping:
        for kept in _kept.values():
            for evaluator in kept.evaluators.values():
                evaluator.release()
        _kept.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _on_cuda(prior: Any) -> bool:
    return isinstance(prior, torch.nn.Module) and any(weight.is_cuda for weight in _weights(prior))


def _weights(prior: torch.nn.Module) -> list[Tensor]:
    return list(chain(prior.parameters(), prior.buffers()))


def _snapshot(prior: torch.nn.Module) -> tuple[Hashable, Tensor]:
    """Shapes and types of a prior's weights, and their bits in one piece, which takes few launches."""
    weights = [weight.detach() for weight in _weights(prior)]
    kinds = tuple((weight.shape, weight.dtype, weight.device) for weight in weights)
    return kinds, torch.cat([weight.flatten().view(torch.uint8) for weight in weights])
