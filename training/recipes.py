"""Training recipes: a model's shape with its objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from lesioncore.calibration.record import Calibration
from lesioncore.command_options import Flat
from lesioncore.data.stack import SliceStack
from lesioncore.detectors import AnoGANDetector, Detector, ProjectionDetector, UNetDetector
from lesioncore.models import (
    AAE,
    GMVAE,
    VAE,
    AAEConfig,
    AnoGAN,
    AnoGANConfig,
    GMVAEConfig,
    MultiscaleVAE,
    MultiscaleVAEConfig,
    UNet,
    UNetConfig,
    VAEConfig,
)
from lesioncore.models.networks import NetworkConfig
from lesioncore.restoration.calibrate import calibrate
from lesioncore.training.adversarial import AAELearner
from lesioncore.training.anogan import AnoGANLearner
from lesioncore.training.config import TrainingConfig
from lesioncore.training.corruption import Corruption
from lesioncore.training.draws import generator
from lesioncore.training.elbo import ElboLearner
from lesioncore.training.learner import Learner
from lesioncore.training.supervised import SupervisedLearner


@dataclass(frozen=True)
class Recipe(ABC):
    """A model's shape and how it is trained; subclasses add the objective's options.

    Attributes
    ----------
    needs_lesions : bool
        Whether training needs scans with lesion masks.
    training : TrainingConfig
        Length, learning rate and the rest that suit the objective.
    """

    needs_lesions: ClassVar[bool] = False
    training: ClassVar[TrainingConfig] = TrainingConfig()
    model: NetworkConfig

    @abstractmethod
    def learner(self) -> Learner:
        """A learner with fresh weights."""

    def build(self, seed: int) -> Learner:
        """A learner whose initial weights follow from `seed`; the caller's random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(seed, "weights").initial_seed())
            return self.learner()

    @abstractmethod
    def calibrate(
        self, model: Any, healthy: Sequence[SliceStack], device: torch.device, progress: Callable[[int, int], None]
    ) -> Calibration:
        """Thresholds on healthy scans, and the data-consistency weight where the method has one."""


@dataclass(frozen=True)
class _PriorRecipe(Recipe):
    """A prior for MAP restoration."""

    def calibrate(
        self, model: Any, healthy: Sequence[SliceStack], device: torch.device, progress: Callable[[int, int], None]
    ) -> Calibration:
        return calibrate(model, healthy, device=device, progress=progress)


@dataclass(frozen=True)
class _DetectorRecipe(Recipe):
    """A model that detects in a way of its own."""

    @abstractmethod
    def detector(self, model: Any) -> Detector:
        """Make the detector of a model."""

    def calibrate(
        self, model: Any, healthy: Sequence[SliceStack], device: torch.device, progress: Callable[[int, int], None]
    ) -> Calibration:
        return self.detector(model).thresholds(healthy, device=device, progress=progress)


@dataclass(frozen=True)
class VAERecipe(_PriorRecipe):
    """Train a variational autoencoder, a prior for MAP restoration.

    Parameters
    ----------
    model : VAEConfig
        Shape of the networks.
    kl_weight : float
        Weight of the KL term in the loss; 1 is the ELBO.
    corruption : Corruption
        Noise that the encoder has to see through.
    """

    model: Flat[VAEConfig] = field(default_factory=VAEConfig)
    kl_weight: float = 1.0
    corruption: Corruption = field(default_factory=Corruption)

    def learner(self) -> Learner:
        return ElboLearner(VAE(self.model), kl_weight=self.kl_weight, corruption=self.corruption)


@dataclass(frozen=True)
class MultiscaleVAERecipe(VAERecipe):
    """Train a VAE with latents at every size of its feature maps, a prior for MAP restoration.

    Parameters
    ----------
    model : MultiscaleVAEConfig
        Shape of the networks.
    kl_weight : float
        Weight of the KL term in the loss; 1 is the ELBO.
    corruption : Corruption
        Noise that the encoder has to see through, without which the fine latents would reproduce lesions.
    """

    model: Flat[MultiscaleVAEConfig] = field(default_factory=MultiscaleVAEConfig)
    corruption: Corruption = field(default_factory=lambda: Corruption(strength=2.0, spacing=18.0))

    def learner(self) -> Learner:
        return ElboLearner(MultiscaleVAE(self.model), kl_weight=self.kl_weight, corruption=self.corruption)


