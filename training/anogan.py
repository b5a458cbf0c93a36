"""Training of AnoGAN (Schlegl et al., IPMI 2017) and f-AnoGAN (Schlegl et al., MedIA 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lesioncore.models.anogan import AnoGAN, LatentSearch
from lesioncore.training.adversarial import check_counts, check_weights, critic_step, full_precision, reference_draws
from lesioncore.training.learner import Batch, Learner, UpdateContext

SHORT_SEARCH = LatentSearch(steps=50, step_size=0.1)
"""For pictures: rough, and ten times faster than the detector's."""


class AnoGANLearner(Learner):
    """Trains an AnoGAN's generator and critic, and the encoder that makes it an f-AnoGAN where the model has one.

    In each update the critic takes `critic_steps` steps and the generator one, down the losses of WGAN-GP. f-AnoGAN
    was published with it; the first AnoGAN with the loss of DCGAN, which is harder to keep in balance, so that both are
    trained alike here. On phantoms of 50 x 50 pixels one critic step let the generator collapse (a tenth of the real
    slices' deviation), three did not. Momentum harms: with Adam's usual 0.9 the critic's distance on held-out slices
    was 65 after 1000 updates, without it 38. Both at a learning rate of 3e-4; 1e-3 with momentum was unstable.

    The encoder takes one step in each update, too, against the generator and the critic as they are then: it minimises
    ``|x - x'|^2 / pixels + feature_weight * |f(x) - f(x')|^2 / |f(x)|^2`` with ``x' = G(E(x))`` (``izi_f`` of the
    paper). The paper trains it when the generator is finished; here it has the whole run, and since the learning rate
    falls to 0 for both, it ends with the generator that it was trained for. The paper divides the feature term by the
    number of features; those of a critic without batch normalisation can have any size (mean squares of 30 to 3000
    were seen), which would set the term's weight, so that it is taken relative to their own.

    The last weights are kept: figures of different moments of such a run do not say which generator is the best.

    Parameters
    ----------
    model : AnoGAN
        Generator, critic and, for f-AnoGAN, encoder.
    critic_steps : int
        Updates of the critic for one of the generator.
    penalty_weight : float
        Weight of the gradient penalty.
    feature_weight : float
        Weight of the encoder's feature term (the paper's kappa).

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    keep = "last"
    betas = (0.0, 0.9)
    model: AnoGAN
    reference: Tensor

    def __init__(
        self, model: AnoGAN, *, critic_steps: int = 3, penalty_weight: float = 10.0, feature_weight: float = 1.0
    ) -> None:
        super().__init__(model)
        check_weights(penalty_weight=penalty_weight, feature_weight=feature_weight)
        check_counts(critic_steps=critic_steps)
        self.critic_steps, self.penalty_weight, self.feature_weight = critic_steps, penalty_weight, feature_weight
        self.register_buffer("reference", reference_draws(model.config.latent_shape), persistent=False)

    def parts(self) -> Mapping[str, nn.Module]:
        parts: dict[str, nn.Module] = {"generator": self.model.generator, "critic": self.model.critic}
        return parts if self.model.encoder is None else {**parts, "encoder": self.model.encoder}

    def update(self, batch: Batch, context: UpdateContext) -> Mapping[str, Tensor]:
        model, real, shape = self.model, batch.slices, self.model.config.latent_shape
        with full_precision(real):
            for _ in range(self.critic_steps):
                with torch.no_grad():
                    fake = model.generator(context.normal(*shape))
                gap, penalty = critic_step(model.critic, real, fake, self.penalty_weight, context)
            context.minimise("generator", -model.critic(model.generator(context.normal(*shape))).mean())
        figures = {"gap": gap, "penalty": penalty}
        if model.encoder is not None:
            figures |= self._encoder_step(model.encoder, real, context)
        return {name: value.detach().mean() for name, value in figures.items()}

    def _encoder_step(self, encoder: nn.Module, real: Tensor, context: UpdateContext) -> dict[str, Tensor]:
        model = self.model
        # Evaluation mode as in detection: latents of real slices stay out of the generator's running statistics.
        model.generator.eval()
        generated = model.generator(encoder(real))
        model.generator.train()
        with torch.no_grad():
            target = model.critic.features(real)
        error = (real - generated).square().flatten(1).mean(1)
        feature_error = (target - model.critic.features(generated)).square().flatten(1).sum(1)
        feature_error = feature_error / target.square().flatten(1).sum(1)
        context.minimise("encoder", (error + self.feature_weight * feature_error).mean())
        return {"error": error, "feature_error": feature_error}

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        """``"gap"``: the critic's value for a slice less its mean over slices generated from fixed latents.

        Averaged over slices, that is the critic's estimate of the distance between real and generated slices (Arjovsky
        et al., arXiv 1701.07875), from slices that it was not trained on. ``"loss"`` is the squared error of the
        encoder's reconstruction, summed over pixels, or the gap where there is no encoder.
        """
        model, x = self.model, batch.slices
        gap = model.critic(x) - model.critic(model.generator(self.reference)).mean()
        if model.encoder is None:
            return {"loss": gap, "gap": gap}
        return {"loss": (x - model.reconstruct(x)).square().flatten(1).sum(1), "gap": gap}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.model.reconstruct(x, search=SHORT_SEARCH)

    def sample(self, noise: Callable[..., Tensor]) -> Tensor:
        return self.model.generator(noise(*self.model.config.latent_shape))
