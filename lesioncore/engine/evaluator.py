"""Evaluators of a prior's ELBO and its input gradient for a batch, cached for each prior on CUDA devices."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lesioncore.engine.cuda_graphs import GRAPHS, CudaGraphs
from lesioncore.models.prior import RunsFused, elbo_of_terms
from lesioncore.models.residual import compute_in
from lesioncore.ops.random import normal


class Evaluator:
    """Computes the ELBO (nats) of a batch and its gradient, ``(x, streams) -> ([N], [N, 1, H, W])``.

    With the random streams of the slices (:mod:`lesioncore.ops.random`) it takes a sample of the latents, without them
    their mean.

    Parameters
    ----------
    prior : Prior
        The model. Where it has a method ``for_inference()``, the faster equivalent that this returns is used.
    kl_weight, fix_posterior, dtype
        As for :class:`~lesioncore.engine.gradient.ElboGradient`.
    capture : bool, optional
        Whether to replay CUDA graphs. When absent, they are replayed for priors with a method ``for_inference()`` on
        CUDA devices.
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
            capture = _can_capture(prior)
        self._kl_weight, self._fix_posterior = kl_weight, fix_posterior
        self._graphs = CudaGraphs(self._differentiated) if capture else None

    def __call__(self, x: Tensor, *streams: Tensor) -> tuple[Tensor, ...]:
        function = self._differentiated if self._graphs is None else self._graphs
        return function(x, *streams)

    @property
    def replays(self) -> int:
        """Number of times that a graph has been replayed."""
        return 0 if self._graphs is None else self._graphs.replays

    def release(self) -> None:
        """Free the graphs and their memory."""
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


class _CachedEvaluators:
    """The evaluators of a prior by their options, and the weights that they were made from."""

    def __init__(self, prior: torch.nn.Module) -> None:
        self.kinds, self.bits = _snapshot(prior)
        self.evaluators: dict[Hashable, Evaluator] = {}

    def is_current(self, prior: torch.nn.Module) -> bool:
        """Whether the prior still has these weights, by value: changes through ``.data`` leave no other trace."""
        kinds, bits = _snapshot(prior)
        return kinds == self.kinds and torch.equal(bits, self.bits)


_cache: WeakKeyDictionary[torch.nn.Module, _CachedEvaluators] = WeakKeyDictionary()
_cache_lock = threading.Lock()


def evaluator_for(prior: Any, kl_weight: float, fix_posterior: bool, dtype: torch.dtype) -> Evaluator:
    """Return an evaluator for a prior.

    An evaluator that may hold graphs is cached, and returned again as long as the prior's weights do not change.
    """
    options = (kl_weight, fix_posterior, dtype)
    if not _can_capture(prior):
        return Evaluator(prior, *options)
    with _cache_lock:
        cached = _cache.get(prior)
        if cached is None or not cached.is_current(prior):
            cached = _cache[prior] = _CachedEvaluators(prior)
        if options not in cached.evaluators:
            cached.evaluators[options] = Evaluator(prior, *options)
        return cached.evaluators[options]


def release_graphs() -> None:
    """Free the GPU memory of all CUDA graphs and weights that restorations have cached for the next scan.

    The memory is also freed with the prior. Must not be called while a restoration runs.
    """
    with _cache_lock:
        for cached in _cache.values():
            for evaluator in cached.evaluators.values():
                evaluator.release()
        _cache.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _can_capture(prior: Any) -> bool:
    """Whether the prior has fused blocks and weights on a device whose work can be captured."""
    if not isinstance(prior, RunsFused) or not isinstance(prior, torch.nn.Module):
        return False
    return any(weight.device.type in GRAPHS for weight in _weights(prior))


def _weights(prior: torch.nn.Module) -> list[Tensor]:
    return list(chain(prior.parameters(), prior.buffers()))


def _snapshot(prior: torch.nn.Module) -> tuple[Hashable, Tensor]:
    """Shapes and types of a prior's weights, and their bytes joined in one tensor, which is fast to compare."""
    weights = [weight.detach() for weight in _weights(prior)]
    kinds = tuple((weight.shape, weight.dtype, weight.device) for weight in weights)
    return kinds, torch.cat([weight.flatten().view(torch.uint8) for weight in weights])