@dataclass(frozen=True)
class GMVAERecipe(_PriorRecipe):
    """Train a Gaussian-mixture variational autoencoder, a prior for MAP restoration.

    Parameters
    ----------
    model : GMVAEConfig
        Shape of the networks.
    kl_weight : float
        Weight of the KL terms in the loss; 1 is the ELBO.
    k_floor : float
        Free bits of the mixture component's KL term, nats per slice; 0 is the ELBO.
    corruption : Corruption
        Noise that the encoder has to see through.
    """

    model: Flat[GMVAEConfig] = field(default_factory=GMVAEConfig)
    kl_weight: float = 1.0
    k_floor: float = 0.0
    corruption: Corruption = field(default_factory=Corruption)

    def learner(self) -> Learner:
        return ElboLearner(
            GMVAE(self.model), kl_weight=self.kl_weight, k_floor=self.k_floor, corruption=self.corruption
        )


@dataclass(frozen=True)
class AAERecipe(_DetectorRecipe):
    """Train an adversarial autoencoder, which detects by projection.

    Parameters
    ----------
    model : AAEConfig
        Shape of the networks.
    adversarial_weight : float
        Weight of the critic's judgement of the latents.
    constraint_weight : float
        Weight of the distance between the latents of a slice and of its reconstruction (constrained AAE); 0 leaves it
        out.
    critic_steps : int
        Updates of the critic in each update of the autoencoder.
    """

    model: Flat[AAEConfig] = field(default_factory=AAEConfig)
    adversarial_weight: float = 0.02
    constraint_weight: float = 0.0
    critic_steps: int = 5

    def learner(self) -> Learner:
        return AAELearner(
            AAE(self.model),
            adversarial_weight=self.adversarial_weight,
            constraint_weight=self.constraint_weight,
            critic_steps=self.critic_steps,
        )

    def detector(self, model: Any) -> Detector:
        return ProjectionDetector(model)


@dataclass(frozen=True)
class AnoGANRecipe(_DetectorRecipe):
    """Train an AnoGAN, or with ``--encoder`` an f-AnoGAN, which detects by projection.

    Parameters
    ----------
    model : AnoGANConfig
        Shape of the networks, and whether there is an encoder.
    critic_steps : int
        Updates of the critic for one of the generator.
    penalty_weight : float
        Weight of the gradient penalty.
    feature_weight : float
        Weight of the encoder's feature term, for f-AnoGAN.
    """

    training: ClassVar[TrainingConfig] = TrainingConfig(learning_rate=3e-4)
    model: Flat[AnoGANConfig] = field(default_factory=AnoGANConfig)
    critic_steps: int = 3
    penalty_weight: float = 10.0
    feature_weight: float = 1.0

    def learner(self) -> Learner:
        return AnoGANLearner(
            AnoGAN(self.model),
            critic_steps=self.critic_steps,
            penalty_weight=self.penalty_weight,
            feature_weight=self.feature_weight,
        )

    def detector(self, model: Any) -> Detector:
        return AnoGANDetector(model)


@dataclass(frozen=True)
class UNetRecipe(_DetectorRecipe):
    """Train a supervised U-Net on scans with lesion masks.

    Parameters
    ----------
    model : UNetConfig
        Shape of the networks.
    positive_weight : float
        Weight of a lesion pixel in the cross-entropy.
    """

    needs_lesions: ClassVar[bool] = True
    model: Flat[UNetConfig] = field(default_factory=UNetConfig)
    positive_weight: float = 1.0

    def learner(self) -> Learner:
        return SupervisedLearner(UNet(self.model), positive_weight=self.positive_weight)

    def detector(self, model: Any) -> Detector:
        return UNetDetector(model)
