"""Plans: how a prior's ELBO and its input gradient are computed for a batch; kept with their graphs on CUDA devices."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lesioncore.engine.cuda_graphs import Captured
from lesioncore.models.prior import elbo_of_terms
from lesioncore.models.residual import compute_in
from lesioncore.ops.random import normal


class Plan:
    """Computes the ELBO and its gradient for a batch, ``(x, streams) -> ([N], [N, 1, H, W])``.

    With `streams` (:mod:`lesioncore.ops.random`) for a sample of the latents, without for their mean.

    Parameters
    ----------
    prior : Prior
        The model; one with a method ``folded()`` is asked for its faster equivalent.
    kl_weight, hold_posterior, dtype
        As for :class:`~lesioncore.engine.gradient.ElboGradient`.
    """

    def __init__(self, prior: Any, kl_weight: float, hold_posterior: bool, dtype: torch.dtype) -> None:
        self.fused = hasattr(prior, "folded")
        self._noise_shape: tuple[int, ...] = getattr(prior, "noise_shape", ())
        self._prior = prior.folded() if self.fused else prior
        if dtype != torch.float32:
            compute_in(self._prior, dtype)
        self._kl_weight, self._hold_posterior = kl_weight, hold_posterior
        self._captured = Captured(self._differentiated) if self.fused and _on_cuda(prior) else None

    def __call__(self, x: Tensor, *streams: Tensor) -> tuple[Tensor, ...]:
        function = self._differentiated if self._captured is None else self._captured
        return function(x, *streams)

    @property
    def replays(self) -> int:
        """How often a graph has been replayed."""
        return 0 if self._captured is None else self._captured.replays

    def release(self) -> None:
        """Give the graphs and their memory back."""
        if self._captured is not None:
            self._captured.release()

    def _differentiated(self, x: Tensor, *streams: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_(True)
        noise = [normal(one, self._noise_shape).to(x) for one in streams]
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
        if self._hold_posterior:
            return self._prior.held_elbo(*arguments)
        if self._kl_weight == 1.0:
            return self._prior.elbo(*arguments)
        return elbo_of_terms(self._prior.elbo_terms(*arguments), self._kl_weight)


class _Kept:
    """The plans of one prior, and the weights that they were made from."""

    def __init__(self, prior: torch.nn.Module) -> None:
        self.kinds, self.bits = _written_down(prior)
        self.plans: dict[Hashable, Plan] = {}

    def hold(self, prior: torch.nn.Module) -> bool:
        """Whether the prior still has these weights. Compared by value: not every change leaves a trace elsewhere."""
        kinds, bits = _written_down(prior)
        return kinds == self.kinds and torch.equal(bits, self.bits)


_kept: WeakKeyDictionary[torch.nn.Module, _Kept] = WeakKeyDictionary()
_keeping = threading.Lock()


def plan_for(prior: Any, kl_weight: float, hold_posterior: bool, dtype: torch.dtype) -> Plan:
    """A plan for a prior; one that may hold graphs is the same as long as the prior and its weights are."""
    options = (kl_weight, hold_posterior, dtype)
    if not (hasattr(prior, "folded") and _on_cuda(prior)):
        return Plan(prior, *options)
    with _keeping:
        kept = _kept.get(prior)
        if kept is None or not kept.hold(prior):
            kept = _kept[prior] = _Kept(prior)
        if options not in kept.plans:
            kept.plans[options] = Plan(prior, *options)
        return kept.plans[options]


def release_graphs() -> None:
    """Give back the GPU memory of all CUDA graphs and weights that restorations have kept for the next scan.

    They are also given up with the prior. Must not be called while a restoration runs.
    """
    with _keeping:
        for kept in _kept.values():
            for plan in kept.plans.values():
                plan.release()
        _kept.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _on_cuda(prior: Any) -> bool:
    return isinstance(prior, torch.nn.Module) and any(weight.is_cuda for weight in _weights(prior))


def _weights(prior: torch.nn.Module) -> list[Tensor]:
    return list(chain(prior.parameters(), prior.buffers()))


def _written_down(prior: torch.nn.Module) -> tuple[Hashable, Tensor]:
    """Shapes and types of a prior's weights, and their bits in one piece, which takes few launches."""
    weights = [weight.detach() for weight in _weights(prior)]
    kinds = tuple((weight.shape, weight.dtype, weight.device) for weight in weights)
    return kinds, torch.cat([weight.flatten().view(torch.uint8) for weight in weights])
