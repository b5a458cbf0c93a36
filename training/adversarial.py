"""Training against a critic (WGAN-GP, Gulrajani et al., arXiv 1704.00028), and of the adversarial autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lesioncore.models.aae import AAE
from lesioncore.training.learner import Batch, Learner, UpdateContext

REFERENCES = 64
"""Fixed draws of ``N(0, I)`` that stand for the latents' distribution in validation figures."""


class AAELearner(Learner):
    """Trains an adversarial autoencoder; with a constraint, as Chen & Konukoglu (arXiv 1806.04972).

    The autoencoder minimises ``|x - x'|^2 / pixels - adversarial_weight * critic(z) + constraint_weight * |z - z'|^2``
    of each slice, where ``z`` is its latent, ``x'`` its reconstruction and ``z'`` the latent of that; ``|.|^2`` is a
    sum. The critic tells draws of ``N(0, I)`` from latents and is trained `critic_steps` times on each batch. The sum
    of squares is divided by the number of pixels so that the weights mean the same at any size of the slices.

    The critic's loss is that of WGAN-GP, as in the paper. Its gradient in ``z`` has a length near 1 however far the
    latents are from the prior, so that one weight serves from the first update to the last, and it does not vanish when
    the critic is ahead. On phantoms of 50 x 50 pixels, 16,000 slices, the held-out squared error and the energy
    distance of held-out latents to ``N(0, I)`` were 1123 and 5.4 without a critic, 1152 and 0.18 with these defaults.
    With one critic step WGAN-GP came to 0.7, a logistic critic with an R1 penalty to 1.7. With three, an optimiser of
    its own for the encoder's adversarial term (Makhzani et al., arXiv 1511.05644, and the code of Chen & Konukoglu)
    gave 1542 and 0.21, one loss with twice the default weight 1228 and 0.18.

    Parameters
    ----------
    model : AAE
        The autoencoder.
    adversarial_weight : float
        Weight of the critic's term.
    constraint_weight : float
        Weight of ``|z - z'|^2``; 0 is the plain adversarial autoencoder. The paper's 0.5 beside the square root of the
        summed squared error is about 0.01 here.
    critic_steps : int
        Updates of the critic for one of the autoencoder; they cost little.
    penalty_weight : float
        Weight of the gradient penalty.
    critic_width : int
        Units in each of the critic's two hidden layers.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    model: AAE
    reference: Tensor

    def __init__(
        self,
        model: AAE,
        *,
        adversarial_weight: float = 0.02,
        constraint_weight: float = 0.0,
        critic_steps: int = 5,
        penalty_weight: float = 10.0,
        critic_width: int = 256,
    ) -> None:
        super().__init__(model)
        check_weights(
            adversarial_weight=adversarial_weight, constraint_weight=constraint_weight, penalty_weight=penalty_weight
        )
        check_counts(critic_steps=critic_steps, critic_width=critic_width)
        self.adversarial_weight, self.constraint_weight = adversarial_weight, constraint_weight
        self.critic_steps, self.penalty_weight = critic_steps, penalty_weight
        self.critic = LatentCritic(model.config.latent_shape, critic_width, model.config.negative_slope)
        self.register_buffer("reference", reference_draws(model.config.latent_shape), persistent=False)

    def parts(self) -> Mapping[str, nn.Module]:
        return {"model": self.model, "critic": self.critic}

    def update(self, batch: Batch, context: UpdateContext) -> Mapping[str, Tensor]:
        model, x = self.model, batch.slices
        z = model.encode(x)
        with full_precision(x):
            for _ in range(self.critic_steps):
                real = context.normal(*model.config.latent_shape)
                gap, penalty = critic_step(self.critic, real, z.detach().to(x), self.penalty_weight, context)
            adversarial = -self.critic(z.to(x))
        reconstruction = model.decode(z)
        error = (reconstruction - x).square().flatten(1).mean(1)
        loss = error + self.adversarial_weight * adversarial
        if self.constraint_weight > 0:
            with fixed_statistics(model.encoder):
                loss = loss + self.constraint_weight * (z - model.encode(reconstruction)).square().flatten(1).sum(1)
        context.minimise("model", loss.mean())
        figures = {"loss": loss, "error": error, "latent_gap": gap, "penalty": penalty}
        return {name: value.detach().mean() for name, value in figures.items()}

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        """``"loss"``: squared error of a slice, summed over its pixels. And how well the latents match ``N(0, I)``.

        ``"latent_square"`` is the mean square of a slice's latent, on average 1 under ``N(0, I)``. ``"latent_gap"`` is
        the critic's mean over fixed draws of ``N(0, I)`` less its value for the slice's latent: averaged over slices,
        the Wasserstein distance of the two distributions as the critic of the moment sees it, about 0 where it cannot
        tell them apart. It is no bound, since the penalty holds the critic's slope near 1 but not below.
        """
        z = self.model.encode(batch.slices)
        error = (self.model.decode(z) - batch.slices).square().flatten(1).sum(1)
        gap = self.critic(self.reference).mean() - self.critic(z)
        return {"loss": error, "latent_square": z.square().flatten(1).mean(1), "latent_gap": gap}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.model.reconstruct(x)

    def sample(self, noise: Callable[..., Tensor]) -> Tensor:
        return self.model.decode(noise(*self.model.config.latent_shape))


class LatentCritic(nn.Module):
    """Fully connected critic of latents: ``[n, *shape]`` to ``[n]``, higher for those that look like ``N(0, I)``."""

    def __init__(self, shape: tuple[int, int, int], width: int, negative_slope: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), width),
            nn.LeakyReLU(negative_slope),
            nn.Linear(width, width),
            nn.LeakyReLU(negative_slope),
            nn.Linear(width, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).flatten()


def critic_step(
    critic: nn.Module, real: Tensor, fake: Tensor, penalty_weight: float, context: UpdateContext
) -> tuple[Tensor, Tensor]:
    """One update of the learner's part ``"critic"``.

    Minimises ``critic(fake) - critic(real) + penalty_weight * penalty``.

    Parameters
    ----------
    critic : nn.Module
        From ``[n, C, H, W]`` to ``[n]``, without batch normalisation.
    real, fake : Tensor
        ``[n, C, H, W]``; no gradient goes into them.

    Returns
    -------
    gap, penalty : Tensor
        ``[n]``: ``critic(real) - critic(fake)``, whose mean estimates the Wasserstein distance, and
        :func:`gradient_penalty`.
    """
    gap = critic(real) - critic(fake)
    penalty = gradient_penalty(critic, real, fake, context.uniform(1, 1, 1))
    context.minimise("critic", (penalty_weight * penalty - gap).mean())
    return gap, penalty


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, place: Tensor) -> Tensor:
    """``(|grad critic(y)| - 1)^2`` of each item, at ``y = place * real + (1 - place) * fake``.

    Parameters
    ----------
    critic : callable
        From ``[n, ...]`` to ``[n]``, each item by itself: batch normalisation would mix the items' gradients.
    real, fake : Tensor
        ``[n, C, H, W]``.
    place : Tensor
        ``[n, 1, 1, 1]`` in [0, 1].

    Returns
    -------
    Tensor
        ``[n]``, differentiable in the critic's parameters.
    """
    between = torch.lerp(fake.detach(), real.detach(), place).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1.0).square()


def full_precision(like: Tensor) -> torch.autocast:
    """Arithmetic in the tensors' own precision whatever the run's: a gradient penalty is a second derivative."""
    return torch.autocast(like.device.type, enabled=False)


@contextmanager
def fixed_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalisations in `module` normalise as before, but leave their running statistics as they are."""
    norms = [child for child in module.modules() if isinstance(child, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def reference_draws(shape: tuple[int, int, int]) -> Tensor:
    """The same draws of ``N(0, I)`` in every run, ``[REFERENCES, *shape]``."""
    return torch.randn(REFERENCES, *shape, generator=torch.Generator().manual_seed(0))


def check_weights(**weights: float) -> None:
    """Raise ``ValueError`` unless each is a finite number >= 0."""
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name}: got {weight}, expected a finite number >= 0")


def check_counts(**counts: int) -> None:
    """Raise ``ValueError`` unless each is at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: got {count}, expected at least 1")
