"""Training of the priors: maximise the ELBO (method: paper section 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lesioncore.models.latent import LatentModel
from lesioncore.models.prior import elbo_of_terms
from lesioncore.training.corruption import Corruption, corrupt
from lesioncore.training.learner import Batch, Learner, UpdateContext


class ElboLearner(Learner):
    """Trains a VAE or a GMVAE on its evidence lower bound.

    ``loss = -log P(X|z) + kl_weight * warmup * (KL terms)``, a sum over pixels and latents of each slice, averaged over
    slices and divided by the pixels of a slice, which only gives the gradient's clipping a meaning at any size.

    Parameters
    ----------
    model : LatentModel
        The prior.
    kl_weight : float
        Weight of the KL terms in the loss (beta); 1 is the ELBO itself.
    k_floor : float
        Free bits of the GMVAE's term ``KL(P(k|z,w) || P(k))``, nats per slice: below it the term is not pushed down
        further. 0 is the ELBO itself.
    corruption : Corruption, optional
        Noise that the encoder has to see through; none when absent.

    Raises
    ------
    ValueError
        If a number is negative.
    """

    model: LatentModel

    def __init__(
        self,
        model: LatentModel,
        *,
        kl_weight: float = 1.0,
        k_floor: float = 0.0,
        corruption: Corruption | None = None,
    ) -> None:
        super().__init__(model)
        if not kl_weight >= 0 or not k_floor >= 0:
            raise ValueError(f"kl_weight, k_floor: got {kl_weight}, {k_floor}, expected numbers >= 0")
        self.kl_weight, self.k_floor = kl_weight, k_floor
        self.corruption = corruption or Corruption()

    def update(self, batch: Batch, context: UpdateContext) -> Mapping[str, Tensor]:
        model = self.model
        noise = context.normal(*model.noise_shape)
        encoded = corrupt(batch.slices, batch.labels, self.corruption, context.uniform, context.normal)
        terms = model.elbo_terms(batch.slices, noise, learned_variance=model.config.learned_variance, encoded=encoded)
        log_likelihood = terms.pop("log_likelihood")
        cost = sum(
            (term.clamp_min(self.k_floor) if name == "kl_k" else term for name, term in terms.items()),
            torch.zeros_like(log_likelihood),
        )
        loss = (self.kl_weight * context.warmup * cost - log_likelihood).mean() / batch.slices[0].numel()
        context.minimise("model", loss)
        terms = {"log_likelihood": log_likelihood, **terms}
        figures = {"elbo": elbo_of_terms(terms), **terms}
        return {name: value.detach().mean() for name, value in figures.items()}

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        """ELBO at the mean of the latents, with the variance 1/2 of restoration; ``"loss"`` is its negative."""
        terms = self.model.elbo_terms(batch.slices)
        elbo = elbo_of_terms(terms)
        brain = (batch.labels > 0).float()
        error = (self.model.reconstruct(batch.slices) - batch.slices).square() * brain
        rms = (error.flatten(1).sum(1) / brain.flatten(1).sum(1).clamp_min(1)).sqrt()
        return {"loss": -elbo, "elbo": elbo, "brain_rms_error": rms, **terms}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.model.reconstruct(x)

    def sample(self, noise: Callable[..., Tensor]) -> Tensor:
        return self.model.sample(noise(*self.model.noise_shape))
